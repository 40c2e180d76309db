"""Apache Kafka and ClickHouse for tests that break them; topics and group are each test's own."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from ingest.batches import BatchLimits
from ingest.raw_tables import PREDICTION_EVENTS, create_raw_tables
from tests.ingest.conftest import Systems
from tests.ingest.loading import CAUGHT_UP, wait_for
from tests.kafka.cluster import KafkaCluster
from tests.warehouse_fixtures import ClickHouseProcess

PARTITIONS = 3
# Short, so that a loader that is silent is soon taken for dead.
SESSION_SECONDS = 3.0

Coordinate = tuple[int, int]


@dataclass
class FaultSystems(Systems):
    """Systems whose broker is Apache Kafka; knows which messages were acknowledged.

    `acknowledged` has the value of each (partition, offset) of the predictions' topic.
    """

    cluster: KafkaCluster = field(kw_only=True)
    acknowledged: dict[Coordinate, bytes] = field(default_factory=dict)
    _sent: int = 0

    @property
    def topic(self) -> str:
        return self.kafka.predictions_topic

    def send(self, count: int, partition: int | None = None) -> None:
        """Produce messages with ids of their own, and remember where Kafka put them."""
        partitions = range(PARTITIONS) if partition is None else [partition]
        for number in partitions:
            values: list[bytes | None] = []
            for _ in range(count // len(partitions)):
                self._sent += 1
                values.append(f"id-{self._sent}".encode())
            offsets = self.cluster.admin.produce(self.topic, values, partition=number)
            for offset, value in zip(offsets, values, strict=True):
                assert value is not None
                self.acknowledged[number, offset] = value

    def landed(self) -> dict[Coordinate, bytes]:
        """Give what is in the table; no coordinate is there twice."""
        rows = self.rows(f"select partition, offset, value from raw.{PREDICTION_EVENTS}")
        found = {(int(row[0]), int(row[1])): row[2].encode() for row in rows}
        assert len(found) == len(rows), "some landed twice"
        return found

    def assert_exact(self) -> None:
        """Assert that exactly what was acknowledged is in the table, once."""
        landed = self.landed()
        assert set(landed) == set(self.acknowledged)
        assert landed == self.acknowledged

    def load(self, **options: Any) -> Any:
        """Load what is there, as a loader that nothing happens to."""
        return self.loader(**options).run(CAUGHT_UP)

    def loader(self, **options: Any) -> Any:
        chosen = {"session_seconds": SESSION_SECONDS, "draw": lambda: 0.2, **options}
        return super().loader(**chosen)

    def through(self, port: int) -> None:
        """Reach ClickHouse on another port from now on."""
        self.environment["CLICKHOUSE_PORT"] = str(port)


class FaultyLoader:
    """A loader in a process of its own, which stops where it is told."""

    def __init__(
        self,
        systems: Systems,
        log: Path,
        point: str = "never",
        passes: int = 0,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *[sys.executable, "-m", "tests.ingest.crashing_loader", point, str(passes)],
                    *["--session", str(SESSION_SECONDS), *arguments],
                ],
                env={**systems.process_environment(), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    def wait_until_it_says(self, text: str) -> None:
        wait_for(lambda: self.says(text) or self.process.poll() is not None)
        assert self.says(text), self.log.read_text()

    def wait_until_suspended(self) -> None:
        status = psutil.Process(self.process.pid).status
        wait_for(lambda: status() == psutil.STATUS_STOPPED)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def loaders(tmp_path: Path) -> Iterator[Any]:
    """Give a function that starts loaders in processes; none outlives the test."""
    started: list[FaultyLoader] = []

    def start(systems: Systems, point: str = "never", passes: int = 0, *arguments: str) -> Any:
        log = tmp_path / f"loader-{len(started)}.log"
        started.append(FaultyLoader(systems, log, point, passes, *arguments))
        return started[-1]

    yield start
    for loader in started:
        loader.end()


def systems_on_kafka(
    server: ClickHouseProcess, cluster: KafkaCluster, replicas: int
) -> FaultSystems:
    name = uuid.uuid4().hex[:8]
    environment = {
        **server.environment(raw_database=f"raw_{name}"),
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
        "DRIFTLINE_PREDICTIONS_TOPIC": f"predictions_{name}",
        "DRIFTLINE_LABELS_TOPIC": f"labels_{name}",
        "DRIFTLINE_CONSUMER_GROUP": f"loader_{name}",
    }
    systems = FaultSystems(
        server, environment, server.client(autogenerate_session_id=False), cluster=cluster
    )
    create_raw_tables(systems.client, systems.raw_database)
    for topic in (systems.kafka.predictions_topic, systems.kafka.labels_topic):
        cluster.admin.create_topic(topic, PARTITIONS, replicas=replicas)
    return systems


@pytest.fixture
def systems(clickhouse_server: ClickHouseProcess, kafka: KafkaCluster) -> Iterator[FaultSystems]:
    """Give topics, a group and a raw database that no other test uses."""
    found = systems_on_kafka(clickhouse_server, kafka, 1)
    yield found
    kafka.heal()
    found.client.command(f"drop database if exists {found.raw_database} sync")
    found.client.close()


@pytest.fixture
def replicated(
    clickhouse_server: ClickHouseProcess, kafka_trio: KafkaCluster
) -> Iterator[FaultSystems]:
    """Like `systems`, on three nodes."""
    found = systems_on_kafka(clickhouse_server, kafka_trio, 3)
    yield found
    kafka_trio.heal()
    found.client.close()


@pytest.fixture
def mortal(tmp_path: Path, kafka: KafkaCluster) -> Iterator[FaultSystems]:
    """Like `systems`, with a ClickHouse of its own that the test may kill."""
    server = ClickHouseProcess(tmp_path / "clickhouse").start()
    # The port stays when the server comes back.
    server.arguments = ("--port", str(server.port))
    try:
        yield systems_on_kafka(server, kafka, 1)
    finally:
        kafka.heal()
        server.stop()


SMALL = BatchLimits(rows=50, age_seconds=0.1)
