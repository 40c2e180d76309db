"""The flights and the model, which are slow to make, once a session; clients of ClickHouse."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from sandbox import flights_data, flights_training
from tests.sandbox.clickhouse_http import PlainHttp
from tests.warehouse_fixtures import ClickHouseProcess


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    """Give every flight of 2013."""
    return flights_data.load_flights()


@pytest.fixture(scope="session")
def training_rows(flights: pd.DataFrame) -> pd.DataFrame:
    """Give the rows that the demo trains on."""
    return flights_data.training_rows(flights)


@pytest.fixture(scope="session")
def model(training_rows: pd.DataFrame) -> flights_training.TrainedModel:
    """Give the model of the demo."""
    return flights_training.train(training_rows)


@pytest.fixture
def client(clickhouse_server: ClickHouseProcess) -> Iterator[Any]:
    """Give an administrator's clickhouse-connect client."""
    client = clickhouse_server.client()
    yield client
    client.close()


@pytest.fixture
def database(client: Any) -> Iterator[str]:
    """Give the name of a database of the test's own."""
    name = f"d_{uuid.uuid4().hex[:12]}"
    client.command(f"create database {name} engine = Atomic")
    yield name
    client.command(f"drop database {name} sync")


@pytest.fixture
def table(admin_http: PlainHttp) -> Iterator[str]:
    """Give the name of an empty table of the test's own: a UInt32, b String."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    admin_http.query(f"create table {name} (a UInt32, b String) order by a")
    yield name
    admin_http.query(f"drop table if exists {name} sync")
