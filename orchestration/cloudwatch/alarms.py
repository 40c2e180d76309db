"""The alarms of CloudWatch, kept the same as the rules: one per rule, one per model's heartbeat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from orchestration.cloudwatch.gauges import (
    EVALUATIONS_COMPLETED,
    RULE_BREACHED,
    Model,
    Rule,
    heartbeat_dimensions,
    rule_dimensions,
)
from orchestration.cloudwatch.metric_data import Dimensions

MAX_NAME = 255
MAX_DESCRIPTION = 1_024
_MAX_DELETED_AT_ONCE = 100
# The quota of PutMetricAlarm and of DeleteAlarms is 3 a second, and others may use it too.
SECONDS_BETWEEN_CALLS = 0.5


@dataclass(frozen=True)
class AlarmSpec:
    """An alarm on one metric, by its maximum in one period.

    `period_seconds` is a multiple of 60, `actions` are ARNs of SNS topics, told of both ALARM and
    OK. `treat_missing` is what a period without data counts as: notBreaching or breaching.
    """

    name: str
    description: str
    namespace: str
    metric_name: str
    dimensions: Dimensions
    comparison: str
    treat_missing: str
    period_seconds: int
    actions: tuple[str, ...]

    def as_request(self) -> dict[str, Any]:
        """Give the arguments of PutMetricAlarm."""
        return {
            "AlarmName": self.name,
            "AlarmDescription": self.description,
            "ActionsEnabled": True,
            "AlarmActions": list(self.actions),
            "OKActions": list(self.actions),
            "InsufficientDataActions": [],
            "Namespace": self.namespace,
            "MetricName": self.metric_name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in self.dimensions],
            "Statistic": "Maximum",
            "Period": self.period_seconds,
            "EvaluationPeriods": 1,
            "DatapointsToAlarm": 1,
            "Threshold": 1.0,
            "ComparisonOperator": self.comparison,
            "TreatMissingData": self.treat_missing,
        }

    def is_same_as(self, described: Mapping[str, Any]) -> bool:
        """Whether an alarm that DescribeAlarms gave is this one, in everything that is ours."""
        return all(
            _in_order(described.get(name)) == _in_order(value)
            for name, value in self.as_request().items()
        )


def _in_order(value: object) -> object:
    # The service need not keep the order of actions and dimensions, nor give empty lists.
    if isinstance(value, list):
        return sorted(map(str, value)) or None
    return value


def alarm_name(prefix: str, *parts: str) -> str:
    """Give a name under `prefix`, of at most 255 characters, that no other parts have.

    Slashes, percent signs and what is not ASCII are percent-encoded; a long name ends in a hash.
    """
    safe = " !$&'()*+,;=:@"
    name = prefix + "/".join(quote(part, safe=safe) for part in parts)
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: MAX_NAME - len(digest) - 1]}-{digest}"


def rule_alarm_name(prefix: str, rule: Rule) -> str:
    """Give the name of a rule's alarm."""
    return alarm_name(prefix, "rule", rule.model_name, rule.name)


def alarms_of(
    models: Iterable[Model],
    rules: Iterable[Rule],
    *,
    prefix: str,
    namespace: str,
    period_seconds: int,
    actions: tuple[str, ...],
) -> tuple[AlarmSpec, ...]:
    """Give the alarms there should be: of every rule that rings, and of every model's heartbeat.

    How many windows must breach is decided in fct_breaches, so that a weekly value that is sent
    hourly does not count many times, and metrics that are bad when low need nothing of their own.
    """
    by_name = {model.name: model for model in models}
    specs = [
        AlarmSpec(
            name=rule_alarm_name(prefix, rule),
            description=_description(
                f"Breached: {rule.in_words}. Severity {rule.severity}, rule {rule.name}.",
                by_name.get(rule.model_name),
            ),
            namespace=namespace,
            metric_name=RULE_BREACHED,
            dimensions=rule_dimensions(rule),
            comparison="GreaterThanOrEqualToThreshold",
            treat_missing="notBreaching",
            period_seconds=period_seconds,
            actions=actions,
        )
        for rule in rules
        if rule.rings
    ]
    specs += [
        AlarmSpec(
            name=alarm_name(prefix, "heartbeat", model.name),
            description=_description(
                f"No evaluation of {model.name} was published for {_duration(period_seconds)}: "
                "dbt or driftline publish does not run.",
                model,
            ),
            namespace=namespace,
            metric_name=EVALUATIONS_COMPLETED,
            dimensions=heartbeat_dimensions(model),
            comparison="LessThanThreshold",
            treat_missing="breaching",
            period_seconds=period_seconds,
            actions=actions,
        )
        for model in by_name.values()
    ]
    return tuple(specs)


