"""Batches: messages of one partition that are inserted as one block. Nothing here does I/O.

Offsets in a batch need not be contiguous (transactions and compaction leave holes).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from ingest.intents import Intent
from ingest.messages import payload_ends
from ingest.offsets import OffsetRange, PartitionId


@dataclass(frozen=True)
class Batch:
    """Messages of one partition that are inserted as one block.

    `blocks` are its messages in order, as columns (ingest.messages), none of them empty.
    `batch_date` is pinned when the batch is formed, so that a retry after midnight goes to the same
    table partition. `start` is the offset that was committed before the batch, at most its first
    one (None: its first one). `is_replayed` says that it was cut as an intent says that was found.
    """

    partition: PartitionId
    batch_date: date
    blocks: tuple[pa.RecordBatch, ...]
    start: int | None = None
    is_replayed: bool = False

    def __len__(self) -> int:
        return sum(block.num_rows for block in self.blocks)

    @cached_property
    def offsets(self) -> list[int]:
        """The offsets, ascending."""
        return [offset for block in self.blocks for offset in block.column("offset").to_pylist()]

    @cached_property
    def range(self) -> OffsetRange:
        """The first and last offset of the batch."""
        first, last = self.blocks[0].column("offset"), self.blocks[-1].column("offset")
        return OffsetRange(first[0].as_py(), last[-1].as_py())

    @property
    def oldest_timestamp(self) -> int:
        """Kafka's time of the first message, milliseconds since 1970."""
        return int(self.blocks[0].column("kafka_timestamp")[0].value)

    @property
    def newest_timestamp(self) -> int:
        """Kafka's time of the last message, milliseconds since 1970."""
        return int(self.blocks[-1].column("kafka_timestamp")[-1].value)

    @cached_property
    def payload_bytes(self) -> int:
        """How many bytes the keys and values have."""
        return sum(payload_ends(block)[-1] for block in self.blocks)

    @cached_property
    def memory_bytes(self) -> int:
        """How much memory the messages take, headers and offsets included."""
        return sum(block.nbytes for block in self.blocks)

    @property
    def token(self) -> str:
        """The insert's deduplication token: the same for the same batch, whoever inserts."""
        return insert_token(self.partition, self.declared)

    @property
    def declared(self) -> OffsetRange:
        """From the offset committed before the batch to its last one."""
        found = self.range
        return found if self.start is None else OffsetRange(self.start, found.last)

    @property
    def intent(self) -> Intent:
        """What is declared before the batch is inserted."""
        declared = self.declared
        return Intent(
            self.partition.topic_id, declared.first, declared.last, len(self), self.batch_date
        )

    def messages(self) -> pa.RecordBatch:
        """Give all messages as one block (a copy)."""
        return pa.concat_batches(self.blocks)

    def only(self, offsets: Collection[int]) -> Batch:
        """Give the part of the batch with these offsets."""
        messages = self.messages()
        wanted = pa.array(sorted(offsets), pa.int64())
        return Batch(
            self.partition,
            self.batch_date,
            (messages.filter(pc.is_in(messages.column("offset"), wanted)),),
        )


def insert_token(partition: PartitionId, offsets: OffsetRange) -> str:
    """Give the deduplication token `cluster/topic_id/partition/first-last` of an insert.

    Where the broker has no topic ids the topic's name stands in.
    """
    topic = partition.topic_id or partition.topic
    return f"{partition.cluster}/{topic}/{partition.partition}/{offsets}"


@dataclass(frozen=True)
class BatchLimits:
    """When a batch is closed: whatever is reached first.

    `bytes` are those of keys and values. `age_seconds` is how long its first message waits for
    company; `lagging_age_seconds` how long while the log holds at least as much again: larger
    batches are cheaper to insert and to merge, and nobody waits for a message among a million.
    """

    rows: int = 100_000
    bytes: int = 32 * 1024 * 1024
    age_seconds: float = 1.0
    lagging_age_seconds: float = 5.0


