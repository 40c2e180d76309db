"""ClickHouse that is killed, down, silent, busy, read-only, full, or not as it should be."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ingest.batches import BatchLimits
from ingest.loader import Loader
from ingest.raw_tables import PREDICTION_EVENTS
from tests.faults.conftest import SESSION_SECONDS, SMALL, FaultSystems, systems_on_kafka
from tests.faults.faulty_proxy import Fault, faulty_proxy
from tests.ingest.loading import running, wait_for
from tests.kafka.cluster import KafkaCluster
from tests.warehouse_fixtures import ClickHouseProcess

pytestmark = pytest.mark.faults


def everything_landed(systems: FaultSystems) -> None:
    wait_for(lambda: systems.landed().keys() == systems.acknowledged.keys())
    systems.assert_exact()


def has_failed_more_often(loader: Loader, before: int) -> bool:
    return loader.report.retries["connection"] > before


def kill(server: ClickHouseProcess) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_answers_that_are_lost_on_the_way(systems: FaultSystems, count: int) -> None:
    systems.send(600)
    direct = systems.clickhouse.port
    faults = [Fault("lose_answer")] * count
    with faulty_proxy(lambda: direct, PREDICTION_EVENTS, *faults) as proxy:
        systems.through(proxy.port)
        loader = systems.loader(limits=SMALL)
        with running(loader):
            everything_landed(systems)
        assert proxy.happened == faults
    systems.assert_exact()


def test_killed_in_the_middle_of_an_insert(mortal: FaultSystems) -> None:
    mortal.send(600)
    direct = mortal.server.port
    with faulty_proxy(lambda: direct, PREDICTION_EVENTS) as proxy:
        fault = Fault("cut", then=lambda: kill(mortal.server))
        mortal.through(proxy.port)
        loader = mortal.loader(limits=SMALL)
        proxy.faults.append(fault)
        with running(loader):
            wait_for(lambda: proxy.happened == [fault])
            wait_for(lambda: loader.report.retries["connection"] >= 2)
            mortal.server.start()
            everything_landed(mortal)


@pytest.mark.parametrize("rounds", [3])
def test_killed_again_and_again_while_rows_come(mortal: FaultSystems, rounds: int) -> None:
    loader = mortal.loader(limits=SMALL)
    with running(loader):
        for _ in range(rounds):
            failures = loader.report.retries["connection"]
            mortal.send(300)
            wait_for(lambda: loader.report.rows > 0)
            kill(mortal.server)
            mortal.send(300)
            wait_for(partial(has_failed_more_often, loader, failures))
            mortal.server.start()
        everything_landed(mortal)


def test_down_for_several_sessions(mortal: FaultSystems) -> None:
    """The loader keeps its place in the group, and its memory bounded, and lands all afterwards."""
    bound = 256 * 1024
    loader = mortal.loader(limits=SMALL, memory_bytes=bound, pause_after_seconds=0.05)
    group = mortal.kafka.consumer_group
    most = 0
    with running(loader):
        mortal.send(300)
        wait_for(lambda: loader.report.rows == 300)
        members = set(mortal.cluster.admin.members(group))
        kill(mortal.server)
        for _ in range(20):
            mortal.send(300)
            most = max(most, sum(each.buffered_bytes for each in loader.status().partitions))
            threading.Event().wait(SESSION_SECONDS / 5)
        assert set(mortal.cluster.admin.members(group)) == members
        assert loader.report.retries["connection"] > 0
        assert {each.state for each in loader.status().partitions} & {"waiting"}
        mortal.server.start()
        everything_landed(mortal)
    # What one turn may bring on top of the bound.
    assert 0 < most < bound + 10_000 * 500


def test_server_that_never_answers(systems: FaultSystems) -> None:
    systems.send(300)
    direct = systems.clickhouse.port
    faults = [Fault("hang")] * 4
    with faulty_proxy(lambda: direct, PREDICTION_EVENTS, *faults) as proxy:
        systems.through(proxy.port)
        loader = systems.loader(limits=SMALL, request_seconds=1)
        with running(loader):
            everything_landed(systems)
        assert proxy.happened == faults
        assert loader.report.retries["connection"] == len(faults)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (241, "MEMORY_LIMIT_EXCEEDED"),
        (202, "TOO_MANY_SIMULTANEOUS_QUERIES"),
        (252, "TOO_MANY_PARTS"),
        (242, "TABLE_IS_READ_ONLY"),
        (243, "NOT_ENOUGH_SPACE"),
    ],
)
def test_code_that_passes_by_itself_is_waited_out(
    systems: FaultSystems, code: int, name: str
) -> None:
    systems.send(300)
    direct = systems.clickhouse.port
    faults = [Fault("answer", code)] * 5
    with faulty_proxy(lambda: direct, PREDICTION_EVENTS, *faults) as proxy:
        systems.through(proxy.port)
        loader = systems.loader(limits=SMALL)
        with running(loader):
            everything_landed(systems)
        assert proxy.happened == faults
        assert loader.report.retries == {str(code): len(faults)}, name


def test_too_many_parts_for_real(systems: FaultSystems) -> None:
    table = f"{systems.raw_database}.{PREDICTION_EVENTS}"
    systems.client.command(f"system stop merges {table}")
    systems.client.command(
        f"alter table {table} modify setting parts_to_throw_insert = 3, parts_to_delay_insert = 0"
    )
    loader = systems.loader(limits=SMALL)
    with running(loader):
        systems.send(900)
        wait_for(lambda: loader.report.retries["252"] > 2)
        systems.client.command(f"alter table {table} modify setting parts_to_throw_insert = 3000")
        systems.client.command(f"system start merges {table}")
        everything_landed(systems)


def test_missing_table_halts_only_its_topic_and_recovers(systems: FaultSystems) -> None:
    table = f"{systems.raw_database}.{PREDICTION_EVENTS}"
    loader = systems.loader(limits=SMALL)
    with running(loader):
        systems.send(300)
        wait_for(lambda: loader.report.rows == 300)
        systems.client.command(f"rename table {table} to {table}_away")
        systems.send(300)

        def states(topic: str) -> set[str]:
            return {each.state for each in loader.status().partitions if each.topic == topic}

        wait_for(lambda: states(systems.topic) == {"halted"})
        labels = systems.kafka.labels_topic
        systems.cluster.admin.produce(labels, [b"label"] * 5)
        wait_for(lambda: len(systems.coordinates("label_events")) == 5)
        assert states(labels) == {"reading"}
        committed = systems.cluster.admin.committed(systems.kafka.consumer_group, systems.topic)
        assert sum(each.offset for each in committed.values()) == 300
        systems.client.command(f"rename table {table}_away to {table}")
        everything_landed(systems)
        assert states(systems.topic) == {"reading"}


def test_dropped_column_halts_and_recovers(systems: FaultSystems) -> None:
    table = f"{systems.raw_database}.{PREDICTION_EVENTS}"
    loader = systems.loader(limits=SMALL)
    with running(loader):
        systems.client.command(f"alter table {table} drop column headers")
        systems.send(300)
        wait_for(lambda: any(each.state == "halted" for each in loader.status().partitions))
        assert systems.landed() == {}
        systems.client.command(
            f"alter table {table} add column headers "
            "Array(Tuple(name String, value Nullable(String))) after key"
        )
        everything_landed(systems)


def test_older_data_directory_that_was_restored(mortal: FaultSystems, tmp_path: Path) -> None:
    loader = mortal.loader(limits=SMALL)
    with running(loader):
        mortal.send(300)
        wait_for(lambda: loader.report.rows == 300)
        mortal.server.stop()
        shutil.copytree(mortal.server.data, tmp_path / "backup", symlinks=True)
        mortal.server.start()
        mortal.send(300)
        wait_for(lambda: loader.report.rows == 600)
        mortal.server.stop()
        shutil.rmtree(mortal.server.data)
        shutil.move(tmp_path / "backup", mortal.server.data)
        mortal.send(300)
        mortal.server.start()
        assert len(mortal.landed()) <= 600
        everything_landed(mortal)
    assert loader.report.rereads >= 1


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk(tmp_path: Path, kafka: KafkaCluster) -> None:
    with small_disk(tmp_path / "disk"):
        server = ClickHouseProcess(tmp_path / "disk" / "data").start()
        ballast = tmp_path / "disk" / "ballast"
        try:
            systems = systems_on_kafka(server, kafka, 1)
            loader = systems.loader(limits=BatchLimits(rows=50, age_seconds=0.1))
            with running(loader):
                systems.send(300)
                everything_landed(systems)
                free = shutil.disk_usage(ballast.parent).free
                ballast.write_bytes(bytes(free))
                systems.send(300)
                wait_for(lambda: bool(loader.report.retries))
                ballast.unlink()
                everything_landed(systems)
        finally:
            server.stop()
