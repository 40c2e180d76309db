"""What a run does to what is built already: nothing without new rows, nothing lost when killed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from tests.dbt_project.conftest import MakeWarehouse, Replay
from tests.dbt_project.drift_oracle import Row
from tests.dbt_project.event_stories import land_happenings
from tests.dbt_project.mart_comparison import differences, read_marts
from tests.dbt_project.warehouse import Message, Warehouse

pytestmark = pytest.mark.slow
_DEADLINE = 180.0


def incremental_models(warehouse: Warehouse) -> list[str]:
    """Name the incremental models of the project that keep their rows, as dbt parsed it."""
    manifest = json.loads((warehouse.target / "manifest.json").read_text())
    return sorted(
        node["name"]
        for node in manifest["nodes"].values()
        if node["config"]["materialized"] == "incremental"
        and not node["config"]["full_refresh"]
        and node["name"] != "int_run_ledger"
    )


def contents(warehouse: Warehouse, models: Sequence[str]) -> dict[str, list[dict[str, object]]]:
    """Give the number of rows, their checksum and greatest version of each model."""
    return {
        model: warehouse.query(
            "select count() as rows, sum(cityHash64(toString(tuple(*)))) as checksum, "
            "max(run_version) as version "
            f"from {{database}}.{model}"
        )
        for model in models
    }


def land_part(replay: Replay, part: int, parts: int) -> None:
    """Land one of several parts of every story, each with some of everything."""
    for number, story in enumerate(replay.stories):
        chosen = story.happenings[(part + number) % parts :: parts]
        land_happenings(replay.warehouse, story, chosen)


def test_run_without_new_rows_touches_nothing(replay: Replay) -> None:
    models = incremental_models(replay.in_order)
    before = contents(replay.in_order, models)
    replay.in_order.run()
    assert contents(replay.in_order, models) == before
    assert differences(read_marts(replay.in_order), replay.expected) == []


def test_event_waits_for_every_model_that_reads_it(make_warehouse: MakeWarehouse) -> None:
    """However often events are judged anew meanwhile, and with no overlap that would hide a gap."""
    warehouse = make_warehouse("waiting_events", variables={"landing_overlap_minutes": 0})
    readers = ("int_predictions", "int_duplicate_predictions", "int_rejected_events")

    def read_by(model: str) -> int:
        [found] = warehouse.query(f"select count() as events from {{database}}.{model}")
        return int(found["events"])

    def land() -> None:
        warehouse.land_rows("shop", "1", [Row({"x": 1.0}, datetime(2025, 1, 1, tzinfo=UTC))])
        warehouse.land([Message("predictions", b"broken")])

    land()
    warehouse.run("--select", *(f"+{model}" for model in readers))
    land()
    warehouse.run("--select", "int_judged_prediction_events")
    land()
    warehouse.run("--select", "int_judged_prediction_events")
    warehouse.run("--select", "int_rejected_events")
    assert [read_by(model) for model in readers] == [1, 0, 3]
    land()
    warehouse.run("--select", "+int_rejected_events")
    warehouse.run("--select", *(f"+{model}" for model in readers))
    assert [read_by(model) for model in readers] == [1, 3, 4]


# Models that are killed while they insert; those of a round do not depend on one another.
ROUNDS = (
    ("int_predictions", "int_label_events", "int_rejected_events", "int_baseline_rows"),
    (
        "int_duplicate_predictions",
        "int_labeled_predictions",
        "int_feature_binning",
        "int_service_hourly",
        "int_topic_events_hourly",
        "int_clusters_hourly",
    ),
    (
        "int_baseline_histograms_daily",
        "int_baseline_histograms_hourly",
        "int_label_histograms_hourly",
        "int_performance_orphan_labels",
    ),
    ("int_baseline_histograms", "int_feature_histograms_hourly", "int_baseline_clusters"),
    ("int_baseline_psi", "int_feature_histograms_daily", "fct_service_daily"),
    (
        "fct_feature_drift_hourly",
        "fct_feature_drift_daily",
        "fct_feature_drift_monthly",
        "fct_data_quality_weekly",
        "int_performance_statistics",
    ),
)


@pytest.mark.thorough
def test_insert_that_was_cut_short_loses_nothing(replay: Replay) -> None:
    """In each round other models die with half of their rows written; new rows come in between."""
    warehouse = replay.warehouse
    warehouse.empty()
    warehouse.variables = {**replay.in_order.variables, "landing_overlap_minutes": 0}
    for part, models in enumerate(ROUNDS):
        land_part(replay, part, len(ROUNDS) + 1)
        warehouse.run("--select", *(f"+{model}" for model in models))
        for model in models:
            cut_short(warehouse, model)
        for table in warehouse.replacing_tables():
            # What was written twice must not be hidden by a merge that happens to come.
            warehouse.client.command(f"system stop merges {table}")
    land_part(replay, len(ROUNDS), len(ROUNDS) + 1)
    warehouse.run()
    assert differences(read_marts(warehouse), replay.expected) == []


def cut_short(warehouse: Warehouse, model: str) -> None:
    """Leave a model as one whose insert was killed: some blocks are there, its run is not."""
    [ledger] = warehouse.query(
        "select max(run_version) as version from {database}.int_run_ledger "
        "where model_name = {model:String}",
        model=model,
    )
    version = ledger["version"]
    assert version > 0, f"{model} has not run"
    columns = warehouse.query(
        "select name from system.columns where database = '{database}' and table = {model:String}",
        model=model,
    )
    every_column = ", ".join(row["name"] for row in columns)
    # Where merges are stopped, mutations wait.
    warehouse.client.command(f"system start merges {warehouse.database}.{model}")
    for table, condition in (
        (model, f"run_version = {version} and cityHash64(toString(({every_column}))) % 2 = 0"),
        ("int_run_ledger", f"run_version = {version} and model_name = '{model}'"),
    ):
        warehouse.client.command(
            f"alter table {warehouse.database}.{table} delete where {condition}",
            settings={"mutations_sync": 2},
        )


@pytest.mark.thorough
def test_killed_process_loses_nothing_and_leaves_nothing(replay: Replay) -> None:
    warehouse = replay.warehouse
    warehouse.empty()
    warehouse.variables = replay.in_order.variables
    last = ("int_predictions", "int_feature_histograms_hourly")
    for part, model in enumerate(last):
        land_part(replay, part, len(last) + 1)
        kill_after(warehouse, model)
    land_part(replay, len(last), len(last) + 1)
    warehouse.run()
    assert differences(read_marts(warehouse), replay.expected) == []
    leftovers = warehouse.query(
        "select name from system.tables "
        "where database = '{database}' and position(name, '__dbt_') > 0"
    )
    assert leftovers == []


def kill_after(warehouse: Warehouse, model: str) -> None:
    """Start dbt as a process and kill it as soon as it has completed a model."""
    before = completed(warehouse, model)
    process = warehouse.start_dbt("build")
    deadline = time.monotonic() + _DEADLINE
    try:
        while completed(warehouse, model) == before:
            assert process.poll() is None, f"dbt ended: {warehouse.process_log.read_text()}"
            assert time.monotonic() < deadline, f"{model} did not complete"
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()


def completed(warehouse: Warehouse, model: str) -> int:
    """Give the version of the last run that completed a model, 0 before the first."""
    [ledger] = warehouse.query(
        "select count() as tables from system.tables "
        "where database = '{database}' and name = 'int_run_ledger'"
    )
    if ledger["tables"] == 0:
        return 0
    [row] = warehouse.query(
        "select max(run_version) as version from {database}.int_run_ledger "
        "where model_name = {model:String}",
        model=model,
    )
    return int(row["version"])
