"""A small evaluator of metric alarms, because moto keeps alarms but never evaluates them.

It follows CloudWatch's documentation for alarms on the maximum of one metric: the last
EvaluationPeriods periods up to the moment, DatapointsToAlarm of which must breach, and
TreatMissingData for periods without a value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}

# Gives the maximum of an alarm's metric from a moment (exclusive) to another (inclusive).
MaximumOver = Callable[[Mapping[str, Any], datetime, datetime], float | None]


def evaluate_alarm(
    alarm: Mapping[str, Any], maximum_over: MaximumOver, at: datetime, before: str = "OK"
) -> str:
    """Give the state of an alarm (as DescribeAlarms has it) at a moment: OK, ALARM or
    INSUFFICIENT_DATA; `before` is the state that missing data leaves where they are ignored.
    """
    period = timedelta(seconds=alarm["Period"])
    periods = alarm["EvaluationPeriods"]
    ends = [at - number * period for number in range(periods)]
    values = [maximum_over(alarm, end - period, end) for end in ends]
    compare = _COMPARISONS[alarm["ComparisonOperator"]]
    missing = alarm.get("TreatMissingData", "missing")
    if all(value is None for value in values) and missing in ("missing", "ignore"):
        return "INSUFFICIENT_DATA" if missing == "missing" else before
    breaching = [
        missing == "breaching" if value is None else compare(value, alarm["Threshold"])
        for value in values
    ]
    return "ALARM" if sum(breaching) >= alarm.get("DatapointsToAlarm", periods) else "OK"


def maximum_from(cloudwatch: Any) -> MaximumOver:
    """Read maxima, the one statistic our alarms use, from a (moto) CloudWatch."""

    def maximum_over(alarm: Mapping[str, Any], start: datetime, end: datetime) -> float | None:
        # The service's ranges are half-open the other way round, [StartTime, EndTime), and in
        # whole seconds.
        after_start, after_end = (
            moment.replace(microsecond=0) + timedelta(seconds=1) for moment in (start, end)
        )
        answer = cloudwatch.get_metric_statistics(
            Namespace=alarm["Namespace"],
            MetricName=alarm["MetricName"],
            Dimensions=alarm["Dimensions"],
            StartTime=after_start,
            EndTime=after_end,
            Period=alarm["Period"],
            Statistics=["Maximum"],
        )
        values = [float(point["Maximum"]) for point in answer["Datapoints"]]
        if not values:
            return None
        # A range of one period may be cut at the service's own marks into two datapoints.
        return max(values)

    return maximum_over


def alarm_states(cloudwatch: Any, prefix: str, at: datetime) -> dict[str, str]:
    """Give the state at a moment of every alarm under a prefix, by name."""
    pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix)
    return {
        alarm["AlarmName"]: evaluate_alarm(alarm, maximum_from(cloudwatch), at)
        for page in pages
        for alarm in page["MetricAlarms"]
    }
