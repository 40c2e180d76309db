"""A client of the warehouse for ingest's inserts and look-ups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftline.clickhouse import clickhouse_client
from driftline.settings import ClickHouseSettings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


def connect(settings: ClickHouseSettings, *, timeout: int = 300) -> Client:
    """Connect to ClickHouse over HTTP; raises the client's error where it cannot be reached.

    The client has no session, so that several threads may share it. `timeout` is in seconds per
    request. It stays in the server's default database: every table is named in full.
    """
    return clickhouse_client(
        settings,
        # The account's own database, which exists even before the warehouse's do.
        database="__default__",
        send_receive_timeout=timeout,
        client_name="driftline",
        # Retries are the caller's, who asks the table first what has landed.
        query_retries=0,
        settings=dict(settings.cluster.client_settings) if settings.cluster else {},
    )
