from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.orchestration.cloudwatch.alarm_evaluator import alarm_states, evaluate_alarm

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ALARM = {
    "Period": 3600,
    "EvaluationPeriods": 1,
    "DatapointsToAlarm": 1,
    "Threshold": 1.0,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "TreatMissingData": "notBreaching",
}


def points(**hours_ago: float) -> Any:
    """Values by how long ago they came, as h0_5 = value for half an hour ago."""
    at = {
        NOON - timedelta(hours=float(name[1:].replace("_", "."))): value
        for name, value in hours_ago.items()
    }

    def maximum(_alarm: Mapping[str, Any], start: datetime, end: datetime) -> float | None:
        return max((value for moment, value in at.items() if start < moment <= end), default=None)

    return maximum


def test_state_alarms_when_the_maximum_of_the_period_reaches_the_threshold() -> None:
    assert evaluate_alarm(ALARM, points(h0_5=1, h0_2=0), NOON) == "ALARM"
    assert evaluate_alarm(ALARM, points(h0_5=0), NOON) == "OK"
    assert evaluate_alarm(ALARM, points(h1_5=1, h0_5=0), NOON) == "OK"


@pytest.mark.parametrize(
    ("treatment", "state"),
    [
        ("notBreaching", "OK"),
        ("breaching", "ALARM"),
        ("missing", "INSUFFICIENT_DATA"),
        ("ignore", "ALARM"),
    ],
)
def test_state_follows_the_treatment_of_missing_data(treatment: str, state: str) -> None:
    alarm = {**ALARM, "TreatMissingData": treatment}
    assert evaluate_alarm(alarm, points(h2=1), NOON, before="ALARM") == state


def test_state_needs_m_of_n_periods() -> None:
    alarm = {**ALARM, "EvaluationPeriods": 3, "DatapointsToAlarm": 2}
    assert evaluate_alarm(alarm, points(h0_5=1, h2_5=1), NOON) == "ALARM"
    assert evaluate_alarm(alarm, points(h0_5=1, h1_5=0), NOON) == "OK"


def test_states_come_from_what_the_service_received(cloudwatch: Any, now: datetime) -> None:
    cloudwatch.put_metric_alarm(
        AlarmName="mine",
        Namespace="N",
        MetricName="M",
        Dimensions=[{"Name": "Model", "Value": "m"}],
        Statistic="Maximum",
        **ALARM,
    )
    assert alarm_states(cloudwatch, "mine", now) == {"mine": "OK"}
    cloudwatch.put_metric_data(
        Namespace="N",
        MetricData=[
            {
                "MetricName": "M",
                "Dimensions": [{"Name": "Model", "Value": "m"}],
                "Value": 1,
                "Timestamp": now,
            }
        ],
    )
    assert alarm_states(cloudwatch, "mine", now) == {"mine": "ALARM"}
    assert alarm_states(cloudwatch, "mine", now + timedelta(minutes=59)) == {"mine": "ALARM"}
    assert alarm_states(cloudwatch, "mine", now + timedelta(minutes=61)) == {"mine": "OK"}
