"""Service marts from raw events: against NumPy, in any cut into runs, over gaps, live."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.dbt_project.monitored_warehouse import (
    MODEL,
    MonitoredWarehouse,
    assert_same_marts,
    prediction,
)
from tests.warehouse_fixtures import ClickHouseProcess

START = datetime(2026, 1, 5, tzinfo=UTC)
KEY = ["model_name", "model_version", "window_start", "segment_key", "segment_value"]
MARTS = ("fct_service_daily", "fct_service_weekly", "fct_service_monthly")


@pytest.fixture(scope="module")
def shared_warehouse(
    clickhouse_server: ClickHouseProcess, tmp_path_factory: pytest.TempPathFactory
) -> MonitoredWarehouse:
    return MonitoredWarehouse(
        clickhouse_server,
        tmp_path_factory.mktemp("service"),
        "service_marts",
        [f"+{mart}" for mart in (*MARTS, "dim_models", "fct_predictions", "fct_rejected_events")]
        + ["rpt_service_live"],
    )


@pytest.fixture
def warehouse(shared_warehouse: MonitoredWarehouse) -> MonitoredWarehouse:
    shared_warehouse.empty()
    shared_warehouse.configure(segment_sets=[f"{MODEL},origin"])
    return shared_warehouse


def some_events(
    count: int, seed: int, *, version: str = "1", first: int = 0
) -> list[dict[str, Any]]:
    """Ten days of predictions; latencies span six orders of magnitude, some are absent or wrong."""
    generator = np.random.default_rng(seed)
    events = []
    for number in range(first, first + count):
        others: dict[str, Any] = {}
        if generator.random() < 0.9:
            others["latency_ms"] = float(np.exp(generator.normal(1, 3)))
        elif generator.random() < 0.5:
            others["latency_ms"] = -1.0
        if generator.random() < 0.1:
            others["status"] = "timeout"
        events.append(
            prediction(
                f"{version}-{number}",
                START + timedelta(seconds=int(generator.integers(0, 10 * 86_400))),
                {"distance": 1.0},
                version=version,
                segments={"origin": str(generator.choice(["EWR", "JFK"]))},
                **others,
            )
        )
    return events


def marts(warehouse: MonitoredWarehouse) -> dict[str, pd.DataFrame]:
    return {name: warehouse.mart(name, KEY) for name in MARTS}


def test_service_equals_numpy_on_the_same_events(warehouse: MonitoredWarehouse) -> None:
    events = [*some_events(1_500, 1), *some_events(500, 2, version="2")]
    warehouse.land(events)
    warehouse.build()
    frame = pd.DataFrame(events)
    frame["at"] = pd.to_datetime(frame["predicted_at"]).dt.tz_localize(None)
    frame["origin"] = [segments["origin"] for segments in frame["segments"]]
    for name, mart in marts(warehouse).items():
        assert set(mart["segment_value"]) == {"all", "EWR", "JFK"}
        for row in mart.to_dict("records"):
            of_model = frame[frame["at"].between(row["window_start"], row["window_end"], "left")]
            if row["segment_key"] == "origin":
                of_model = of_model[of_model["origin"] == row["segment_value"]]
            inside = of_model[of_model["model_version"] == row["model_version"]]
            seconds = (row["window_end"] - row["window_start"]).total_seconds()
            assert row["prediction_count"] == len(inside), (name, row)
            assert row["rate_per_second"] == pytest.approx(len(inside) / seconds, rel=1e-12)
            assert row["version_share"] == pytest.approx(len(inside) / len(of_model), rel=1e-12)
            assert row["error_count"] == (inside["status"] == "timeout").sum()
            assert row["last_predicted_at"] == inside["at"].max()
            latencies = inside["latency_ms"][inside["latency_ms"] >= 0]
            assert row["latency_count"] == len(latencies)
            assert row["latency_mean_ms"] == pytest.approx(latencies.mean(), rel=1e-9)
            for percent in (50, 95, 99):
                exact = np.percentile(latencies, percent, method="inverted_cdf")
                assert row[f"latency_p{percent}_ms"] == pytest.approx(exact, rel=0.01)


@pytest.mark.slow
@pytest.mark.thorough
def test_any_cut_into_runs_gives_the_service_of_one_run(warehouse: MonitoredWarehouse) -> None:
    """Late rows, a second version, a window that loses its only prediction to an earlier one."""
    events = some_events(300, 3)
    second = some_events(100, 4, version="2", first=1_000)
    # the last window holds this prediction alone, until the same id turns up two weeks earlier
    stray = prediction("stray", START + timedelta(days=40), {"distance": 1.0})
    earlier = prediction("stray", START + timedelta(days=3, hours=5), {"distance": 2.0})
    warehouse.land([*events, *second, stray, earlier])
    warehouse.build()
    at_once = marts(warehouse)

    warehouse.empty()
    warehouse.configure(segment_sets=[f"{MODEL},origin"])
    warehouse.land([*events[150:], stray])
    warehouse.build()
    gap = "select count() as days from {marts}.fct_service_daily where prediction_count = 0"
    assert warehouse.query(gap) == [{"days": 30}]
    warehouse.land([*second, *events[:200]])
    warehouse.build()
    warehouse.land([earlier, *events[100:120]])
    warehouse.build()
    assert_same_marts(marts(warehouse), at_once)

    warehouse.build()
    assert_same_marts(marts(warehouse), at_once)
    warehouse.build("--full-refresh")
    assert_same_marts(marts(warehouse), at_once)


def test_a_silent_day_is_a_row_of_the_active_version_only(warehouse: MonitoredWarehouse) -> None:
    days = {"1": (0, 3), "2": (0, 3)}
    warehouse.land(
        prediction(f"{version}-{day}", START + timedelta(days=day), {}, version=version)
        for version, both in days.items()
        for day in both
    )
    warehouse.build()
    rows = warehouse.query(
        "select model_version, toDayOfMonth(window_start) as day, error_rate, version_share, "
        "latency_p50_ms, last_predicted_at, reason from {marts}.fct_service_daily "
        "where prediction_count = 0 order by all"
    )
    undefined = {
        "error_rate": None,
        "version_share": None,
        "latency_p50_ms": None,
        "last_predicted_at": None,
        "reason": "no_predictions",
    }
    assert rows == [{"model_version": "1", "day": day, **undefined} for day in (6, 7)]
    model = warehouse.query("select model_versions, prediction_count from {marts}.dim_models")
    assert model == [{"model_versions": ["1", "2"], "prediction_count": 4}]


def test_live_view_counts_what_landed_since_without_a_run(warehouse: MonitoredWarehouse) -> None:
    warehouse.land(some_events(10, 5))
    warehouse.build()
    twice = prediction("twice", START, {}, latency_ms=4.0, status="timeout")
    broken = {**prediction("broken", START, {}), "predicted_at": "yesterday"}
    warehouse.land([twice, twice, broken])
    rows = warehouse.query(
        "select sum(prediction_count) as predictions, sum(error_count) as errors, "
        "sum(rejected_count) as rejected from {marts}.rpt_service_live "
        "where model_version = '1'"
    )
    timeouts = sum(event.get("status") == "timeout" for event in some_events(10, 5))
    assert rows == [{"predictions": 11, "errors": 1 + timeouts, "rejected": 1}]


def test_rows_of_one_day_are_read_without_the_others(warehouse: MonitoredWarehouse) -> None:
    """Both sides of the join prune, and what is absent is null under a reader's own settings."""
    events = [
        prediction(f"{month}-{day}", datetime(2026, month, day, 12, tzinfo=UTC), {})
        for month in (1, 2, 3, 4)
        for day in range(1, 29)
    ]
    label = {"schema_version": 1, "model_name": MODEL, "label": "yes", "source": "test"}
    warehouse.land([*events, events[0], {**events[1], "features": {"distance": 2.0}}])
    warehouse.land([{**events[2], "predicted_at": "soon"}, {"schema_version": 7}])
    warehouse.land(
        (
            {**label, "prediction_id": event["prediction_id"], "observed_at": observed_at}
            for event in events[::2]
            for observed_at in ("2026-05-01T00:00:00.000Z", "2026-05-02T00:00:00.000Z")
        ),
        table="label_events",
    )
    warehouse.build()
    # events of the last minutes are looked at again, and are still there once
    warehouse.build()
    first_days = warehouse.query(
        "select prediction_id, label, label_observed_at is null as is_unobserved, revision_count, "
        "duplicate_count from {marts}.fct_predictions where predicted_at < '2026-01-04' "
        "order by predicted_at settings join_use_nulls = 0"
    )
    columns = ("label", "is_unobserved", "revision_count", "duplicate_count")
    assert [tuple(row[column] for column in columns) for row in first_days] == [
        ("yes", 0, 1, 1),
        (None, 1, 0, 1),
        ("yes", 0, 1, 0),
    ]
    rejects = warehouse.query(
        "select reject_reason, count() as events from {marts}.fct_rejected_events "
        "group by reject_reason order by reject_reason"
    )
    assert rejects == [
        {"reject_reason": "invalid_predicted_at", "events": 1},
        {"reject_reason": "unsupported_schema_version", "events": 1},
    ]
    for condition in (
        "model_name = 'late' and model_version = '1' and predicted_hour >= '2026-03-05' "
        "and predicted_hour < '2026-03-06'",
        "predicted_at >= '2026-03-05' and predicted_at < '2026-03-06'",
    ):
        (plan,) = warehouse.client.query(
            "explain indexes = 1, json = 1 select label, count() "
            f"from {warehouse.name}.fct_predictions where {condition} group by label"
        ).result_rows
        reads = dict(_parts_read(json.loads(plan[0])[0]["Plan"]))
        for table in ("int_predictions", "int_labeled_predictions"):
            initial, selected = reads[f"{warehouse.name}.{table}"]
            assert initial >= 4, (table, condition)  # a partition a month
            assert selected <= initial // 4, (table, condition)


def _parts_read(plan: dict[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Give the parts before and after all indexes, by table."""
    if indexes := plan.get("Indexes"):
        parts = [index for index in indexes if "Initial Parts" in index]
        yield plan["Description"], (parts[0]["Initial Parts"], parts[-1]["Selected Parts"])
    for child in plan.get("Plans", []):
        yield from _parts_read(child)
