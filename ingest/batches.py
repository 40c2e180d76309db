"""Batches: messages of one partition that are inserted as one block. Nothing here does I/O.

Offsets in a batch need not be contiguous (transactions and compaction leave holes).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

from ingest.intents import Intent
from ingest.offsets import OffsetRange, PartitionId

# What Python needs for a message besides its bytes, and for each of its headers.
MESSAGE_OVERHEAD_BYTES = 400
HEADER_OVERHEAD_BYTES = 200

MessageHeaders = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Batch:
    """Messages of one partition that are inserted as one block; columns of equal length.

    `timestamps` are milliseconds since 1970. `batch_date` is pinned when the batch is formed, so
    that a retry after midnight goes to the same table partition. `start` is the offset that was
    committed before the batch, at most its first one (None: its first one). `is_replayed` says
    that it was cut as an intent says that was found. `byte_count` is that of keys and values,
    `overhead_bytes` about what Python needs besides.
    """

    partition: PartitionId
    batch_date: date
    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    headers: Sequence[MessageHeaders]
    values: Sequence[bytes | None]
    byte_count: int
    overhead_bytes: int = 0
    start: int | None = None
    is_replayed: bool = False

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def range(self) -> OffsetRange:
        """The first and last offset of the batch."""
        return OffsetRange(self.offsets[0], self.offsets[-1])

    @property
    def token(self) -> str:
        """The insert's deduplication token: the same for the same batch, whoever inserts."""
        return insert_token(self.partition, self.declared)

    @property
    def declared(self) -> OffsetRange:
        """From the offset committed before the batch to its last one."""
        return OffsetRange(self.offsets[0] if self.start is None else self.start, self.offsets[-1])

    @property
    def intent(self) -> Intent:
        """What is declared before the batch is inserted."""
        declared = self.declared
        return Intent(
            self.partition.topic_id, declared.first, declared.last, len(self), self.batch_date
        )

    def only(self, offsets: Collection[int]) -> Batch:
        """Give the part of the batch with these offsets."""
        kept = [index for index, offset in enumerate(self.offsets) if offset in offsets]
        values = [self.values[index] for index in kept]
        return Batch(
            partition=self.partition,
            batch_date=self.batch_date,
            offsets=[self.offsets[index] for index in kept],
            timestamps=[self.timestamps[index] for index in kept],
            keys=[self.keys[index] for index in kept],
            headers=[self.headers[index] for index in kept],
            values=values,
            byte_count=sum(len(value) for value in values if value is not None),
        )


def insert_token(partition: PartitionId, offsets: OffsetRange) -> str:
    """Give the deduplication token `cluster/topic_id/partition/first-last` of an insert.

    Where the broker has no topic ids the topic's name stands in.
    """
    topic = partition.topic_id or partition.topic
    return f"{partition.cluster}/{topic}/{partition.partition}/{offsets}"


@dataclass(frozen=True)
class BatchLimits:
    """When a batch is closed: whatever is reached first."""

    rows: int = 100_000
    bytes: int = 32 * 1024 * 1024
    age_seconds: float = 1.0


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
        self._offsets: list[int] = []
        self._timestamps: list[int] = []
        self._keys: list[bytes | None] = []
        self._headers: list[MessageHeaders] = []
        self._values: list[bytes | None] = []
        self.byte_count = 0
        self.overhead_bytes = 0

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def oldest_timestamp(self) -> int | None:
        """Kafka's time of the first message collected, milliseconds since 1970."""
        timestamps = self._timestamps  # another thread may ask while a batch is taken
        return timestamps[0] if timestamps else None

    def start_at(self, offset: int) -> None:
        """Take `offset` as committed: there is no message between the last batch and it."""
        if not self._offsets:
            self._start = offset

    def add(
        self,
        offset: int,
        timestamp: int,
        key: bytes | None,
        headers: MessageHeaders,
        value: bytes | None,
        now: float,
    ) -> None:
        """Append one message, received at `now` (seconds of a monotonic clock)."""
        if not self._offsets:
            self._first_at = now
        self._offsets.append(offset)
        self._timestamps.append(timestamp)
        self._keys.append(key)
        self._headers.append(headers)
        self._values.append(value)
        if value is not None:
            self.byte_count += len(value)
        if key is not None:
            self.byte_count += len(key)
        self.overhead_bytes += MESSAGE_OVERHEAD_BYTES + HEADER_OVERHEAD_BYTES * len(headers)

    def ends_before(self, offset: int) -> bool:
        """Whether the batch must be taken before a message at `offset` is added."""
        intent = self._intent
        if intent is None or not self._offsets:
            return False
        if self._offsets[0] < intent.first:
            return offset >= intent.first
        return offset > intent.last

    def is_full(self) -> bool:
        """Whether the batch has reached its rows or bytes, or the end of an intent."""
        intent = self._intent
        if intent is not None and self._offsets and self._offsets[0] >= intent.first:
            return self._offsets[-1] >= intent.last
        return len(self._offsets) >= self._limits.rows or self.byte_count >= self._limits.bytes

    def is_due(self, now: float, *, is_at_end: bool = False) -> bool:
        """Whether the batch must go: full, or its first message older than the limit.

        An intent's batch waits for its last message, unless the log `is_at_end` before it.
        """
        if not self._offsets:
            return False
        if self._intent is not None and self._offsets[0] >= self._intent.first:
            return is_at_end or self.is_full()
        return self.is_full() or now - self._first_at >= self._limits.age_seconds

    def take(self, batch_date: date) -> Batch:
        """Give what was collected as a batch, and begin the next one."""
        intent = self._intent
        is_replayed = intent is not None and intent.first <= self._offsets[0] <= intent.last
        start = self._start
        if intent is not None and is_replayed:
            start, batch_date = intent.first, intent.batch_date
        if intent is not None and self._offsets[0] >= intent.first:
            self._intent = None
        batch = Batch(
            partition=self.partition,
            batch_date=batch_date,
            offsets=self._offsets,
            timestamps=self._timestamps,
            keys=self._keys,
            headers=self._headers,
            values=self._values,
            byte_count=self.byte_count,
            overhead_bytes=self.overhead_bytes,
            start=start,
            is_replayed=is_replayed,
        )
        self._start = batch.range.end
        self._begin()
        return batch
