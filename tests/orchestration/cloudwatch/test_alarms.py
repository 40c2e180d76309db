from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from orchestration.cloudwatch.alarms import (
    MAX_DESCRIPTION,
    AlarmSpec,
    Pace,
    alarm_name,
    alarms_of,
    synchronise_alarms,
)
from orchestration.cloudwatch.gauges import Model, Rule

PREFIX = "driftline-"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:driftline"
MODEL = Model("flights", "1", "flight-operations", "https://runbooks.example/flights")
RULE = Rule(
    name="auc_fell",
    model_name="flights",
    metric="auc",
    segment_key="all",
    feature_name="",
    granularity="week",
    comparator="<",
    threshold=0.62,
    windows_breaching=2,
    windows_considered=3,
    severity="error",
)


class ManualClock:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def pace(self) -> Pace:
        return Pace(lambda: self.now, self.pause)


def specs(
    *rules: Rule, models: tuple[Model, ...] = (MODEL,), period: int = 3600
) -> tuple[AlarmSpec, ...]:
    return alarms_of(
        models,
        rules,
        prefix=PREFIX,
        namespace="Driftline",
        period_seconds=period,
        actions=(TOPIC,),
    )


def synchronise(cloudwatch: Any, wanted: tuple[AlarmSpec, ...], **options: Any) -> Any:
    return synchronise_alarms(
        cloudwatch, wanted, prefix=PREFIX, pace=ManualClock().pace(), **options
    )


def names(cloudwatch: Any) -> set[str]:
    pages = cloudwatch.get_paginator("describe_alarms").paginate()
    return {alarm["AlarmName"] for page in pages for alarm in page["MetricAlarms"]}


def put_foreign_alarm(cloudwatch: Any, name: str) -> None:
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="Other",
        MetricName="M",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )


