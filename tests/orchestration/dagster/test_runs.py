"""Whole runs of the asset graph, on real systems: from a command and from the browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from confluent_kafka import Producer

from ingest.loader import StopWhen
from ingest.open_loader import open_loader
from orchestration.definitions import build_definitions
from orchestration.defs.archive.assets import event_archive
from orchestration.defs.systems import Systems
from orchestration.defs.verification.assets import landed_offsets
from orchestration.execution import materialize_all
from orchestration.instance import open_instance, prepare_instance
from sandbox.serving import LOOPBACK, free_port, servers
from tests.orchestration.dagster.conftest import GOOD_RULE, WRONG_RULE, SmallWarehouse, yesterday

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_DEADLINE_SECONDS = 420
BESIDE_DBT = {"loader_lag", "dbt_build", "cloudwatch_publication", "retraining_decisions"}


def test_publication_runs_although_a_dbt_test_failed(small_warehouse: SmallWarehouse) -> None:
    small_warehouse.set_rules(GOOD_RULE, WRONG_RULE)
    progress: list[tuple[int, int]] = []

    outcome = materialize_all(
        small_warehouse.environment, lambda done, of: progress.append((done, of))
    )

    assert not outcome.succeeded
    assert "fct_breaches: monitors_are_valid" in outcome.failed_checks
    # dbt's failure is the run's, in a step of its own that holds nothing up.
    assert list(outcome.failures) == ["dbt_verdict"]
    assert "unknown metric" in outcome.failures["dbt_verdict"]
    assert outcome.statuses["error"] == 1
    assert sum(outcome.statuses.values()) == progress[-1][1] == len(progress)
    assert outcome.materializations.keys() == BESIDE_DBT
    assert outcome.materializations["cloudwatch_publication"]["sent"] > 0
    sent = small_warehouse.cloudwatch.list_metrics(Namespace="Driftline")["Metrics"]
    assert "EvaluationsCompleted" in {metric["MetricName"] for metric in sent}
    # The run is in the instance that the UI reads, and no secret is in its metadata.
    with open_instance(small_warehouse.environment) as instance:
        run = instance.get_run_by_id(outcome.run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.FAILURE
        stored = json.dumps(outcome.materializations) + str(instance.all_logs(outcome.run_id))
    assert small_warehouse.environment["CLICKHOUSE_PASSWORD"] not in stored


def test_window_of_a_day_reaches_dbt(small_warehouse: SmallWarehouse) -> None:
    small_warehouse.set_rules(GOOD_RULE)
    day = yesterday()
    environment = prepare_instance(small_warehouse.environment)
    built = build_definitions(environment, Systems(environment))
    with mock.patch.dict(os.environ, environment, clear=True), open_instance(environment) as opened:
        result = built.resolve_job_def("recompute_days").execute_in_process(
            instance=opened,
            partition_key=f"{day:%Y-%m-%d}",
            run_config={"ops": {"dbt_for_days": {"config": {"select": ["segment_sets"]}}}},
        )
    assert result.success
    run_results = json.loads(
        (Path(environment["DRIFTLINE_HOME"]) / "dagster/dbt/target/run_results.json").read_text()
    )
    # What dbt itself says it was given.
    assert run_results["args"]["vars"] == {
        "recompute_from": f"{day:%Y-%m-%dT00:00:00Z}",
        "recompute_until": f"{day + timedelta(days=1):%Y-%m-%dT00:00:00Z}",
    }
    nodes = [one["unique_id"] for one in run_results["results"]]
    hooks = [f"operation.driftline.driftline-on-run-start-{number}" for number in range(2)]
    assert nodes == [*hooks, "seed.driftline.segment_sets"]


def test_archive_takes_what_has_landed_and_names_what_is_missing(
    small_warehouse: SmallWarehouse,
) -> None:
    s3 = small_warehouse.client("s3")
    s3.create_bucket(Bucket="archive-of-runs")
    environment = {
        **small_warehouse.environment,
        "DRIFTLINE_ARCHIVE_URL": "s3://archive-of-runs/raw",
    }

    def run() -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
        result = dg.materialize([event_archive], resources={"systems": Systems(environment)})
        assert result.success
        [made] = result.get_asset_materialization_events()
        [check] = result.get_asset_check_evaluations()
        metadata = made.materialization.metadata
        return {name: value.value for name, value in metadata.items()}, check

    figures, check = run()
    # 400 predictions and their labels landed on a day that is long over.
    assert (figures["archived_rows"], figures["archived_objects"], check.passed) == (800, 2, True)
    figures, check = run()
    assert (figures["archived_rows"], figures["objects"], check.passed) == (0, 2, True)

    [key, _] = [one["Key"] for one in s3.list_objects_v2(Bucket="archive-of-runs")["Contents"]]
    s3.delete_object(Bucket="archive-of-runs", Key=key)
    _, check = run()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert f"{key} is missing" in str(check.description)


def test_verification_names_what_landed_twice_and_what_is_missing(
    small_warehouse: SmallWarehouse,
) -> None:
    database = small_warehouse.environment["CLICKHOUSE_RAW_DATABASE"]
    table = f"{database}.prediction_events"
    client = small_warehouse.warehouse.server.client()

    def run(**other: str) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
        systems = Systems({**small_warehouse.environment, **other})
        result = dg.materialize([landed_offsets], resources={"systems": systems})
        assert result.success
        [made] = result.get_asset_materialization_events()
        [check] = result.get_asset_check_evaluations()
        metadata = made.materialization.metadata
        return {name: value.value for name, value in metadata.items()}, check

    # What another test has archived would be no gap here: the archive has it.
    client.command(f"truncate table {database}.archive_manifest")
    figures, check = run()
    assert (figures["rows"], figures["unexplained_gaps"], check.passed) == (800, 0, True)
    of_predictions = figures["partitions"].records[-1].data
    assert of_predictions["raw_table"] == "prediction_events"
    assert (of_predictions["rows"], of_predictions["last_offset"]) == (400, 399)

    client.command(f"create table {table}_kept as {table}")
    client.command(f"insert into {table}_kept select * from {table} where offset between 10 and 12")
    try:
        client.command(
            f"alter table {table} delete where offset between 10 and 12",
            settings={"mutations_sync": 2},
        )
        # Rows of a test are no messages of a broker: it is no witness, and without one it is said.
        for environment in ({}, {"KAFKA_BOOTSTRAP_SERVERS": ""}):
            figures, check = run(**environment)
            assert (figures["unexplained_gaps"], figures["duplicates"]) == (3, 0)
            assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
            assert "3 unexplained" in str(check.description)
        for _ in range(2):
            client.command(
                f"insert into {table} select * from {table}_kept",
                settings={"insert_deduplicate": 0},
            )
        figures, check = run()
        assert (figures["unexplained_gaps"], figures["duplicates"]) == (0, 3)
        assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
        assert "driftline verify" in str(check.description)
    finally:
        client.command(
            f"alter table {table} delete where offset between 10 and 12",
            settings={"mutations_sync": 2},
        )
        client.command(f"insert into {table} select * from {table}_kept")
        client.command(f"drop table {table}_kept sync")
        client.close()


def test_message_that_was_missed_fails_the_verification(small_warehouse: SmallWarehouse) -> None:
    environment = {
        **small_warehouse.environment,
        "CLICKHOUSE_RAW_DATABASE": "raw_of_missed",
        "DRIFTLINE_PREDICTIONS_TOPIC": "missed-predictions",
        "DRIFTLINE_LABELS_TOPIC": "missed-labels",
        "DRIFTLINE_CONSUMER_GROUP": "missed",
    }
    systems = Systems(environment)
    producer = Producer({"bootstrap.servers": environment["KAFKA_BOOTSTRAP_SERVERS"]})
    producer.list_topics("missed-labels", timeout=10)  # asking for a topic creates it
    for _ in range(10):
        producer.produce("missed-predictions", b"x", partition=0)
    assert producer.flush(30) == 0
    loader = open_loader(systems.kafka_settings(), systems.clickhouse_settings())
    assert loader.run(StopWhen(is_caught_up=True)).rows == 10
    with systems.clickhouse() as client:
        client.command(
            "alter table raw_of_missed.prediction_events delete where offset in (3, 4)",
            settings={"mutations_sync": 2},
        )
        result = dg.materialize([landed_offsets], resources={"systems": systems})
        client.command("drop database raw_of_missed sync")
    [check] = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "2 missed, 0 unexplained" in str(check.description)


@contextmanager
def served(environment: dict[str, str], log: Path) -> Iterator[str]:
    """Serve Dagster as `driftline up` does; give its address."""
    port = free_port(0, 0, "")
    processes = []
    try:
        with log.open("w") as output:
            for server in servers(port, 0):
                if not server.name.startswith("dagster"):
                    continue
                process = subprocess.Popen(
                    server.command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                processes.append(process)
        address = f"http://{LOOPBACK}:{port}"
        _wait_until(lambda: _answers(f"{address}/server_info"), log)
        yield address
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait_until(condition: Any, log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.2)


@pytest.fixture
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    return found


def test_materialize_all_from_the_browser_succeeds(
    small_warehouse: SmallWarehouse, chromium: str, tmp_path: Path
) -> None:
    from playwright.sync_api import sync_playwright

    small_warehouse.set_rules(GOOD_RULE)
    environment = prepare_instance(small_warehouse.environment)
    log = tmp_path / "dagster.log"
    with (
        open_instance(environment) as instance,
        served(environment, log) as address,
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        ) as browser,
    ):
        earlier = {run.run_id for run in instance.get_runs()}
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/asset-groups", wait_until="domcontentloaded")
        page.get_by_role("button", name="Materialize all").click(timeout=120_000)

        def new_runs() -> list[dg.DagsterRun]:
            return [run for run in instance.get_runs() if run.run_id not in earlier]

        _wait_until(lambda: new_runs() and all(run.is_finished for run in new_runs()), log)
        [run] = new_runs()
        page.goto(f"{address}/runs/{run.run_id}", wait_until="domcontentloaded")
        page.get_by_text("Success", exact=True).first.wait_for(timeout=60_000)

        assert run.status is dg.DagsterRunStatus.SUCCESS, log.read_text()[-4000:]
        made = {
            entry.dagster_event.asset_key.to_user_string()
            for entry in instance.all_logs(run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
            if entry.dagster_event and entry.dagster_event.asset_key
        }
        assert BESIDE_DBT | {"fct_predictions", "fct_breaches", "models"} <= made
        assert errors == []
    [row] = small_warehouse.warehouse.query(
        "select count() as rows from {database}.fct_predictions"
    )
    assert row["rows"] == 400
