"""Publishing: the marts' gauges, alarms and dashboards, brought to CloudWatch in one go."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from driftline.aws import aws_client
from driftline.settings import SettingsError
from ingest.raw_tables import METRIC_PUBLICATIONS
from orchestration.cloudwatch.alarms import (
    AlarmSpec,
    Pace,
    alarms_of,
    rule_alarm_name,
    synchronise_alarms,
)
from orchestration.cloudwatch.cloudwatch_dashboard import dashboard_of, synchronise_dashboards
from orchestration.cloudwatch.gauges import Evaluation, evaluate, within_budget
from orchestration.cloudwatch.metric_data import (
    Datum,
    Quarantined,
    illegal_namespace,
    in_words,
    sort_out,
)
from orchestration.cloudwatch.outbox import Outbox, OutboxClient, deliver

# The slowest schedule evaluates once a day, and a run takes a while.
DEFAULT_PERIOD_SECONDS = 25 * 3600
DEFAULT_BUDGET = 500
_LONGEST_PERIOD_SECONDS = 7 * 24 * 3600
_MAX_ACTIONS = 5
_TOPIC_ARN = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")
_ALARM_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_DASHBOARD_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,100}")

OnProgress = Callable[[str, int, int | None], None]


class PublishingError(Exception):
    """Nothing can be published. The message says what to do."""


@dataclass(frozen=True)
class CloudWatchSettings:
    """What is published where, and under which names.

    `metric_budget` counts metrics by name and dimensions, which are billed by the month.
    `alarm_period_seconds` is longer than the time between two evaluations.
    """

    is_enabled: bool = True
    namespace: str = "Driftline"
    alarm_prefix: str = "driftline-"
    dashboard_prefix: str = "driftline-"
    alarm_topic_arns: tuple[str, ...] = ()
    alarm_period_seconds: int = DEFAULT_PERIOD_SECONDS
    metric_budget: int = DEFAULT_BUDGET
    database: str = "driftline"
    raw_database: str = "raw"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> CloudWatchSettings:
        """Read the DRIFTLINE_* variables; raise SettingsError naming the one that is wrong."""
        namespace = environment.get("DRIFTLINE_CLOUDWATCH_NAMESPACE") or cls.namespace
        wrong = illegal_namespace(namespace)
        if wrong:
            raise SettingsError(f"DRIFTLINE_CLOUDWATCH_NAMESPACE={namespace!r} {wrong}")
        period = _whole_number(
            environment,
            "DRIFTLINE_ALARM_PERIOD_SECONDS",
            cls.alarm_period_seconds,
            most=_LONGEST_PERIOD_SECONDS,
        )
        if period % 60:
            raise SettingsError(
                f"DRIFTLINE_ALARM_PERIOD_SECONDS={period} is not a multiple of 60, as CloudWatch "
                "wants periods to be"
            )
        return cls(
            is_enabled=_is_enabled(environment),
            namespace=namespace,
            alarm_prefix=_prefix(
                environment, "DRIFTLINE_ALARM_PREFIX", cls.alarm_prefix, _ALARM_PREFIX
            ),
            dashboard_prefix=_prefix(
                environment, "DRIFTLINE_DASHBOARD_PREFIX", cls.dashboard_prefix, _DASHBOARD_PREFIX
            ),
            alarm_topic_arns=_topic_arns(environment),
            alarm_period_seconds=period,
            metric_budget=_whole_number(environment, "DRIFTLINE_METRIC_BUDGET", cls.metric_budget),
            database=environment.get("CLICKHOUSE_DATABASE") or cls.database,
            raw_database=environment.get("CLICKHOUSE_RAW_DATABASE") or cls.raw_database,
        )


def _is_enabled(environment: Mapping[str, str]) -> bool:
    value = environment.get("DRIFTLINE_CLOUDWATCH_ENABLED", "").strip().lower()
    if value in ("", "1", "true", "yes"):
        return True
    if value in ("0", "false", "no"):
        return False
    raise SettingsError(f"DRIFTLINE_CLOUDWATCH_ENABLED={value!r} is neither true nor false")


def _whole_number(
    environment: Mapping[str, str], name: str, default: int, most: int | None = None
) -> int:
    value = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) == 0:
        raise SettingsError(f"{name}={value!r} is not a whole number above 0")
    if most is not None and int(value) > most:
        raise SettingsError(f"{name}={value} is more than {most}")
    return int(value)


def _prefix(environment: Mapping[str, str], name: str, default: str, legal: re.Pattern[str]) -> str:
    # An empty prefix would make every alarm of the account ours to delete.
    prefix = environment.get(name) or default
    if not legal.fullmatch(prefix):
        raise SettingsError(f"{name}={prefix!r} is not of the form {legal.pattern}")
    return prefix


def _topic_arns(environment: Mapping[str, str]) -> tuple[str, ...]:
    name = "DRIFTLINE_ALARM_TOPIC_ARNS"
    arns = tuple(arn.strip() for arn in environment.get(name, "").split(",") if arn.strip())
    for arn in arns:
        if not _TOPIC_ARN.fullmatch(arn):
            raise SettingsError(
                f"{name}: {arn!r} is not the ARN of an SNS topic, such as "
                "arn:aws:sns:eu-west-1:123456789012:driftline"
            )
    if len(arns) > _MAX_ACTIONS:
        raise SettingsError(f"{name}: {len(arns)} topics are more than an alarm's {_MAX_ACTIONS}")
    return arns


class CloudWatch(Protocol):
    """The part of boto3's CloudWatch client that is used."""

    meta: Any

    def get_paginator(self, operation_name: Any, /) -> Any: ...  # noqa: D102
    def put_metric_data(self, **arguments: Any) -> Any: ...  # noqa: D102
    def put_metric_alarm(self, **arguments: Any) -> Any: ...  # noqa: D102
    def delete_alarms(self, **arguments: Any) -> Any: ...  # noqa: D102
    def get_dashboard(self, **arguments: Any) -> Any: ...  # noqa: D102
    def put_dashboard(self, **arguments: Any) -> Any: ...  # noqa: D102
    def delete_dashboards(self, **arguments: Any) -> Any: ...  # noqa: D102


