"""A small warehouse of one model, and everything beside it that a run of Dagster talks to."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from confluent_kafka import Producer
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from ingest.events import encode_label
from tests.dbt_project.drift_oracle import Model, Row
from tests.dbt_project.warehouse import Message, Warehouse
from tests.warehouse_fixtures import ClickHouseProcess

MODEL = Model(name="late", task="binary", types={"distance": "numeric"}, positive_label="yes")
MODEL_LINE = "late,binary,yes,0.5,1,0,20,,,"
GOOD_RULE = "nulls_rose,late,null_rate,all,*,day,>,0.5,1,1,1,error"
# A rule that can never be evaluated, so that a dbt test of severity error fails.
WRONG_RULE = "wrong,late,no_such_metric,all,,day,>,0.5,1,1,1,error"
LABEL_LAG = timedelta(hours=5)
_SYSTEM_VARIABLES = ("CLICKHOUSE_", "KAFKA_", "AWS_", "DRIFTLINE_", "DBT_", "DAGSTER_")


def yesterday() -> datetime:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=1)


def rows(count: int, first: datetime, seed: int) -> list[Row]:
    """Give rows of two days from `first` on, with scores that know something of the label."""
    numbers = random.Random(seed)  # noqa: S311 - made-up data
    found = []
    for number in range(count):
        score = numbers.random()
        found.append(
            Row(
                features={"distance": numbers.gauss(1000, 200)},
                at=first + timedelta(days=2) * number / count,
                score=score,
                label="yes" if numbers.random() < score else "no",
            )
        )
    return found


@dataclass
class SmallWarehouse:
    """A warehouse, a broker and AWS; `environment` is that of a process that uses them."""

    warehouse: Warehouse
    environment: dict[str, str]

    def set_rules(self, *lines: str) -> None:
        """Write the seeds anew with these monitors."""
        self.warehouse.configure({"models": [MODEL_LINE], "monitors": lines})

    @property
    def cloudwatch(self) -> Any:
        return self.client("cloudwatch")

    def client(self, service: str) -> Any:
        make: Any = boto3.client
        return make(
            service,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """Run librdkafka's mock broker in this process; give its address."""
    owner = Producer(
        {"bootstrap.servers": "127.0.0.1:0", "test.mock.num.brokers": 1, "log_level": 0}
    )
    address = next(iter(owner.list_topics(timeout=10).brokers.values()))
    for topic in ("predictions", "labels"):
        owner.list_topics(topic, timeout=10)
    yield f"{address.host}:{address.port}"
    del owner


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def small_warehouse(
    clickhouse_server: ClickHouseProcess,
    kafka_address: str,
    aws_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SmallWarehouse]:
    """Land a baseline, two days of predictions and their labels; nothing is built yet."""
    folder: Path = tmp_path_factory.mktemp("orchestrated")
    warehouse = Warehouse(
        clickhouse_server,
        folder,
        "orchestrated",
        seeds={"models": [MODEL_LINE], "monitors": [GOOD_RULE]},
    )
    first = yesterday() - timedelta(days=1)
    warehouse.register_baseline(MODEL, "1", rows(200, first - timedelta(days=30), seed=1))
    current = rows(400, first, seed=2)
    warehouse.land_rows(MODEL.name, "1", current)
    warehouse.land(
        Message(
            "labels",
            encode_label(
                prediction_id=f"{MODEL.name}-1-{number}",
                model_name=MODEL.name,
                label=row.label or "",
                observed_at=(row.at or first) + LABEL_LAG,
                source="test",
            ).value,
        )
        for number, row in enumerate(current)
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_SYSTEM_VARIABLES)
    } | {
        **{
            name: value
            for name, value in warehouse.environment.items()
            if name.startswith(("CLICKHOUSE_", "DRIFTLINE_"))
        },
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    yield SmallWarehouse(warehouse, environment)
    warehouse.close()
