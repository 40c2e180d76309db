"""A full refresh of what reads raw events is refused while some are in the archive alone."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from ingest.archive.manifest import Manifest
from ingest.archive.ranges import ArchivedObject, EventRange
from ingest.offsets import OffsetRange, PartitionId
from ingest.raw_tables import ARCHIVE_MANIFEST, LABEL_EVENTS, PREDICTION_EVENTS
from tests.dbt_project.conftest import MakeWarehouse
from tests.dbt_project.warehouse import Message, Warehouse

# As `Warehouse.land` has it.
DAY = date(2026, 1, 1)
READERS = ("int_label_events", "int_predictions", "int_rejected_events")


@pytest.fixture(scope="module")
def warehouse(make_warehouse: MakeWarehouse) -> Warehouse:
    """Land ten broken messages of each topic, and build what keeps them."""
    made = make_warehouse("full_refresh")
    made.land(Message(topic, b"{") for topic in ("predictions", "labels") for _ in range(10))
    made.run("--select", "+int_rejected_events", "int_label_events")
    return made


def archive(warehouse: Warehouse, table: str, first: int, last: int) -> None:
    """Write the row of an object, as `driftline archive run` does."""
    topic = {PREDICTION_EVENTS: "predictions", LABEL_EVENTS: "labels"}[table]
    rows = EventRange(table, PartitionId("test", topic, "", 0), DAY, OffsetRange(first, last))
    Manifest(warehouse.client, warehouse.raw_database).record(
        [ArchivedObject(rows, last - first + 1, 1, "")], datetime.now(UTC)
    )


def drop(warehouse: Warehouse, table: str, condition: str) -> None:
    warehouse.client.command(
        f"alter table {warehouse.raw_database}.{table} delete where {condition}",
        settings={"mutations_sync": 2},
    )


def refusal(warehouse: Warehouse, *arguments: str) -> str:
    """Give why dbt refuses a full refresh; empty where it does not."""
    run = warehouse.dbt("build", "--full-refresh", *arguments)
    if run.success:
        return ""
    return str(run.exception) + " ".join(str(result.message) for result in run.result or [])


def rejected(warehouse: Warehouse) -> int:
    [row] = warehouse.query("select count() as found from {database}.int_rejected_events")
    return int(row["found"])


def test_full_refresh_is_refused_while_rows_are_in_the_archive_alone(warehouse: Warehouse) -> None:
    archive(warehouse, PREDICTION_EVENTS, 0, 4)
    archive(warehouse, LABEL_EVENTS, 0, 6)
    drop(warehouse, LABEL_EVENTS, "`offset` = 3")

    said = refusal(warehouse)
    assert "would lose history: raw lacks rows of 1 archived objects" in said
    assert "of the days 2026-01-01 to 2026-01-01" in said
    assert "driftline archive restore --from 2026-01-01 --to 2026-01-01" in said
    assert all(reader in said for reader in READERS)
    # Not one model was begun.
    assert rejected(warehouse) == 20
    built = warehouse.query("select name from system.tables where database = '{database}'")
    assert "fct_breaches" not in {row["name"] for row in built}

    # What does not read raw events loses nothing.
    assert refusal(warehouse, "--select", "models", "int_rejected_events_latest") == ""

    # Rows that came later on an archived day stand in for none that are gone.
    drop(warehouse, PREDICTION_EVENTS, "`offset` < 5")
    warehouse.land(Message("predictions", b"{", offset=offset) for offset in range(10, 15))
    refresh = ("--select", "int_rejected_events")
    said = refusal(warehouse, *refresh)
    assert "a full refresh of int_rejected_events would lose history" in said
    assert "rows of 2 archived objects" in said

    assert refusal(warehouse, *refresh, "--vars", "{allow_partial_history: true}") == ""
    assert rejected(warehouse) == 19


def test_full_refresh_needs_no_manifest(warehouse: Warehouse) -> None:
    warehouse.client.command(f"drop table {warehouse.raw_database}.{ARCHIVE_MANIFEST} sync")
    assert refusal(warehouse, "--select", "int_rejected_events") == ""