def connect_cloudwatch(environment: Mapping[str, str] = os.environ) -> CloudWatch:
    """Give boto3's client of CloudWatch; raises SettingsError where there is no region."""
    try:
        client: CloudWatch = aws_client("cloudwatch", environment, read_timeout=30)
    except SettingsError as error:
        raise SettingsError(f"{error}, or DRIFTLINE_CLOUDWATCH_ENABLED=false") from None
    return client


@dataclass(frozen=True)
class Plan:
    """What a publication would send and keep, known before CloudWatch is asked anything."""

    evaluation: Evaluation
    accepted: tuple[Datum, ...]
    quarantined: tuple[Quarantined, ...]
    left_out: tuple[Datum, ...]
    alarms: tuple[AlarmSpec, ...]


def plan(client: OutboxClient, settings: CloudWatchSettings, *, now: datetime) -> Plan:
    """Read the marts and decide what to publish; nothing is written or sent."""
    evaluation = evaluate(
        client,
        settings.database,
        now,
        stale_after=timedelta(seconds=settings.alarm_period_seconds),
    )
    wanted, left_out = within_budget(evaluation, settings.metric_budget)
    accepted, quarantined = sort_out(wanted, now)
    return Plan(
        evaluation=evaluation,
        accepted=accepted,
        quarantined=quarantined,
        left_out=left_out,
        alarms=alarms_of(
            evaluation.models,
            evaluation.rules,
            prefix=settings.alarm_prefix,
            namespace=settings.namespace,
            period_seconds=settings.alarm_period_seconds,
            actions=settings.alarm_topic_arns,
        ),
    )


