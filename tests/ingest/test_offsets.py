"""Decisions about offsets: pure, so tested by property and by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.batches import Batch, BatchBuilder, BatchLimits, insert_token
from ingest.intents import Intent, IntentError
from ingest.messages import message_block
from ingest.offsets import (
    Insert,
    OffsetError,
    OffsetRange,
    PartitionId,
    Repair,
    Skip,
    Start,
    StartPolicy,
    decide,
    decide_start,
    full_jitter,
)

PARTITION = PartitionId("cluster", "predictions", "topic-id", 3)
TODAY = date(2026, 11, 22)


def test_range_counts_both_ends() -> None:
    offsets = OffsetRange(5, 7)
    assert (len(offsets), offsets.end, str(offsets)) == (3, 8, "5-7")
    assert 5 in offsets
    assert 7 in offsets
    assert 8 not in offsets


@pytest.mark.parametrize(("first", "last"), [(3, 2), (-1, 2)])
def test_range_refuses_wrong_order(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="not a range"):
        OffsetRange(first, last)


def test_token_names_cluster_topic_partition_and_offsets() -> None:
    assert insert_token(PARTITION, OffsetRange(5, 7)) == "cluster/topic-id/3/5-7"
    without_id = PartitionId("cluster", "predictions", "", 3)
    assert insert_token(without_id, OffsetRange(5, 7)) == "cluster/predictions/3/5-7"


@given(
    offsets=st.sets(st.integers(0, 1000), min_size=1),
    landed=st.sets(st.integers(0, 1000)),
    inserts=st.integers(0, 3),
)
def test_decision_lands_each_offset_exactly_once(
    offsets: set[int], landed: set[int], inserts: int
) -> None:
    match decide(sorted(offsets), offsets - landed, "token", inserts=inserts):
        case Insert(token):
            assert token == "token"
            assert inserts == 0
            inserted = offsets
        case Skip():
            inserted = set()
        case Repair(token, missing):
            assert token.startswith("token/repair-")
            inserted = set(missing)
    assert not inserted & landed
    assert offsets <= inserted | landed


def test_repair_token_differs_for_other_offsets_and_other_tries() -> None:
    decisions = [
        decide([1, 2, 3], {2, 3}, "token"),
        decide([1, 2, 3], {1, 3}, "token"),
        decide([1, 2, 3], {1, 3}, "token", inserts=1),
        decide([1, 2, 3], {1, 2, 3}, "token", inserts=1),
        decide([1, 2, 3], {1, 2, 3}, "token", inserts=2),
    ]
    tokens = {decision.token for decision in decisions if isinstance(decision, Repair)}
    assert len(tokens) == len(decisions)
    assert decide([1, 2, 3], [3, 2], "token") == decisions[0]


@pytest.mark.parametrize(
    ("landed_last", "low", "high", "expected"),
    [
        (None, 0, 10, Start(0, None)),
        (None, 4, 10, Start(4, None)),
        (6, 0, 10, Start(7, None)),
        (9, 0, 10, Start(10, None)),
        (6, 9, 12, Start(9, OffsetRange(7, 8))),
        (6, 12, 12, Start(12, OffsetRange(7, 11))),
    ],
)
def test_start_follows_the_table_and_names_what_is_gone(
    landed_last: int | None, low: int, high: int, expected: Start
) -> None:
    assert decide_start(PARTITION, landed_last=landed_last, low=low, high=high) == expected


def test_start_refuses_a_log_shorter_than_what_landed() -> None:
    with pytest.raises(OffsetError, match=r"predictions\[3\]: offset 20 has landed"):
        decide_start(PARTITION, landed_last=20, low=0, high=10)


def messages_at(offsets: Sequence[int], value: bytes | None = b"x") -> pa.RecordBatch:
    count = len(offsets)
    times = [1000 + offset for offset in offsets]
    return message_block(offsets, times, [None] * count, [()] * count, [value] * count)


def add(builder: BatchBuilder, *offsets: int, now: float = 0.0) -> list[Batch]:
    return builder.add(messages_at(offsets), now, TODAY)


def test_batch_is_due_when_its_first_message_is_old() -> None:
    builder = BatchBuilder(PARTITION, BatchLimits(rows=10, bytes=100, age_seconds=1.0))
    assert not builder.is_due(now=99.0)
    assert add(builder, 5, now=10.0) == []
    assert add(builder, 6, now=10.9) == []
    assert not builder.is_due(now=10.99)
    assert builder.is_due(now=11.0)
    batch = builder.take(TODAY)
    assert (list(batch.offsets), batch.range, batch.batch_date) == (
        [5, 6],
        OffsetRange(5, 6),
        TODAY,
    )
    assert len(builder) == 0
    assert not builder.is_due(now=99.0)


@pytest.mark.parametrize(("rows", "most_bytes"), [(2, 100), (10, 2)])
def test_batch_is_due_when_rows_or_bytes_are_reached(rows: int, most_bytes: int) -> None:
    builder = BatchBuilder(PARTITION, BatchLimits(rows=rows, bytes=most_bytes, age_seconds=9.0))
    assert add(builder, 5) == []
    assert not builder.is_due(now=0.0)
    completed = add(builder, 6, 7, 8, 9)
    assert [batch.offsets for batch in completed] == [[5, 6], [7, 8]]
    assert [batch.payload_bytes for batch in completed] == [2, 2]
    assert len(builder) == 1


def test_batch_waits_longer_while_the_log_holds_as_much_again() -> None:
    limits = BatchLimits(age_seconds=1.0, lagging_age_seconds=5.0)
    builder = BatchBuilder(PARTITION, limits)
    add(builder, 1, 2, 3, now=10.0)
    assert builder.is_due(11.0, behind=2)
    assert not builder.is_due(14.9, behind=3)
    assert builder.is_due(14.9, behind=3, is_at_end=True)
    assert builder.is_due(15.0, behind=3)


def test_batch_goes_as_it_is_when_memory_is_short() -> None:
    builder = BatchBuilder(PARTITION, BatchLimits())
    assert not builder.is_due(0.0, is_pressed=True)
    add(builder, 1)
    assert not builder.is_due(0.0)
    assert builder.is_due(0.0, is_pressed=True)


@given(st.lists(st.integers(0, 500), min_size=1, unique=True).map(sorted), st.data())
def test_part_of_a_batch_keeps_columns_together(offsets: list[int], data: st.DataObject) -> None:
    columns = {
        offset: (
            1000 + offset,
            None if offset % 2 else b"k",
            [{"name": b"n", "value": str(offset).encode()}] * (offset % 3),
            None if offset % 3 == 0 else str(offset).encode(),
        )
        for offset in offsets
    }
    messages = message_block(
        offsets,
        [columns[offset][0] for offset in offsets],
        [columns[offset][1] for offset in offsets],
        [[("n", header["value"]) for header in columns[offset][2]] for offset in offsets],
        [columns[offset][3] for offset in offsets],
    )
    builder = BatchBuilder(PARTITION, BatchLimits())
    begin = 0
    for end in sorted({*data.draw(st.lists(st.integers(1, len(offsets)))), len(offsets)}):
        builder.add(messages.slice(begin, end - begin), 0.0, TODAY)
        begin = end
    batch = builder.take(TODAY)
    kept = set(data.draw(st.lists(st.sampled_from(offsets), min_size=1)))
    for part, expected in ((batch, offsets), (batch.only(kept), sorted(kept))):
        assert part.offsets == expected
        assert len(part) == len(expected)
        assert (part.range.first, part.range.last) == (expected[0], expected[-1])
        rows = part.messages().to_pylist()
        for offset, row in zip(expected, rows, strict=True):
            timestamp, key, headers, value = columns[offset]
            assert round(row["kafka_timestamp"].timestamp() * 1000) == timestamp
            assert (row["key"], row["headers"], row["value"]) == (key, headers, value)
        assert part.payload_bytes == sum(
            len(row["key"] or b"") + len(row["value"] or b"") for row in rows
        )


@given(attempt=st.integers(1, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_backoff_stays_below_its_doubling_bound(attempt: int, draw: float) -> None:
    seconds = full_jitter(attempt, draw)
    assert 0 <= seconds <= min(30.0, 0.5 * 2 ** min(attempt - 1, 100))


def intent_of(first: int, last: int, *, topic_id: str = "topic-id", rows: int = 1) -> Intent:
    return Intent(topic_id, first, last, rows, date(2026, 11, 21))


def test_intent_survives_the_broker() -> None:
    intent = intent_of(40, 99, rows=60)
    assert Intent.read(40, intent.metadata()) == intent
    assert Intent.read(40, "") is None
    assert len(intent.metadata()) < 200  # brokers take 4096 bytes by default


@pytest.mark.parametrize(
    "metadata",
    [
        "{",
        "[]",
        "12",
        "somebody else's",
        '{"v":2,"t":"t","l":9,"n":1,"d":"2026-11-21"}',
        '{"v":1,"t":"t","l":3,"n":1,"d":"2026-11-21"}',
        '{"v":1,"t":"t","l":9,"n":0,"d":"2026-11-21"}',
        '{"v":1,"t":"t","l":9,"n":1,"d":"yesterday"}',
        '{"v":1,"t":"t","n":1,"d":"2026-11-21"}',
    ],
)
def test_what_is_no_intent_is_refused_with_its_reason(metadata: str) -> None:
    with pytest.raises(IntentError, match="intent"):
        Intent.read(5, metadata)


def collected(
    builder: BatchBuilder, offsets: list[int], *, is_at_end: bool = True, run: int = 3
) -> list[Batch]:
    """Give the batches that a loader would make of messages at these offsets, `run` at a time."""
    batches = []
    for begin in range(0, len(offsets), run):
        batches += builder.add(messages_at(offsets[begin : begin + run]), 0.0, TODAY)
    if builder.is_due(1e9, is_at_end=is_at_end):
        batches.append(builder.take(TODAY))
    return batches


@given(
    offsets=st.sets(st.integers(0, 60), min_size=1).map(sorted),
    start=st.integers(0, 40),
    cut=st.data(),
    rows=st.integers(1, 10),
    run=st.integers(1, 20),
)
def test_found_intent_makes_the_same_batch_whatever_the_limits(
    offsets: list[int], start: int, cut: st.DataObject, rows: int, run: int
) -> None:
    """The batch of a loader that died, its token and its date: again, and nothing is left out."""
    chosen = cut.draw(st.tuples(*[st.integers(0, len(offsets) - 1)] * 2).map(sorted))
    mine = offsets[chosen[0] : chosen[1] + 1]
    first = cut.draw(st.integers(offsets[chosen[0] - 1] + 1 if chosen[0] else 0, mine[0]))
    found = Intent("topic-id", first, mine[-1], len(mine), date(2026, 11, 21))
    read = [offset for offset in offsets if offset >= min(start, first)]
    limits = BatchLimits(rows=rows, age_seconds=1.0)
    builder = BatchBuilder(PARTITION, limits, min(start, first), found)
    batches = collected(builder, read, run=run)
    assert [offset for batch in batches for offset in batch.offsets] == read
    (again,) = [batch for batch in batches if batch.is_replayed]
    assert list(again.offsets) == mine
    assert again.intent == found
    assert again.token == insert_token(PARTITION, OffsetRange(first, mine[-1]))
    assert all(batch.batch_date == TODAY for batch in batches if not batch.is_replayed)
    assert all(len(batch) <= rows for batch in batches if not batch.is_replayed)


def test_intent_whose_last_message_is_gone_ends_with_the_log() -> None:
    builder = BatchBuilder(PARTITION, BatchLimits(age_seconds=1.0), 0, intent_of(0, 9, rows=10))
    assert collected(builder, [0, 1, 2], is_at_end=False) == []
    assert not builder.is_due(1e9)
    assert builder.is_due(0.0, is_at_end=True)
    batch = builder.take(TODAY)
    assert list(batch.offsets) == [0, 1, 2]


def test_batches_follow_each_other_over_holes() -> None:
    builder = BatchBuilder(PARTITION, BatchLimits(rows=2), 5)
    first, second = collected(builder, [7, 8, 12, 13])
    assert [str(batch.declared) for batch in (first, second)] == ["5-8", "9-13"]
    builder.start_at(20)
    (third,) = collected(builder, [22, 23])
    assert str(third.declared) == "20-23"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        # What has landed decides, whatever was committed.
        ({"landed_last": 49, "committed": 50}, Start(50)),
        ({"landed_last": 49, "committed": 10}, Start(50)),
        ({"landed_last": 49, "committed": 80}, Start(50)),
        # An intent: not begun, begun, done, before lost rows.
        ({"landed_last": 49, "intent": intent_of(50, 70)}, Start(50, None, intent_of(50, 70))),
        ({"landed_last": 55, "intent": intent_of(50, 70)}, Start(50, None, intent_of(50, 70))),
        ({"landed_last": 70, "intent": intent_of(50, 70)}, Start(71)),
        ({"landed_last": 20, "intent": intent_of(50, 70)}, Start(21, None, intent_of(50, 70))),
        ({"landed_last": None, "intent": intent_of(0, 70)}, Start(0, None, intent_of(0, 70))),
        # Of another topic, or of messages that the log does not have.
        ({"landed_last": 49, "intent": intent_of(50, 70, topic_id="old")}, Start(50)),
        ({"landed_last": 49, "intent": intent_of(50, 100)}, Start(50)),
        # Dropped by the broker: only what had not landed is lost.
        ({"landed_last": 4, "low": 20}, Start(20, OffsetRange(5, 19))),
        (
            {"landed_last": 55, "low": 52, "intent": intent_of(50, 70)},
            Start(52, None, intent_of(50, 70)),
        ),
        ({"landed_last": None, "committed": 5, "low": 20}, Start(20, OffsetRange(5, 19))),
        ({"landed_last": None, "low": 20}, Start(20)),
        # Nothing has landed.
        ({"landed_last": None, "committed": 30}, Start(0)),
        ({"landed_last": None, "policy": StartPolicy.LATEST}, Start(100)),
        ({"landed_last": None, "committed": 30, "policy": StartPolicy.LATEST}, Start(30)),
        ({"landed_last": 49, "policy": StartPolicy.LATEST}, Start(50)),
    ],
)
def test_start_follows_the_table_then_the_intent_then_the_commit(
    seen: dict[str, Any], expected: Start
) -> None:
    assert decide_start(PARTITION, **{"low": 0, "high": 100, **seen}) == expected
