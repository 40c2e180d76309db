"""AWS on moto, ClickHouse on chDB, both over real sockets."""

from __future__ import annotations

import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from ingest.raw_tables import create_raw_tables
from tests.orchestration.cloudwatch.mart_tables import MartTables
from tests.warehouse_fixtures import ClickHouseProcess


@pytest.fixture
def now() -> datetime:
    """The real day: moto keeps no data that is older than two weeks."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def cloudwatch(moto_url: str) -> Any:
    """Give a client of an empty CloudWatch."""
    reset = urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST")  # noqa: S310
    urllib.request.urlopen(reset).close()  # noqa: S310
    return boto3.client(
        "cloudwatch",
        endpoint_url=moto_url,
        region_name="eu-west-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"mode": "standard", "max_attempts": 1}),
    )


@pytest.fixture
def empty_warehouse(clickhouse_server: ClickHouseProcess) -> Iterator[MartTables]:
    """Give a database without marts, and a raw database with the outbox."""
    client = clickhouse_server.client(autogenerate_session_id=False)
    name = uuid.uuid4().hex[:12]
    tables = MartTables(client, f"marts_{name}", f"raw_{name}")
    client.command(f"create database {tables.database}")
    create_raw_tables(client, tables.raw_database)
    yield tables
    client.command(f"drop database {tables.database}")
    client.command(f"drop database {tables.raw_database}")
    client.close()


@pytest.fixture
def warehouse(empty_warehouse: MartTables, now: datetime) -> MartTables:
    """Give a database of empty marts that were computed just now."""
    empty_warehouse.create()
    empty_warehouse.record_builds(now)
    return empty_warehouse