class BatchBuilder:
    """Collects the messages of one partition until a limit is reached; times are the caller's.

    `start` is the offset that is committed. Where an intent was found, batches are cut at its ends
    and the limits do not count between them, so that the same messages make the same batch.
    """

    def __init__(
        self,
        partition: PartitionId,
        limits: BatchLimits,
        start: int = 0,
        intent: Intent | None = None,
    ) -> None:
        self.partition = partition
        self._limits = limits
        self._start = start
        self._intent = intent
        self._begin()

    def _begin(self) -> None:
        self._first_at = 0.0
        self._blocks: list[pa.RecordBatch] = []
        self._rows = 0
        self._first = 0
        self._last = 0
        self._payload_bytes = 0
        self.memory_bytes = 0

    def __len__(self) -> int:
        return self._rows

    @property
    def oldest_timestamp(self) -> int | None:
        """Kafka's time of the first message collected, milliseconds since 1970."""
        blocks = self._blocks  # another thread may ask while a batch is taken
        return int(blocks[0].column("kafka_timestamp")[0].value) if blocks else None

    def start_at(self, offset: int) -> None:
        """Take `offset` as committed: there is no message between the last batch and it."""
        if not self._rows:
            self._start = offset

    def add(self, messages: pa.RecordBatch, now: float, today: date) -> list[Batch]:
        """Append messages (ingest.messages) that come after those before; give completed batches.

        They were received at `now` (seconds of a monotonic clock).
        """
        offsets: list[int] = messages.column("offset").to_pylist()
        ends = payload_ends(messages)
        completed = []
        begin = 0
        while begin < len(offsets):
            end = self._end_of_batch(offsets, ends, begin)
            if end > begin:
                self._append(messages.slice(begin, end - begin), now)
                self._last = offsets[end - 1]
                self._payload_bytes += ends[end - 1] - (ends[begin - 1] if begin else 0)
            if end < len(offsets) or self.is_full():
                completed.append(self.take(today))
            begin = end
        return completed

    def _end_of_batch(self, offsets: list[int], ends: list[int], begin: int) -> int:
        """Say before which of the messages from `begin` on the batch ends; it is not full yet."""
        intent, first = self._intent, self._first if self._rows else offsets[begin]
        end = len(offsets)
        if intent is not None and first >= intent.first:
            end = bisect_right(offsets, intent.last, begin)
        else:
            if intent is not None:
                end = bisect_left(offsets, intent.first, begin)
            end = min(end, begin + self._limits.rows - self._rows)
            room = self._limits.bytes - self._payload_bytes + (ends[begin - 1] if begin else 0)
            end = min(end, bisect_left(ends, room, begin) + 1)
        # A first message is always taken, also one behind what an intent names.
        return end if self._rows else max(end, begin + 1)

    def _append(self, block: pa.RecordBatch, now: float) -> None:
        if not self._rows:
            self._first_at = now
            self._first = block.column("offset")[0].as_py()
        self._blocks.append(block)
        self._rows += block.num_rows
        self.memory_bytes += block.nbytes

    def is_full(self) -> bool:
        """Whether the batch has reached its rows or bytes, or the end of an intent."""
        intent = self._intent
        if intent is not None and self._rows and self._first >= intent.first:
            return self._last >= intent.last
        return self._rows >= self._limits.rows or self._payload_bytes >= self._limits.bytes

    def is_due(
        self, now: float, *, is_at_end: bool = False, behind: int = 0, is_pressed: bool = False
    ) -> bool:
        """Whether the batch must go: full, or its first message older than the limit.

        An intent's batch waits for its last message, unless the log `is_at_end` before it. `behind`
        is how many messages the log is known to hold after those collected; `is_pressed` says that
        memory is short.
        """
        if not self._rows:
            return False
        if self._intent is not None and self._first >= self._intent.first:
            return is_at_end or self.is_full()
        limits = self._limits
        is_lagging = behind >= self._rows and not is_at_end
        longest = limits.age_seconds
        if is_lagging:
            longest = max(longest, limits.lagging_age_seconds)
        return self.is_full() or is_pressed or now - self._first_at >= longest

    def take(self, batch_date: date) -> Batch:
        """Give what was collected as a batch, and begin the next one."""
        intent = self._intent
        is_replayed = intent is not None and intent.first <= self._first <= intent.last
        start = self._start
        if intent is not None and is_replayed:
            start, batch_date = intent.first, intent.batch_date
        if intent is not None and self._first >= intent.first:
            self._intent = None
        batch = Batch(self.partition, batch_date, tuple(self._blocks), start, is_replayed)
        self._start = self._last + 1
        self._begin()
        return batch
