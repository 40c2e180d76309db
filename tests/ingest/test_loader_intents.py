"""What is declared before an insert, and what a next loader makes of it."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading

import pytest

from ingest.batches import Batch, BatchLimits, insert_token
from ingest.intents import Intent
from ingest.lag import LagReader
from ingest.landing import LandingError, Sink
from ingest.loader import StopWhen
from ingest.offsets import OffsetRange, StartPolicy
from ingest.raw_tables import PREDICTION_EVENTS, raw_table
from tests.ingest.conftest import Systems
from tests.ingest.loading import CAUGHT_UP, DEADLINE, committed_by_member, wait_for, wrapped


def test_insert_begins_only_once_its_intent_is_with_kafka(systems: Systems) -> None:
    systems.produce(systems.kafka.predictions_topic, [b"x"] * 70, partition=1)
    seen: list[tuple[Intent | None, Intent]] = []

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        with LagReader(systems.kafka) as reader:
            bounds = reader.bounds(batch.partition.topic, batch.partition.partition)
        assert bounds.committed is not None
        seen.append((Intent.read(bounds.committed, bounds.metadata), batch.intent))
        sink.insert(batch, token)

    loader, _ = wrapped(systems, insert, limits=BatchLimits(rows=30))
    loader.run(CAUGHT_UP)
    assert [(kept.first, kept.last) for _, kept in seen] == [(0, 29), (30, 59), (60, 69)]
    assert all(found == kept for found, kept in seen)
    with LagReader(systems.kafka) as reader:
        bounds = reader.bounds(systems.kafka.predictions_topic, 1)
    assert (bounds.committed, bounds.metadata) == (70, "")


def test_every_attempt_is_declared_anew(systems: Systems) -> None:
    """What was declared long ago may have been taken over since: each attempt asks for leave."""
    systems.produce(systems.kafka.predictions_topic, [b"x"] * 10, partition=1)
    crossed: list[str] = []

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        crossed.append("insert")
        if attempt <= 3:
            raise LandingError("too many parts", code=252, is_transient=True)
        sink.insert(batch, token)

    loader, _ = wrapped(systems, insert, crash_point=crossed.append)
    loader.run(CAUGHT_UP)
    attempt = ["before_intent", "after_intent", "insert"]
    assert crossed == [*attempt * 4, "after_insert", "after_commit"]


@pytest.mark.parametrize("crash_point", ["after_intent", "after_insert"])
def test_batch_of_a_killed_loader_is_cut_again_as_it_was(
    systems: Systems, crash_point: str
) -> None:
    """Another batch size, another day: the same offsets under the same token and date."""
    topic = systems.kafka.predictions_topic
    systems.produce(topic, [b"x"] * 250, partition=1)
    killed = subprocess.run(
        [sys.executable, "-m", "tests.ingest.crashing_loader", crash_point, "1"],
        env=systems.process_environment(),
        timeout=DEADLINE,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    with LagReader(systems.kafka) as reader:
        bounds = reader.bounds(topic, 1)
    assert bounds.committed == 100
    intent = Intent.read(bounds.committed, bounds.metadata)
    assert intent is not None
    assert (intent.first, intent.last, intent.row_count) == (100, 199, 100)

    batches: list[Batch] = []

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        batches.append(batch)
        sink.insert(batch, token)

    loader, tokens = wrapped(systems, insert, limits=BatchLimits(rows=7))
    report = loader.run(CAUGHT_UP)
    assert sorted(systems.coordinates()) == [(1, offset) for offset in range(250)]
    if crash_point == "after_insert":
        # All of it had landed, so there was nothing to repeat.
        assert batches[0].range.first == 200
        assert report.replayed == 0
    else:
        assert tokens[0] == insert_token(batches[0].partition, OffsetRange(100, 199))
        assert batches[0].batch_date == intent.batch_date
        assert report.replayed == 1
        assert all(len(batch) <= 7 for batch in batches[1:])


def test_insert_that_arrives_after_its_successor_adds_nothing(systems: Systems) -> None:
    """The loader was killed, its insert was still on the way."""
    systems.produce(systems.kafka.predictions_topic, [b"x"] * 250, partition=1)
    on_the_way: list[tuple[Sink, Batch, str]] = []

    def delayed(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        on_the_way.append((sink, batch, token))
        raise LandingError("no answer", code=None, is_transient=True)

    first, _ = wrapped(systems, delayed, limits=BatchLimits(rows=100))
    thread = threading.Thread(target=first.run)
    thread.start()
    wait_for(lambda: bool(on_the_way))
    first.stop()
    first.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    systems.loader().run(CAUGHT_UP)
    assert len(systems.coordinates()) == 250
    for _, batch, token in on_the_way:
        systems.sink().insert(batch, token)
    assert sorted(systems.coordinates()) == [(1, offset) for offset in range(250)]


@pytest.mark.parametrize("metadata", ["{"])
def test_foreign_commit_metadata_is_reported_and_ignored(
    systems: Systems, metadata: str, caplog: pytest.LogCaptureFixture
) -> None:
    systems.produce(systems.kafka.predictions_topic, [b"x"] * 50, partition=0)
    committed_by_member(systems, 0, 20, metadata)
    with caplog.at_level(logging.WARNING, logger="driftline.loader"):
        systems.loader().run(CAUGHT_UP)
    assert any("is ignored" in record.getMessage() for record in caplog.records)
    assert sorted(systems.coordinates()) == [(0, offset) for offset in range(50)]


def test_server_that_comes_back_with_older_data_is_filled_again(
    systems: Systems, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken connection, and behind it a table that has lost its last rows, of two partitions."""
    topic = systems.kafka.predictions_topic
    for partition in (0, 1):
        systems.produce(topic, [b"x"] * 30, partition=partition)
    table = raw_table(systems.raw_database, PREDICTION_EVENTS)
    is_restored = threading.Event()

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        if batch.partition.partition == 0 and batch.range.first >= 30 and not is_restored.is_set():
            systems.client.command(
                f"alter table {table} delete where offset >= 10 settings mutations_sync = 1"
            )
            is_restored.set()
            raise LandingError("connection refused", code=None, is_transient=True)
        sink.insert(batch, token)

    loader, _ = wrapped(systems, insert, limits=BatchLimits(age_seconds=0.1))
    thread = threading.Thread(target=loader.run, args=(StopWhen(idle_seconds=3.0),))
    with caplog.at_level(logging.ERROR, logger="driftline.loader"):
        thread.start()
        wait_for(lambda: loader.report.rows == 60)
        systems.produce(topic, [b"y"] * 5, partition=0)
        thread.join(DEADLINE)
    assert not thread.is_alive()
    assert is_restored.is_set()
    assert loader.report.rereads == 2
    assert "has lost rows" in caplog.text
    expected = [(0, offset) for offset in range(35)] + [(1, offset) for offset in range(30)]
    assert sorted(systems.coordinates()) == expected


def test_start_at_the_latest_offset_is_remembered(systems: Systems) -> None:
    topic = systems.kafka.predictions_topic
    systems.produce(topic, [b"before"] * 20, partition=2)
    systems.loader(start=StartPolicy.LATEST).run(CAUGHT_UP)
    assert systems.coordinates() == []
    systems.produce(topic, [b"after"] * 5, partition=2)
    systems.loader(start=StartPolicy.LATEST).run(CAUGHT_UP)
    assert sorted(systems.coordinates()) == [(2, offset) for offset in range(20, 25)]
