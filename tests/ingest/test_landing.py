"""One block an insert, and tokens that hold."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from ingest.batches import Batch
from ingest.landing import ClickHouseSink, LandingError, PacedSink, land_exactly_once
from ingest.messages import message_block
from ingest.offsets import OffsetRange, PartitionId
from ingest.raw_tables import PREDICTION_EVENTS, create_raw_tables
from tests.ingest.conftest import Systems

PARTITION = PartitionId("cluster", "predictions", "id", 0)


def batch(rows: int, first: int = 0) -> Batch:
    return Batch(
        partition=PARTITION,
        batch_date=date(2026, 11, 22),
        blocks=(
            message_block(
                offsets=range(first, first + rows),
                timestamps=[1_800_000_000_000] * rows,
                keys=[b"k"] * rows,
                headers=[()] * rows,
                values=[b"v" * 500] * rows,
            ),
        ),
    )


@pytest.fixture
def sink(systems: Systems) -> ClickHouseSink:
    create_raw_tables(systems.client, systems.raw_database)
    create_raw_tables(systems.client, systems.raw_database)  # again: nothing changes
    return ClickHouseSink(systems.client, systems.raw_database, {"predictions": PREDICTION_EVENTS})


def test_large_batch_is_one_part_and_its_token_holds(
    systems: Systems, sink: ClickHouseSink
) -> None:
    large = batch(100_000)
    for _ in range(3):
        sink.insert(large, large.token)
    parts = systems.rows(
        f"""select rows from system.parts where active and level = 0
        and database = '{systems.raw_database}' and table = '{PREDICTION_EVENTS}'"""
    )
    assert parts == [(100_000,)]


def test_landed_offsets_are_those_of_the_partition(systems: Systems, sink: ClickHouseSink) -> None:
    assert sink.landed_last(PARTITION) is None
    sink.insert(batch(10, first=5), "a")
    assert sink.landed_last(PARTITION) == 14
    assert sorted(sink.missing(PARTITION, range(3, 17))) == [3, 4, 15, 16]
    assert sorted(sink.missing(PARTITION, [1, 7, 20])) == [1, 20]
    assert not sink.missing(PARTITION, range(5, 15))
    assert sorted(sink.missing(PARTITION, [30, 31])) == [30, 31]
    for other in (
        PartitionId("other", "predictions", "id", 0),
        PartitionId("cluster", "predictions", "other", 0),
        PartitionId("cluster", "predictions", "id", 1),
    ):
        assert sink.landed_last(other) is None


def test_rows_that_never_appear_are_not_believed() -> None:
    with pytest.raises(LandingError, match="acknowledged 4 times") as caught:
        land_exactly_once(range(3), "token", missing=lambda: range(3), insert=lambda *_: None)
    assert caught.value.is_transient


def test_gap_is_recorded_once(systems: Systems, sink: ClickHouseSink) -> None:
    for _ in range(2):
        sink.record_gap(PARTITION, OffsetRange(3, 9), "retention")
    assert systems.rows("select partition, first_offset, last_offset from raw.offset_gaps") == [
        (0, 3, 9)
    ]


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [
        (OperationalError("connection refused"), True),
        (OSError("reset"), True),
        (DatabaseError("too many parts", code=252), True),
        (DatabaseError("memory", code=241), True),
        (DatabaseError("no such table", code=60), False),
        (OperationalError("read-only", code=242), True),
        (DatabaseError("bad gateway"), True),
    ],
)
def test_failure_is_told_apart_by_code(error: Exception, is_transient: bool) -> None:
    assert isinstance(error, DatabaseError | OSError)
    found = LandingError.of(error, "insert of predictions[0]")
    assert found.is_transient == is_transient
    assert str(found).startswith("insert of predictions[0]: ")


def test_missing_table_is_not_transient(systems: Systems, sink: ClickHouseSink) -> None:
    systems.client.command(f"drop table {systems.raw_database}.{PREDICTION_EVENTS} sync")
    with pytest.raises(LandingError, match="UNKNOWN_TABLE") as caught:
        sink.insert(batch(1), "t")
    assert not caught.value.is_transient


def test_paced_sink_keeps_its_rate(sink: ClickHouseSink) -> None:
    waited: list[float] = []
    paced = PacedSink(sink, rows_per_second=100, clock=lambda: 50.0, pause=waited.append)
    for first in (0, 10, 30):
        paced.insert(batch(10, first=first), f"t{first}")
    assert waited == pytest.approx([0.0, 0.1, 0.2])


def test_command_migrates_twice(systems: Systems) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "driftline", "migrate"],
            env=systems.process_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "next: driftline load" in done.stdout
    tables = systems.column(
        f"select name from system.tables where database = '{systems.raw_database}'"
    )
    assert set(tables) == {
        "prediction_events",
        "label_events",
        "offset_gaps",
        "baselines",
        "baseline_rows",
        "retraining_runs",
        "metric_publications",
        "archive_manifest",
        "replays",
        "erasures",
    }
