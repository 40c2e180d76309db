from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestration.cloudwatch.gauges import Evaluation, evaluate, within_budget
from tests.orchestration.cloudwatch.mart_tables import MartTables

OF_VERSION = (("Model", "m"), ("ModelVersion", "1"))


def gauges(evaluation: Evaluation) -> dict[tuple[str, ...], Any]:
    """Values by name and the values of the dimensions after the model."""
    return {
        (datum.name, *(value for _, value in datum.dimensions[1:])): datum.value
        for datum in (*evaluation.essential, *evaluation.details)
    }


def evaluation_of(tables: MartTables, now: datetime) -> Evaluation:
    return evaluate(tables.client, tables.database, now, stale_after=timedelta(hours=25))


def window(now: datetime, ends_days_ago: int, days: int = 7) -> dict[str, Any]:
    end = now - timedelta(days=ends_days_ago)
    return {"model_name": "m", "window_start": end - timedelta(days=days), "window_end": end}


def drift(now: datetime, ends_days_ago: int, feature: str, **others: Any) -> dict[str, Any]:
    return {
        **window(now, ends_days_ago),
        "comparison": "baseline",
        "feature_name": feature,
        "psi": 0.01,
        "verdict": "ok",
        **others,
    }


def test_gauges_of_drift_are_of_the_newest_closed_week_of_everyone(
    warehouse: MartTables, now: datetime
) -> None:
    warehouse.fill("dim_models", {"model_name": "m"})
    warehouse.fill(
        "fct_feature_drift_weekly",
        drift(now, 8, "old", psi=9.0, verdict="drift"),
        drift(now, 1, "a", psi=0.4, verdict="drift"),
        drift(now, 1, "b", psi=0.2),
        drift(now, 1, "c", psi=0.12, verdict="warning"),
        drift(now, 1, "few", psi=7.0, verdict="insufficient_data"),
        drift(now, 1, "cyclic", psi=6.0, verdict="not_evaluated"),
        drift(now, 1, "a", psi=5.0, segment_key="origin", segment_value="EWR"),
        drift(now, 1, "a", psi=5.0, comparison="previous"),
        drift(now, 1, "a", psi=5.0, model_version="2"),
        drift(now, -6, "a", psi=8.0, verdict="drift"),
    )
    values = gauges(evaluation_of(warehouse, now))
    assert values["WorstPSI", "1"] == 0.4
    assert values["DriftedShare", "1"] == pytest.approx(1 / 3)


def test_gauges_of_drift_are_undefined_where_nothing_was_judged(
    warehouse: MartTables, now: datetime
) -> None:
    warehouse.fill("dim_models", {"model_name": "m"})
    warehouse.fill(
        "fct_feature_drift_weekly", drift(now, 1, "few", psi=7.0, verdict="insufficient_data")
    )
    evaluation = evaluation_of(warehouse, now)
    assert ("WorstPSI", "1") not in gauges(evaluation)
    assert {"WorstPSI of m 1", "DriftedShare of m 1"} <= set(evaluation.undefined)


def test_gauges_of_quality_performance_and_service(warehouse: MartTables, now: datetime) -> None:
    warehouse.fill("dim_models", {"model_name": "m"})
    for ends, null_rate in ((2, 0.9), (1, 0.2), (0, 0.1), (-1, 0.8)):
        warehouse.fill(
            "fct_data_quality_daily",
            {
                **window(now, ends, 1),
                "feature_name": "a",
                "row_count": 10,
                "null_rate": null_rate,
            },
            {**window(now, ends, 1), "feature_name": "b", "row_count": 10, "null_rate": 0.05},
        )
    performance = {"auc": 0.7, "f1": 0.4, "label_coverage": 0.9, "status": "final"}
    warehouse.fill(
        "fct_model_performance_weekly",
        {**window(now, 14), **performance, "auc": 0.6},
        {**window(now, 7), **performance},
        {**window(now, 0), **performance, "auc": 0.1, "status": "provisional"},
        {**window(now, 7), **performance, "auc": 0.2, "segment_key": "origin"},
    )
    last = now - timedelta(seconds=90)
    service = {"rate_per_second": 2.5, "latency_p99_ms": 12.0, "last_predicted_at": last}
    warehouse.fill(
        "fct_service_daily",
        {**window(now, 1, 1), **service, "rate_per_second": 9.0, "last_predicted_at": None},
        {**window(now, 0, 1), **service},
        {**window(now, -1, 1), **service, "rate_per_second": 0.1},
    )
    evaluation = evaluation_of(warehouse, now)
    units = {datum.name: datum.unit for datum in evaluation.essential}

    assert gauges(evaluation) == {
        ("EvaluationsCompleted",): 1.0,
        ("WorstNullRate", "1"): 0.1,
        ("AUC", "1"): 0.7,
        ("F1", "1"): 0.4,
        ("LabelCoverage", "1"): 0.9,
        ("LatencyP99", "1"): 12.0,
        ("Throughput", "1"): 2.5,
        ("OpenBreaches", "1"): 0.0,
        ("Freshness", "1"): 90.0,
    }
    assert units["LatencyP99"] == "Milliseconds"
    assert units["Throughput"] == "Count/Second"
    assert units["Freshness"] == "Seconds"
    assert {datum.timestamp for datum in evaluation.essential} == {now}


