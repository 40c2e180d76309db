"""Schedules on a real ClickHouse: the lag that is observed decides the tick."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from orchestration.defs.schedules import observed_label_lag, schedule_of
from orchestration.defs.systems import Systems
from orchestration.instance import open_instance
from tests.warehouse_fixtures import ClickHouseProcess

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def systems(clickhouse_server: ClickHouseProcess, tmp_path: Path) -> Systems:
    client = clickhouse_server.client()
    client.command("create database if not exists lags")
    client.command(
        "create or replace table lags.fct_model_performance_daily (model_name String, "
        "segment_key String, window_start DateTime, label_lag_p95_seconds Nullable(Float64)) "
        "engine = MergeTree order by window_start"
    )
    client.command(
        "insert into lags.fct_model_performance_daily values "
        "('late', 'all', '2026-04-01', 7200), ('late', 'all', '2026-04-02', 18720), "
        "('late', 'all', '2026-04-03', 90000), ('late', 'all', '2026-04-04', null), "
        "('late', 'origin', '2026-04-04', 1), ('other', 'all', '2026-04-04', 1)"
    )
    client.close()
    return Systems(
        {
            **clickhouse_server.environment("lags", "raw"),
            "DRIFTLINE_HOME": str(tmp_path),
            "DRIFTLINE_TARGET": "sandbox",
        }
    )


def test_label_lag_is_the_median_of_days_with_labels(systems: Systems) -> None:
    settings = systems.clickhouse_settings()
    assert observed_label_lag(systems, settings, "late") == (18720.0, 3)
    assert observed_label_lag(systems, settings, "unknown") == (None, 0)


def test_schedule_runs_the_warehouse_when_it_never_ran(systems: Systems) -> None:
    with (
        open_instance(systems.variables()) as instance,
        dg.build_schedule_context(
            instance=instance, scheduled_execution_time=NOW, resources={"systems": systems}
        ) as context,
    ):
        request = schedule_of("late")(context)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "late/2026-05-01T12"
    assert request.tags["driftline/model"] == "late"
    assert "every 5 h" in request.tags["driftline/cadence"]