def test_rule_alarm_is_maximum_one_of_one_that_missing_data_does_not_breach() -> None:
    rule, _ = specs(RULE)
    request = rule.as_request()

    assert request["AlarmName"] == "driftline-rule/flights/auc_fell"
    assert (request["Statistic"], request["Threshold"]) == ("Maximum", 1.0)
    assert request["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert (request["EvaluationPeriods"], request["DatapointsToAlarm"]) == (1, 1)
    assert request["TreatMissingData"] == "notBreaching"
    assert request["AlarmActions"] == request["OKActions"] == [TOPIC]
    for words in (
        "auc of flights < 0.62 in 2 of the last 3 windows (week)",
        "Severity error",
        "Owner: flight-operations",
        "https://runbooks.example/flights",
    ):
        assert words in request["AlarmDescription"]


def test_rule_of_every_feature_and_segment_says_so() -> None:
    rule = replace(RULE, metric="psi", feature_name="*", segment_key="origin", comparator=">=")
    assert rule.in_words.startswith("psi of every feature of flights in a value of origin >= 0.62")


def test_heartbeat_alarm_breaches_when_data_are_missing() -> None:
    (heartbeat,) = specs()
    request = heartbeat.as_request()

    assert request["AlarmName"] == "driftline-heartbeat/flights"
    assert request["MetricName"] == "EvaluationsCompleted"
    assert request["TreatMissingData"] == "breaching"
    assert request["ComparisonOperator"] == "LessThanThreshold"
    assert request["Dimensions"] == [{"Name": "Model", "Value": "flights"}]


def test_description_keeps_within_what_cloudwatch_takes() -> None:
    model = replace(MODEL, runbook_url="https://runbooks.example/" + "x" * 2_000)
    assert all(len(spec.description) <= MAX_DESCRIPTION for spec in specs(RULE, models=(model,)))


def test_names_are_short_ascii_and_never_the_same_for_different_parts() -> None:
    long = [alarm_name(PREFIX, "rule", "m" * 300, rule) for rule in ("a", "b")]
    assert [len(name) for name in long] == [255, 255]
    assert long[0] != long[1]
    assert alarm_name(PREFIX, "a/b", "c") != alarm_name(PREFIX, "a", "b/c")
    assert alarm_name(PREFIX, "Zürich\n").isascii()
    assert alarm_name(PREFIX, "Zürich\n").isprintable()
    assert len(alarm_name(PREFIX, "x" * (255 - len(PREFIX)))) == 255
    assert alarm_name(PREFIX, "x" * (255 - len(PREFIX))).endswith("xx")


def test_alarms_are_put_once_and_left_alone_after_that(cloudwatch: Any) -> None:
    first = synchronise(cloudwatch, specs(RULE))
    again = synchronise(cloudwatch, specs(RULE))

    wanted = ("driftline-rule/flights/auc_fell", "driftline-heartbeat/flights")
    assert (first.put, first.unchanged, first.problems) == (wanted, (), ())
    assert (again.put, again.unchanged, again.deleted) == ((), wanted, ())


@pytest.mark.parametrize(
    "change",
    [
        {"description": "other"},
        {"namespace": "Other"},
        {"metric_name": "Other"},
        {"dimensions": (("Model", "other"),)},
        {"comparison": "GreaterThanThreshold"},
        {"treat_missing": "ignore"},
        {"period_seconds": 7200},
        {"actions": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_alarm_is_put_again_when_anything_of_it_changed(
    cloudwatch: Any, change: dict[str, Any]
) -> None:
    spec = specs(RULE)[0]
    synchronise(cloudwatch, (spec,))
    changed = synchronise(cloudwatch, (replace(spec, **change),))
    again = synchronise(cloudwatch, (replace(spec, **change),))

    assert changed.put == (spec.name,)
    assert again.unchanged == (spec.name,)


def test_order_of_actions_and_dimensions_is_no_change() -> None:
    spec = replace(specs(RULE)[0], actions=(TOPIC, f"{TOPIC}-2"))
    described = spec.as_request()
    described["AlarmActions"].reverse()
    described["Dimensions"].reverse()
    assert spec.is_same_as(described)


def test_alarms_of_rules_that_are_gone_are_deleted_and_no_others(cloudwatch: Any) -> None:
    for name in ("other", "driftlin", "not-driftline-rule"):
        put_foreign_alarm(cloudwatch, name)
    synchronise(cloudwatch, specs(RULE, replace(RULE, name="gone"), replace(RULE, name="broken")))

    changes = synchronise(
        cloudwatch, specs(RULE), kept={alarm_name(PREFIX, "rule", "flights", "broken")}
    )

    assert changes.deleted == ("driftline-rule/flights/gone",)
    assert names(cloudwatch) == {
        "other",
        "driftlin",
        "not-driftline-rule",
        "driftline-rule/flights/auc_fell",
        "driftline-rule/flights/broken",
        "driftline-heartbeat/flights",
    }


def test_alarms_are_listed_over_all_pages_and_deleted_a_hundred_at_a_time(cloudwatch: Any) -> None:
    many = specs(*(replace(RULE, name=f"rule{number}") for number in range(120)))
    synchronise(cloudwatch, many)
    again = synchronise(cloudwatch, many)
    assert len(again.unchanged) == 121

    batches: list[int] = []
    cloudwatch.meta.events.register(
        "before-parameter-build.cloudwatch.DeleteAlarms",
        lambda params, **_: batches.append(len(params["AlarmNames"])),
    )
    gone = synchronise(cloudwatch, ())
    assert len(gone.deleted) == 121
    assert batches == [100, 21]
    assert names(cloudwatch) == set()


def test_names_outside_the_prefix_are_safe_even_if_the_service_lists_them() -> None:
    class Careless:
        deleted: tuple[str, ...] = ()

        def get_paginator(self, _name: Any, /) -> Any:
            return self

        def paginate(self, **_arguments: Any) -> Iterator[dict[str, Any]]:
            yield {"MetricAlarms": [{"AlarmName": "other"}, {"AlarmName": "driftline-old"}]}

        def put_metric_alarm(self, **_arguments: Any) -> None:
            raise AssertionError

        def delete_alarms(self, **arguments: Any) -> None:
            self.deleted = tuple(arguments["AlarmNames"])

    careless = Careless()
    synchronise(careless, ())
    assert careless.deleted == ("driftline-old",)


def test_at_most_two_alarms_are_put_a_second(cloudwatch: Any) -> None:
    clock = ManualClock()
    at: list[float] = []
    cloudwatch.meta.events.register(
        "before-call.cloudwatch.PutMetricAlarm", lambda **_: at.append(clock.now)
    )
    synchronise_alarms(
        cloudwatch,
        specs(*(replace(RULE, name=f"rule{number}") for number in range(5))),
        prefix=PREFIX,
        pace=clock.pace(),
    )
    assert len(at) == 6
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(at))
    # No pause before the first, nor where time has passed anyway.
    assert len(clock.pauses) == 5


def test_refused_alarm_is_reported_and_the_others_are_put() -> None:
    client = boto3.client(
        "cloudwatch", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stub:
        stub.add_response("describe_alarms", {"MetricAlarms": []})
        stub.add_client_error("put_metric_alarm", "LimitExceeded", "too many alarms", 400)
        stub.add_response("put_metric_alarm", {})
        changes = synchronise(client, specs(RULE))

    assert changes.put == ("driftline-heartbeat/flights",)
    assert len(changes.problems) == 1
    assert "driftline-rule/flights/auc_fell was not put" in changes.problems[0]
    assert "too many alarms" in changes.problems[0]


def test_alarms_that_cannot_be_listed_are_neither_put_nor_deleted() -> None:
    client = boto3.client(
        "cloudwatch", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stub:
        stub.add_client_error("describe_alarms", "AccessDenied", "no", 403)
        changes = synchronise(client, specs(RULE))
    assert (changes.put, changes.deleted) == ((), ())
    assert "could not be listed" in changes.problems[0]


def test_putting_ends_when_the_connection_is_gone(cloudwatch: Any) -> None:
    calls: list[str] = []

    def cut(**_: Any) -> None:
        calls.append("put")
        raise EndpointConnectionError(endpoint_url="http://gone")

    cloudwatch.meta.events.register("before-call.cloudwatch.PutMetricAlarm", cut)
    changes = synchronise(cloudwatch, specs(RULE, replace(RULE, name="other")))
    assert changes.put == ()
    assert calls == ["put"]
    assert "3 alarms were not put" in changes.problems[0]