def test_undefined_values_are_reported_and_not_published(
    warehouse: MartTables, now: datetime
) -> None:
    warehouse.fill("dim_models", {"model_name": "m"})
    warehouse.fill(
        "fct_model_performance_weekly",
        {**window(now, 7), "auc": None, "f1": 0.4, "label_coverage": 0.1, "status": "final"},
    )
    evaluation = evaluation_of(warehouse, now)
    assert ("AUC", "1") not in gauges(evaluation)
    assert "AUC of m 1" in evaluation.undefined
    assert "F1 of m 1" not in evaluation.undefined


def test_version_that_predicted_last_is_taken_where_none_is_named(
    warehouse: MartTables, now: datetime
) -> None:
    warehouse.fill("dim_models", {"model_name": "m", "active_version": ""})
    service = {"rate_per_second": 1.0, "latency_p99_ms": 1.0}
    for version, hours in (("9", 30), ("10", 3)):
        warehouse.fill(
            "fct_service_daily",
            {
                **window(now, 0, 1),
                **service,
                "model_version": version,
                "last_predicted_at": now - timedelta(hours=hours),
            },
        )
    evaluation = evaluation_of(warehouse, now)
    assert [model.version for model in evaluation.models] == ["10"]
    assert gauges(evaluation)["Freshness", "10"] == 3 * 3600


def test_rule_gauge_is_one_while_an_incident_is_open(warehouse: MartTables, now: datetime) -> None:
    warehouse.fill("dim_models", {"model_name": "m"})
    rule = {"model_name": "m"}
    warehouse.fill(
        "int_monitor_rules",
        *({**rule, "monitor_name": name} for name in ("fell", "recovered", "quiet", "young")),
        {**rule, "monitor_name": "broken", "problem": "unknown_metric"},
    )
    warehouse.fill(
        "fct_breaches",
        {**rule, "monitor_name": "fell", "status": "open"},
        {**rule, "monitor_name": "fell", "status": "resolved"},
        {**rule, "monitor_name": "recovered", "status": "resolved"},
        {
            **rule,
            "monitor_name": "young",
            "status": "not_evaluated",
            "reason": "labels_not_complete",
        },
        {**rule, "monitor_name": "broken", "status": "not_evaluated", "reason": "unknown_metric"},
    )
    evaluation = evaluation_of(warehouse, now)
    of_rules = {
        key[1]: value for key, value in gauges(evaluation).items() if key[0] == "RuleBreached"
    }
    assert of_rules == {"fell": 1.0, "recovered": 0.0, "quiet": 0.0}
    assert set(evaluation.not_evaluated) == {
        "young: labels_not_complete",
        "broken: unknown_metric",
    }
    assert gauges(evaluation)["OpenBreaches", "1"] == 1.0


def breach(name: str, **others: Any) -> dict[str, Any]:
    return {
        "model_name": "m",
        "monitor_name": "drifted",
        "metric": "psi",
        "feature_name": name,
        "comparator": ">=",
        "threshold": 0.25,
        "severity": "warn",
        **others,
    }


def test_details_are_of_what_is_in_breach_the_worst_first(
    warehouse: MartTables, now: datetime
) -> None:
    warehouse.fill("dim_models", {"model_name": "m"})
    warehouse.fill(
        "fct_breaches",
        breach("a", last_value=0.3),
        breach("b", last_value=2.0),
        breach("b", last_value=2.0, monitor_name="watches the same"),
        breach("b", last_value=3.0, granularity="month"),
        breach("c", last_value=9.0, status="resolved"),
        breach("d", last_value=0.5, segment_key="origin", segment_value="EWR"),
        breach("", metric="label_coverage", comparator="<", severity="error", last_value=0.2),
    )
    evaluation = evaluation_of(warehouse, now)
    assert [(datum.name, datum.dimensions[1:], datum.value) for datum in evaluation.details] == [
        ("BreachingLabelCoverage", (("ModelVersion", "1"), ("Granularity", "week")), 0.2),
        (
            "BreachingPsi",
            (("ModelVersion", "1"), ("Feature", "b"), ("Granularity", "month")),
            3.0,
        ),
        ("BreachingPsi", (("ModelVersion", "1"), ("Feature", "b"), ("Granularity", "week")), 2.0),
        (
            "BreachingPsi",
            (
                ("ModelVersion", "1"),
                ("Segment", "origin=EWR"),
                ("Feature", "d"),
                ("Granularity", "week"),
            ),
            0.5,
        ),
        ("BreachingPsi", (("ModelVersion", "1"), ("Feature", "a"), ("Granularity", "week")), 0.3),
    ]


