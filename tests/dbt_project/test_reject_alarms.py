"""Rejects and what is said of them: nothing but poison stops nothing, and is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestration.cloudwatch.gauges import evaluate
from tests.dbt_project.conftest import MakeWarehouse
from tests.dbt_project.event_stories import AS_OF
from tests.dbt_project.test_rejects_replay import prediction
from tests.dbt_project.warehouse import Warehouse

HOUR = datetime(2025, 3, 1, 12, tzinfo=UTC)
RULES = [
    "poisoned,*,reject_rate,topic,,hour,>,0.1,5,1,1,error",
    "stuck,*,reject_run,topic,,day,>=,20,1,1,1,warn",
    "few,*,reject_rate,topic,,week,>,0,1000,1,1,warn",
]


def land(warehouse: Warehouse, hour: datetime, first: int, values: Sequence[bytes]) -> None:
    """Land predictions of one partition with the Kafka timestamps of an hour."""
    rows: list[list[Any]] = [
        ["c", "predictions", "", 0, first + number, hour + timedelta(seconds=number), value]
        for number, value in enumerate(values)
    ]
    warehouse.client.insert(
        f"{warehouse.raw_database}.prediction_events",
        [[*row, hour.date()] for row in rows],
        column_names=[
            "cluster", "topic", "topic_id", "partition", "offset", "kafka_timestamp", "value",
            "batch_date",
        ],
    )  # fmt: skip


def breaches(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    rows = warehouse.query(
        "select monitor_name, model_name, segment_value, status, reason, worst_value, "
        "toString(opened_at) as opened_at from {database}.fct_breaches order by all"
    )
    return [tuple(row.values()) for row in rows]


# Its parts are unit tests of the dbt project; built whole, with every test, it takes its time.
@pytest.mark.thorough
def test_nothing_but_poison_stops_nothing_and_is_told(make_warehouse: MakeWarehouse) -> None:
    warehouse = make_warehouse(
        "reject_alarms",
        seeds={"monitors": RULES, "models": ["m,binary,late,0.5,1,48,1,,,"]},
        variables={"as_of": AS_OF, "landing_overlap_minutes": 0},
    )
    land(warehouse, HOUR, 0, [b"{"] * 15)
    land(warehouse, HOUR + timedelta(hours=1), 15, [b"\xff"] * 15)
    build = warehouse.dbt("build", "--resource-type", "test")
    assert build.success, [
        f"{result.node.name}: {result.message}"
        for result in build.result
        if result.status not in ("success", "pass", "no-op", "warn")
    ]
    few = ("few", "*", "", "not_evaluated", "below_min_rows", None, None)
    assert breaches(warehouse) == [
        few,
        ("poisoned", "*", "predictions", "open", "", 1.0, "2025-03-01 13:00:00"),
        ("stuck", "*", "predictions", "open", "", 30.0, "2025-03-02 00:00:00"),
    ]
    told = evaluate(
        warehouse.client, warehouse.database, datetime.now(UTC), stale_after=timedelta(days=1)
    )
    gauges = {(datum.name, *dict(datum.dimensions).values()): datum.value for datum in told.details}
    assert gauges == {
        ("BreachingRejectRate", "*", "topic=predictions", "hour"): 1.0,
        ("BreachingRejectRun", "*", "topic=predictions", "day"): 30.0,
    }
    rules = {
        dict(datum.dimensions)["Rule"]: datum.value
        for datum in told.essential
        if datum.name == "RuleBreached"
    }
    assert rules == {"poisoned": 1.0, "stuck": 1.0}
    [rule] = [rule for rule in told.rules if rule.name == "poisoned"]
    assert rule.in_words.startswith("reject_rate of any topic > 0.1 in 1 of")

    # A later hour is sound, and a late valid event breaks the run within the first.
    land(warehouse, HOUR + timedelta(hours=2), 31, [prediction(number) for number in range(10)])
    land(warehouse, HOUR, 30, [prediction(11)])
    warehouse.run("--select", "+fct_breaches")
    assert breaches(warehouse) == [
        few,
        ("poisoned", "*", "predictions", "resolved", "recovered", 1.0, "2025-03-01 13:00:00"),
        ("stuck", "*", "predictions", "open", "", 30.0, "2025-03-02 00:00:00"),
    ]
    hours = warehouse.query(
        "select event_count, rejected_count from {database}.fct_reject_rates "
        "where granularity = 'hour' order by window_start"
    )
    assert [tuple(row.values()) for row in hours] == [(16, 15), (15, 15), (10, 0)]
