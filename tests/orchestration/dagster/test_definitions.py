"""The definitions as they load: the graph's shape, schedules, the sensor; nothing is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.dbt_manifest import read_manifest
from orchestration.definitions import build_definitions
from orchestration.defs.archive.assets import ARCHIVE, event_archive
from orchestration.defs.archive.schedules import archive_daily
from orchestration.defs.retraining.assets import RETRAINING
from orchestration.defs.retraining.sensors import run_request
from orchestration.defs.systems import Systems
from orchestration.defs.verification.assets import LANDED_OFFSETS, landed_offsets
from orchestration.defs.verification.schedules import verify_landed_offsets_daily
from orchestration.instance import end_abandoned_runs, open_instance, prepare_instance

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
GROUPS = [
    *("loader", "raw", "configuration", "staging", "intermediate", "marts"),
    *("breaches", "retraining", "dbt", "cloudwatch", "archive"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give an environment without any system: loading needs none."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "DRIFTLINE_HOME": str(tmp_path_factory.mktemp("definitions"))}


@pytest.fixture(scope="module")
def manifest(environment: dict[str, str]) -> dict[str, Any]:
    return read_manifest(environment)


@pytest.fixture(scope="module")
def definitions(environment: dict[str, str], manifest: dict[str, Any]) -> dg.Definitions:
    return build_definitions(environment, Systems(environment, now=lambda: NOW))


def key(text: str) -> dg.AssetKey:
    return dg.AssetKey(text.split("/"))


def test_validation_is_clean(environment: dict[str, str], manifest: dict[str, Any]) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "dagster", "definitions", "validate"),
            *("-m", "orchestration.definitions"),
        ],
        env=prepare_instance(environment),
        cwd=environment["DRIFTLINE_HOME"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "All code locations passed validation." in said
    assert " WARNING" not in said


def test_every_node_of_the_project_is_an_asset_or_a_check(
    definitions: dg.Definitions, manifest: dict[str, Any]
) -> None:
    graph = definitions.resolve_asset_graph()
    nodes = manifest["nodes"].values()
    named = {node["name"] for node in nodes if node["resource_type"] in ("model", "seed")}
    assert len(named) > 60
    own = {"loader_lag", "dbt_build", "cloudwatch_publication", "retraining_decisions"}
    own |= {"event_archive", "landed_offsets"}
    assert {one.to_user_string() for one in graph.materializable_asset_keys} == named | own
    tests = {node["name"] for node in nodes if node["resource_type"] == "test"}
    assert len(tests) > 50
    assert {check.name for check in graph.asset_check_keys} == tests | {
        *("lag_is_small", "every_node_succeeded", "nothing_is_left", "archive_is_sound"),
        "each_offset_landed_once",
    }


def test_graph_leads_from_the_loader_to_the_publication(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    upstream = {one.to_user_string() for one in graph.get_ancestor_asset_keys(key("dbt_build"))}
    assert {"loader_lag", "raw/prediction_events", "int_predictions", "fct_breaches"} <= upstream
    assert graph.get(key("cloudwatch_publication")).parent_keys == {key("dbt_build")}
    # Every mart is behind the run of dbt that the publication waits for.
    marts = graph.asset_keys_for_group("marts")
    assert {one.to_user_string() for one in marts} <= upstream
    assert graph.get(key("raw/retraining_runs")).parent_keys == {RETRAINING}
    assert key("fct_breaches") in graph.get(RETRAINING).parent_keys
    events = {key("raw/prediction_events"), key("raw/label_events")}
    assert graph.get(ARCHIVE).parent_keys == events
    assert graph.get(LANDED_OFFSETS).parent_keys == events
    assert graph.get(key("raw/archive_manifest")).parent_keys == {ARCHIVE}


def test_groups_are_the_layers_and_what_is_done_with_them(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert {graph.get(one).group_name for one in graph.get_all_asset_keys()} == set(GROUPS)


def test_every_asset_has_owner_and_description(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    nodes = [graph.get(one) for one in graph.get_all_asset_keys()]
    assert [node.key for node in nodes if not node.owners or not node.description] == []


def test_jobs_schedules_and_sensors_are_these(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    jobs = {name for name in repository.job_names if not name.startswith("__")}
    assert jobs == {*("warehouse", "recompute_days", "retrain", "archive", "verify_landed_offsets")}
    schedules = {one.name: one.cron_schedule for one in repository.schedule_defs}
    assert schedules == {
        "follow_flights_delay": "0 * * * *",
        "archive_daily": "30 1 * * *",
        "verify_landed_offsets_daily": "30 2 * * *",
    }
    assert [one.name for one in repository.sensor_defs] == ["sustained_breaches"]
    partitions = repository.get_job("recompute_days").partitions_def
    assert partitions is not None
    assert partitions.get_first_partition_key() == "2024-01-01"
    assert repository.get_job("warehouse").partitions_def is None
    # What compares all rows that raw has is not run as often as labels come.
    of_warehouse = set(repository.get_job("warehouse").asset_layer.executable_asset_keys)
    assert not {ARCHIVE, LANDED_OFFSETS} & of_warehouse


def test_import_reads_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, orchestration.definitions\n"
        "print(sorted({'boto3', 'clickhouse_connect', 'confluent_kafka'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={"PATH": os.environ["PATH"], "DRIFTLINE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_manifest_is_parsed_again_only_when_the_project_changed(
    environment: dict[str, str], manifest: dict[str, Any]
) -> None:
    [path] = (Path(environment["DRIFTLINE_HOME"]) / "dagster").glob("manifest-*.json")
    marked = {**manifest, "marked": True}
    path.write_text(json.dumps(marked))
    assert read_manifest(environment)["marked"]
    # Relations have other names: another manifest.
    assert "marked" not in read_manifest({**environment, "CLICKHOUSE_DATABASE": "other"})


def test_schedule_names_the_remedy_where_there_is_no_warehouse(
    definitions: dg.Definitions, environment: dict[str, str]
) -> None:
    schedule = definitions.get_repository_def().get_schedule_def("follow_flights_delay")
    with (
        open_instance(environment) as instance,
        dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=NOW,
            resources={"systems": Systems(environment)},
        ) as context,
    ):
        found = schedule.evaluate_tick(context)
    assert found.run_requests == []
    assert "CLICKHOUSE_HOST is not set: start the sandbox" in str(found.skip_message)


def test_sensor_names_the_remedy_where_there_is_no_warehouse(
    definitions: dg.Definitions, environment: dict[str, str]
) -> None:
    [sensor] = definitions.get_repository_def().sensor_defs
    unreachable = {**environment, "CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": "1"}
    for systems, remedy in (
        (Systems(environment), "CLICKHOUSE_HOST is not set: start the sandbox"),
        (Systems(unreachable), "see that ClickHouse runs (driftline sandbox status)"),
    ):
        with (
            open_instance(environment) as instance,
            dg.build_sensor_context(instance=instance, resources={"systems": systems}) as context,
        ):
            found = sensor.evaluate_tick(context)
        assert found.run_requests == []
        assert remedy in str(found.skip_message)


@dataclass(frozen=True)
class Due:
    model_name: str
    breach_ids: tuple[str, ...]
    reason: str = "f1 fell"


def test_same_breaches_ask_for_retraining_once_a_day() -> None:
    request = run_request(Due("late", ("a", "b")), NOW)
    assert request.run_key == run_request(Due("late", ("b", "a")), NOW).run_key
    assert request.run_key != run_request(Due("late", ("a", "c")), NOW).run_key
    assert request.run_key != run_request(Due("late", ("a", "b")), NOW.replace(day=2)).run_key
    assert request.run_config["ops"]["retraining_decisions"]["config"] == {
        "model_name": "late",
        "trigger": "sensor",
    }


def test_unreachable_broker_is_a_clear_failure(
    definitions: dg.Definitions, environment: dict[str, str]
) -> None:
    from orchestration.defs.loader.assets import loader_lag

    result = dg.materialize(
        [loader_lag], resources={"systems": Systems(environment)}, raise_on_error=False
    )
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "KAFKA_BOOTSTRAP_SERVERS is not set" in str(failure.step_failure_data)


def test_archive_without_an_address_says_so_and_fails_nothing(environment: dict[str, str]) -> None:
    systems = Systems(environment)
    result = dg.materialize([event_archive], resources={"systems": systems})
    assert result.success
    [made] = result.get_asset_materialization_events()
    [check] = result.get_asset_check_evaluations()
    for said in (made.materialization.metadata["state"].value, check.description):
        assert "nothing is archived: DRIFTLINE_ARCHIVE_URL is not set" in str(said)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    with (
        open_instance(environment) as instance,
        dg.build_schedule_context(
            instance=instance, scheduled_execution_time=NOW, resources={"systems": systems}
        ) as context,
    ):
        found = archive_daily.evaluate_tick(context)
    assert found.run_requests == []
    assert "DRIFTLINE_ARCHIVE_URL is not set" in str(found.skip_message)


def test_archive_is_due_every_day_once(environment: dict[str, str]) -> None:
    systems = Systems({**environment, "DRIFTLINE_ARCHIVE_URL": "s3://bucket/prefix"})
    with (
        open_instance(environment) as instance,
        dg.build_schedule_context(
            instance=instance, scheduled_execution_time=NOW, resources={"systems": systems}
        ) as context,
    ):
        [request] = archive_daily.evaluate_tick(context).run_requests or []
    assert request.run_key == "2026-05-01"


def test_verification_is_due_every_day_once(environment: dict[str, str]) -> None:
    with (
        open_instance(environment) as instance,
        dg.build_schedule_context(instance=instance, scheduled_execution_time=NOW) as context,
    ):
        [request] = verify_landed_offsets_daily.evaluate_tick(context).run_requests or []
    assert request.run_key == "2026-05-01"


def test_verification_without_a_warehouse_names_the_remedy(environment: dict[str, str]) -> None:
    resources = {"systems": Systems(environment)}
    result = dg.materialize([landed_offsets], resources=resources, raise_on_error=False)
    [failure] = result.get_step_failure_events()
    assert "CLICKHOUSE_HOST is not set" in str(failure.step_failure_data)


def test_run_whose_process_was_killed_is_ended(environment: dict[str, str], tmp_path: Path) -> None:
    own = {**environment, "DRIFTLINE_HOME": str(tmp_path)}
    with open_instance(own) as instance:

        @dg.job(name="some")
        def some() -> None: ...

        def begun(process_id: int) -> str:
            tags = {"driftline/process": str(process_id)}
            run = instance.create_run_for_job(some, status=dg.DagsterRunStatus.STARTED, tags=tags)
            return str(run.run_id)

        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        killed, alive = begun(ended.pid), begun(os.getpid())
        assert end_abandoned_runs(instance) == [killed]
        runs = {run.run_id: run.status for run in instance.get_runs()}
    assert runs == {
        killed: dg.DagsterRunStatus.FAILURE,
        alive: dg.DagsterRunStatus.STARTED,
    }