def test_budget_keeps_the_worst_and_says_what_it_left_out(
    warehouse: MartTables, now: datetime
) -> None:
    warehouse.fill("dim_models", {"model_name": "m"})
    warehouse.fill(
        "fct_breaches", *(breach(f"f{number}", last_value=0.3 + number) for number in range(5))
    )
    evaluation = evaluation_of(warehouse, now)
    essential = len(evaluation.essential)

    kept, left_out = within_budget(evaluation, essential + 2)
    assert len(kept) == essential + 2
    assert [dict(datum.dimensions)["Feature"] for datum in kept[-2:]] == ["f4", "f3"]
    assert [dict(datum.dimensions)["Feature"] for datum in left_out] == ["f2", "f1", "f0"]

    kept, left_out = within_budget(evaluation, 1)
    assert [datum.name for datum in kept] == ["EvaluationsCompleted"]
    assert len(left_out) == essential + 4


def test_heartbeat_stops_when_a_mart_is_computed_no_more(
    warehouse: MartTables, now: datetime
) -> None:
    warehouse.fill("dim_models", {"model_name": "m"})
    fresh = evaluation_of(warehouse, now + timedelta(hours=25))
    assert ("EvaluationsCompleted",) in gauges(fresh)
    assert fresh.problems == ()

    later = now + timedelta(hours=26)
    warehouse.record_builds(later, "fct_service_daily", "fct_data_quality_daily")
    stale = evaluation_of(warehouse, later)
    assert ("EvaluationsCompleted",) not in gauges(stale)
    assert ("OpenBreaches", "1") in gauges(stale)
    (problem,) = stale.problems
    assert "fct_feature_drift_weekly" in problem
    assert "fct_model_performance_weekly" in problem
    assert "fct_service_daily" not in problem
    assert "driftline dbt build" in problem


def test_heartbeat_waits_for_the_first_computation(
    empty_warehouse: MartTables, now: datetime
) -> None:
    empty_warehouse.create()
    empty_warehouse.fill("dim_models", {"model_name": "m"})
    evaluation = evaluation_of(empty_warehouse, now)
    assert ("EvaluationsCompleted",) not in gauges(evaluation)
    assert "fct_service_daily (never)" in evaluation.problems[0]


def test_empty_marts_give_nothing_and_no_problem(warehouse: MartTables, now: datetime) -> None:
    assert evaluation_of(warehouse, now) == Evaluation()


def test_marts_that_do_not_exist_are_a_problem_that_names_the_remedy(
    empty_warehouse: MartTables, now: datetime
) -> None:
    evaluation = evaluation_of(empty_warehouse, now)
    assert not evaluation.is_complete
    assert evaluation.essential == ()
    (problem,) = evaluation.problems
    assert "has no dim_models, int_monitor_rules" in problem
    assert "driftline dbt build" in problem


def test_missing_mart_of_one_kind_leaves_the_other_gauges(
    empty_warehouse: MartTables, now: datetime
) -> None:
    empty_warehouse.create("dim_models", "int_monitor_rules", "fct_breaches")
    empty_warehouse.fill("dim_models", {"model_name": "m"})
    evaluation = evaluation_of(empty_warehouse, now)
    assert evaluation.is_complete
    assert {datum.name for datum in evaluation.essential} == {
        "EvaluationsCompleted",
        "OpenBreaches",
    }
    (problem,) = evaluation.problems
    assert "fct_service_daily" in problem
    assert "dim_models" not in problem


def test_values_that_are_no_numbers_come_through_to_be_quarantined(
    warehouse: MartTables, now: datetime
) -> None:
    warehouse.fill("dim_models", {"model_name": "m"})
    warehouse.fill(
        "fct_service_daily",
        {
            **window(now, 0, 1),
            "rate_per_second": math.inf,
            "latency_p99_ms": 1.0,
            "last_predicted_at": now,
        },
    )
    values = gauges(evaluation_of(warehouse, now))
    assert values["Throughput", "1"] == math.inf