def _duration(seconds: int) -> str:
    return f"{seconds / 3600:g} hours" if seconds >= 3600 else f"{seconds // 60} minutes"


def _description(what: str, model: Model | None) -> str:
    lines = [what]
    if model is not None and model.owner:
        lines.append(f"Owner: {model.owner}.")
    if model is not None and model.runbook_url:
        lines.append(f"Runbook: {model.runbook_url}")
    return " ".join(lines)[:MAX_DESCRIPTION]


class AlarmClient(Protocol):
    """The part of boto3's CloudWatch client that keeps alarms."""

    def get_paginator(self, operation_name: Any, /) -> Any:
        """Give the paginator of describe_alarms."""

    def put_metric_alarm(self, **arguments: Any) -> Any:
        """Create or replace an alarm; its state stays."""

    def delete_alarms(self, **arguments: Any) -> Any:
        """Delete alarms by name."""


class Pace:
    """Keeps calls at least half a second apart."""

    def __init__(self, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self._clock = clock
        self._pause = pause
        self._earliest: float | None = None

    def wait(self) -> None:
        """Wait until the next call may be made."""
        if self._earliest is not None:
            remaining = self._earliest - self._clock()
            if remaining > 0:
                self._pause(remaining)
        self._earliest = self._clock() + SECONDS_BETWEEN_CALLS


@dataclass(frozen=True)
class AlarmChanges:
    """What became of the alarms, by name; `problems` says what was refused, and why."""

    put: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def synchronise_alarms(
    client: AlarmClient,
    wanted: Iterable[AlarmSpec],
    *,
    prefix: str,
    pace: Pace,
    kept: Collection[str] = (),
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> AlarmChanges:
    """Make the alarms under `prefix` those `wanted`, with as few calls as that takes.

    Alarms in `kept` are neither put nor deleted, and no name outside `prefix` is ever touched.
    What CloudWatch refuses is a problem in the result, and tried again by the next run.
    """
    try:
        pages = client.get_paginator("describe_alarms").paginate(
            AlarmNamePrefix=prefix, AlarmTypes=["MetricAlarm"]
        )
        existing = {
            alarm["AlarmName"]: alarm
            for page in pages
            for alarm in page["MetricAlarms"]
            # Whatever the service answers: what is not under the prefix is not ours.
            if alarm["AlarmName"].startswith(prefix)
        }
    except (BotoCoreError, ClientError) as error:
        return AlarmChanges(problems=(f"the alarms could not be listed: {error}",))

    specs = {spec.name: spec for spec in wanted}
    is_same = {
        name: name in existing and spec.is_same_as(existing[name]) for name, spec in specs.items()
    }
    to_put = [spec for name, spec in specs.items() if not is_same[name]]
    gone = [name for name in existing if name not in specs and name not in kept]

    put: list[str] = []
    problems: list[str] = []
    for done, spec in enumerate(to_put, start=1):
        pace.wait()
        try:
            client.put_metric_alarm(**spec.as_request())
        except ClientError as error:
            problems.append(f"alarm {spec.name} was not put: {error}")
        except BotoCoreError as error:
            problems.append(f"{len(to_put) - len(put)} alarms were not put: {error}")
            break
        else:
            put.append(spec.name)
        on_progress(done, len(to_put))

    deleted: list[str] = []
    for start in range(0, len(gone), _MAX_DELETED_AT_ONCE):
        names = gone[start : start + _MAX_DELETED_AT_ONCE]
        pace.wait()
        try:
            client.delete_alarms(AlarmNames=names)
        except (BotoCoreError, ClientError) as error:
            problems.append(f"alarms {', '.join(names)} were not deleted: {error}")
        else:
            deleted += names
    return AlarmChanges(
        tuple(put),
        tuple(deleted),
        tuple(name for name in specs if is_same[name]),
        tuple(problems),
    )
