"""A mock broker and S3 for all ingest tests; topics, raw database and bucket are a test's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from confluent_kafka import Producer
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from driftline.settings import ClickHouseSettings, KafkaSettings
from ingest.landing import ClickHouseSink
from ingest.loader import Loader
from ingest.open_loader import open_loader, topic_tables
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS, create_raw_tables
from ingest.warehouse import connect
from tests.warehouse_fixtures import ClickHouseProcess

PARTITIONS = 4
# The mock broker lets a group wait for a session's length (less a second) whenever a member has
# left. It is that of the member that left: one that joins meanwhile with a shorter session is
# thrown out before it gets an answer, and asks again only after minutes. So all have this one.
SESSION_SECONDS = 4.0


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """Run librdkafka's mock broker in this process; give its address."""
    owner = Producer(
        {"bootstrap.servers": "127.0.0.1:0", "test.mock.num.brokers": 1, "log_level": 0}
    )
    address = next(iter(owner.list_topics(timeout=10).brokers.values()))
    yield f"{address.host}:{address.port}"
    del owner


@dataclass
class Systems:
    """The broker and the warehouse as one test sees them."""

    server: ClickHouseProcess
    environment: dict[str, str]
    client: Any

    @property
    def kafka(self) -> KafkaSettings:
        return KafkaSettings.from_environment(self.environment)

    @property
    def clickhouse(self) -> ClickHouseSettings:
        return ClickHouseSettings.from_environment(self.environment)

    @property
    def raw_database(self) -> str:
        return self.clickhouse.raw_database

    def process_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "DRIFTLINE_HOME": str(self.server.data / "none")}

    def loader(self, **options: Any) -> Loader:
        return open_loader(
            self.kafka, self.clickhouse, **{"session_seconds": SESSION_SECONDS, **options}
        )

    def sink(self) -> ClickHouseSink:
        return ClickHouseSink(self.client, self.raw_database, topic_tables(self.kafka))

    def produce(self, topic: str, values: list[bytes | None], partition: int | None = None) -> None:
        producer = Producer(
            {"bootstrap.servers": self.kafka.bootstrap_servers, "enable.idempotence": True}
        )
        for value in values:
            producer.produce(topic, value, partition=-1 if partition is None else partition)
            producer.poll(0)
        assert producer.flush(30) == 0

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return list(
            self.client.query(statement.replace("raw.", f"{self.raw_database}.")).result_rows
        )

    def column(self, statement: str) -> list[Any]:
        return [row[0] for row in self.rows(statement)]

    def prediction_ids(self) -> list[str]:
        return self.column(
            f"select JSONExtractString(value, 'prediction_id') from raw.{PREDICTION_EVENTS}"
        )

    def label_ids(self) -> list[str]:
        return self.column(
            f"select JSONExtractString(value, 'prediction_id') from raw.{LABEL_EVENTS}"
        )

    def coordinates(self, table: str = PREDICTION_EVENTS) -> list[tuple[int, int]]:
        return [
            (int(p), int(o)) for p, o in self.rows(f"select partition, offset from raw.{table}")
        ]


def systems_on(server: ClickHouseProcess, broker: str) -> Systems:
    name = uuid.uuid4().hex[:8]
    environment = {
        **server.environment(raw_database=f"raw_{name}"),
        "KAFKA_BOOTSTRAP_SERVERS": broker,
        "DRIFTLINE_PREDICTIONS_TOPIC": f"predictions_{name}",
        "DRIFTLINE_LABELS_TOPIC": f"labels_{name}",
        "DRIFTLINE_CONSUMER_GROUP": f"loader_{name}",
    }
    found = Systems(server, environment, server.client(autogenerate_session_id=False))
    if cluster := found.clickhouse.cluster:
        found.client = connect(found.clickhouse)
        create_raw_tables(found.client, found.raw_database, cluster.name)
    owner = Producer({"bootstrap.servers": broker})
    for topic in (found.kafka.predictions_topic, found.kafka.labels_topic):
        owner.list_topics(topic, timeout=10)  # asking for a topic creates it
    return found


@pytest.fixture
def systems(
    clickhouse_server: ClickHouseProcess, broker: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Systems]:
    """Give topics, a group and a raw database that no other test uses."""
    found = systems_on(clickhouse_server, broker)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    yield found
    found.client.command(f"drop database if exists {found.raw_database} sync")
    found.client.close()


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """Run moto's S3 in this process; give its address."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a bucket of the environment's own account."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_url,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"files-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    return boto3.resource("s3").Bucket(name)
