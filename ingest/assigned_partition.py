"""The state of one partition that a loader was assigned; what changes it is in `ingest.loader`."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from confluent_kafka import TopicPartition

from ingest.batches import Batch, BatchBuilder
from ingest.lag import Bounds
from ingest.loader_report import PartitionStatus
from ingest.offsets import PartitionId, Start


@dataclass(frozen=True)
class Located:
    """Where reading begins. `unread_metadata` says why an intent could not be read."""

    partition: PartitionId
    start: Start
    bounds: Bounds
    landed_last: int | None
    unread_metadata: str | None


class Doing(Enum):
    """What the task of a partition is."""

    NOTHING = auto()
    LOCATING = auto()
    LOOKING_AGAIN = auto()
    LANDING = auto()


@dataclass(frozen=True)
class Landed:
    """What landing a batch took: seconds, and rows that an acknowledged insert had not brought."""

    seconds: float
    repaired: int


class Assigned:
    """One assigned partition: where it stands, what is collected and what is under way.

    A batch is under way in steps: `declared` (its intent was sent), then a `task` inserts it.
    """

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.located: Located | None = None
        self.is_reading = False
        self.position = 0
        self.builder: BatchBuilder | None = None
        self.ready: deque[Batch] = deque()
        self.task: Future[Any] | None = None
        self.doing: Doing = Doing.NOTHING
        self.batch: Batch | None = None
        self.declared: str | None = None
        self.declared_at = 0.0
        self.attempts = 0
        self.retry_at = 0.0
        self.problem: str | None = None
        self.is_halted = False
        self.committed: int | None = None
        self.landed_end: int | None = None
        self.landed_last: int | None = None
        self.landed_timestamp: int | None = None
        self.unheard_since: float | None = None
        self.silences = 0
        self.is_at_end = False
        self.is_paused = False
        self.is_out_of_range = False
        self.is_in_doubt = False

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"

    def at(self, offset: int, metadata: str = "") -> TopicPartition:
        """Give the partition at an offset, as the client wants it."""
        return TopicPartition(self.topic, self.partition, offset, metadata)

    def forget(self) -> None:
        """Drop what was read, so that the partition is located anew."""
        self.located = None
        self.is_reading = False
        self.builder = None
        self.ready.clear()
        self.batch = None
        self.declared = None
        self.is_at_end = False
        self.is_in_doubt = False

    def hear(self) -> None:
        """Note that the broker has sent something of the partition, be it its end."""
        self.unheard_since = None
        self.silences = 0

    def has_work(self) -> bool:
        """Whether anything is under way, or held that has not landed."""
        return bool(self.task or self.ready or self.batch or (self.builder and len(self.builder)))

    def held_batches(self) -> list[Batch]:
        """Give the batches that have not landed, in order; the first may be under way."""
        batch = self.batch
        return [*([batch] if batch else []), *list(self.ready)]

    def buffered_bytes(self) -> int:
        """Give how much memory the held messages take."""
        held = sum(batch.memory_bytes for batch in self.held_batches())
        builder = self.builder
        if builder is not None:
            held += builder.memory_bytes
        return held

    def status(self) -> PartitionStatus:
        """Give how the partition stands; may be called on any thread."""
        held = self.held_batches()
        builder = self.builder
        oldest = held[0].oldest_timestamp if held else None
        if oldest is None and builder is not None:
            oldest = builder.oldest_timestamp
        return PartitionStatus(
            topic=self.topic,
            partition=self.partition,
            state=self._state(),
            problem=self.problem,
            landed_end=self.landed_end,
            buffered_bytes=self.buffered_bytes(),
            oldest_buffered=oldest,
            last_landed=self.landed_timestamp,
        )

    def _state(self) -> str:
        if self.is_halted:
            return "halted"
        if self.attempts:
            return "waiting"
        return "reading" if self.is_reading else "locating"
