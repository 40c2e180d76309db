"""The small marts on a real server, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dashboard.warehouse import Warehouse, connect_as_analyst
from tests.dashboard import small_marts
from tests.warehouse_fixtures import ClickHouseProcess

DATABASE = "dashboard_marts"
EMPTY_DATABASE = "dashboard_empty"


@pytest.fixture(scope="session")
def marts(clickhouse_server: ClickHouseProcess) -> dict[str, str]:
    """Give the environment of the analyst whose database holds the small marts."""
    client = clickhouse_server.client()
    try:
        small_marts.create_empty_marts(client, DATABASE)
        small_marts.create_empty_marts(client, EMPTY_DATABASE)
        small_marts.fill(client, DATABASE)
    finally:
        client.close()
    return _environment(clickhouse_server, DATABASE)


@pytest.fixture
def empty_marts(marts: dict[str, str]) -> dict[str, str]:
    """Give the environment of a warehouse whose marts are built and have no rows."""
    return {**marts, "CLICKHOUSE_DATABASE": EMPTY_DATABASE}


@pytest.fixture
def warehouse(marts: dict[str, str]) -> Iterator[Warehouse]:
    """Give the small marts as the page reads them."""
    opened = Warehouse(lambda: connect_as_analyst(marts), lambda: 0.0)
    yield opened
    opened.close()


def _environment(server: ClickHouseProcess, database: str) -> dict[str, str]:
    # A target of its own: no sandbox of this machine is looked for.
    return {**server.environment(database), "DRIFTLINE_TARGET": "prod"}
