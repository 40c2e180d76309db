"""Marts that are built from restored events say what the marts said before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from driftline.settings import ArchiveSettings
from ingest.archive.object_store import ObjectStore
from ingest.archive.operations import Archive
from ingest.raw_tables import ARCHIVE_MANIFEST, LABEL_EVENTS, PREDICTION_EVENTS
from tests.dbt_project.conftest import Replay
from tests.dbt_project.mart_comparison import differences, read_marts
from tests.dbt_project.warehouse import Warehouse
from tests.ingest.archived_warehouse import s3_server

pytestmark = pytest.mark.slow

# Long after the day on which `Warehouse.land` lands.
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def archive_of(warehouse: Warehouse, url: str) -> Archive:
    make: Any = boto3.client
    s3 = make(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    s3.create_bucket(Bucket="archive")
    return Archive(
        warehouse.server.client(autogenerate_session_id=False),
        ObjectStore(s3, ArchiveSettings("archive", "")),
        warehouse.raw_database,
        clock=lambda: NOW,
    )


def raw_events(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Give how often each message is there, whatever its time of landing."""
    rows = warehouse.query(
        " union all ".join(
            f"select '{table}' as raw_table, * except (landed_at), count() as copies "
            f"from {warehouse.raw_database}.{table} group by all"
            for table in (PREDICTION_EVENTS, LABEL_EVENTS)
        )
    )
    return sorted(rows, key=repr)


def test_full_refresh_from_restored_events_gives_the_same_marts(replay: Replay) -> None:
    warehouse = replay.in_order
    before = raw_events(warehouse)
    with s3_server() as url:
        archive = archive_of(warehouse, url)
        archived = archive.run()
        for table in (PREDICTION_EVENTS, LABEL_EVENTS, ARCHIVE_MANIFEST):
            warehouse.client.command(f"drop table {warehouse.raw_database}.{table} sync")
        restored = archive.restore()
    assert restored.rows == archived.rows > 2000
    assert raw_events(warehouse) == before

    warehouse.run(full_refresh=True)
    assert differences(read_marts(warehouse), replay.expected) == []