@dataclass(frozen=True)
class PublicationReport:
    """What became of a publication: counts of datums, names of the rest.

    `pending` is left for the next run, `expired` was too old to be sent at all.
    """

    run_id: str
    is_enabled: bool = True
    sent: int = 0
    pending: int = 0
    expired: int = 0
    quarantined: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    not_evaluated: tuple[str, ...] = ()
    rules_breached: tuple[str, ...] = ()
    alarms_put: tuple[str, ...] = ()
    alarms_deleted: tuple[str, ...] = ()
    alarms_unchanged: tuple[str, ...] = ()
    dashboards_put: tuple[str, ...] = ()
    dashboards_deleted: tuple[str, ...] = ()
    dashboards_unchanged: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all that could be published was, and nothing waits for a person or a next run."""
        return not (self.problems or self.pending or self.quarantined or self.left_out)

    def as_metadata(self) -> dict[str, int | str]:
        """Give counts, and names where there are any, as Dagster shows them."""
        metadata: dict[str, int | str] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                metadata[f"{field.name}_count"] = len(value)
                if value:
                    metadata[field.name] = "\n".join(value)
            elif isinstance(value, bool):
                metadata[field.name] = str(value).lower()
            else:
                metadata[field.name] = value
        return metadata


def publish(
    client: OutboxClient,
    cloudwatch: CloudWatch,
    settings: CloudWatchSettings,
    *,
    now: datetime,
    run_id: str,
    on_progress: OnProgress = lambda _doing, _done, _total: None,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> PublicationReport:
    """Send the gauges of the marts, and make alarms and dashboards those of models and rules.

    `client` is the warehouse's clickhouse-connect client; `now` is the time of the evaluation, in
    a zone. Publishing again with the same `run_id` sends only what that run had not sent. Whatever
    CloudWatch refuses is in the report, not raised, and tried again by the next run. Raises
    PublishingError where the outbox is missing, and ClickHouse's errors.
    """
    if not settings.is_enabled:
        return PublicationReport(run_id, is_enabled=False)
    _check_outbox(client, settings.raw_database)
    # The outbox keeps milliseconds: what is sent twice must have one timestamp.
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)

    on_progress("reading the marts", 0, None)
    planned = plan(client, settings, now=now)
    evaluation = planned.evaluation
    outbox = Outbox(client, settings.raw_database)
    outbox.write(run_id, planned.accepted, planned.quarantined)
    delivery = deliver(
        cloudwatch,
        outbox,
        namespace=settings.namespace,
        run_id=run_id,
        now=now,
        on_progress=lambda done, total: on_progress("sending metrics", done, total),
    )
    report = PublicationReport(
        run_id=run_id,
        sent=delivery.sent,
        pending=delivery.pending,
        expired=delivery.expired,
        quarantined=tuple(f"{in_words(bad.datum)}: {bad.reason}" for bad in planned.quarantined),
        left_out=tuple(in_words(datum) for datum in planned.left_out),
        undefined=evaluation.undefined,
        not_evaluated=evaluation.not_evaluated,
        rules_breached=tuple(rule.name for rule in evaluation.rules if rule.is_breached),
        problems=(*evaluation.problems, *delivery.problems),
    )
    if not evaluation.is_complete:
        # Rules that cannot be read are not rules that are gone: their alarms stay.
        return report

    pace = Pace(clock, pause)
    alarms = synchronise_alarms(
        cloudwatch,
        planned.alarms,
        prefix=settings.alarm_prefix,
        pace=pace,
        kept={
            rule_alarm_name(settings.alarm_prefix, rule)
            for rule in evaluation.rules
            if rule.problem
        },
        on_progress=lambda done, total: on_progress("putting alarms", done, total),
    )
    on_progress("putting dashboards", 0, None)
    dashboards = synchronise_dashboards(
        cloudwatch,
        [
            dashboard_of(
                model,
                evaluation.rules,
                prefix=settings.dashboard_prefix,
                namespace=settings.namespace,
                region=cloudwatch.meta.region_name,
                period_seconds=settings.alarm_period_seconds,
            )
            for model in evaluation.models
        ],
        prefix=settings.dashboard_prefix,
        pace=pace,
    )
    return replace(
        report,
        alarms_put=alarms.put,
        alarms_deleted=alarms.deleted,
        alarms_unchanged=alarms.unchanged,
        dashboards_put=dashboards.put,
        dashboards_deleted=dashboards.deleted,
        dashboards_unchanged=dashboards.unchanged,
        problems=(*report.problems, *alarms.problems, *dashboards.problems),
    )


def _check_outbox(client: OutboxClient, raw_database: str) -> None:
    answer = client.query(
        "select count() from system.tables where database = {database:String} "
        "and name = {name:String}",
        parameters={"database": raw_database, "name": METRIC_PUBLICATIONS},
    )
    if not answer.result_rows[0][0]:
        raise PublishingError(
            f"{raw_database}.{METRIC_PUBLICATIONS} does not exist: driftline migrate makes it"
        )
