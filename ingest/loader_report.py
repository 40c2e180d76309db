"""What a loader has done so far, and how it stands: values for people and meters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ingest.offsets import OffsetRange, PartitionId


@dataclass
class LoadReport:
    """What a run has done so far.

    `landed` counts rows, bytes and batches by (topic, what); `insert_seconds` is what inserts took
    together. `replayed` batches were cut as a found intent said; `repaired` rows were inserted
    under a salted token; `rereads` counts how often the table had lost rows. `expected` is how
    many messages the broker had for us when the partitions were assigned; `skipped` ones had landed
    already. `holes` are offsets without a message (transactions, compaction); `gaps` are lost
    offsets, which the gaps table lists; `retries` counts failures by error code; `pauses` how often
    reading stopped because inserts could not keep up.
    """

    rows: int = 0
    bytes: int = 0
    batches: int = 0
    landed: Counter[tuple[str, str]] = field(default_factory=Counter)
    insert_seconds: float = 0.0
    replayed: int = 0
    repaired: int = 0
    rereads: int = 0
    expected: int = 0
    skipped: int = 0
    holes: int = 0
    gaps: list[tuple[PartitionId, OffsetRange]] = field(default_factory=list)
    retries: Counter[str] = field(default_factory=Counter)
    pauses: int = 0

    @property
    def lost(self) -> int:
        """How many offsets the broker had dropped before they were read."""
        return sum(len(gap) for _, gap in self.gaps)


@dataclass(frozen=True)
class PartitionStatus:
    """How an assigned partition stands.

    `state` is locating, reading, waiting or halted, and `problem` why it waits or has halted.
    `landed_end` is the offset after the last landed one; `oldest_buffered` and `last_landed` are
    Kafka's times of messages, milliseconds since 1970.
    """

    topic: str
    partition: int
    state: str
    problem: str | None
    landed_end: int | None
    buffered_bytes: int
    oldest_buffered: int | None
    last_landed: int | None


@dataclass(frozen=True)
class LoaderStatus:
    """How a loader stands: its partitions, and the seconds since its loop last turned.

    `has_assignment` says whether the group has given it partitions at least once, maybe none, and
    `broker_problem` why it could not ask, where it could not.
    """

    has_assignment: bool
    seconds_since_turn: float
    partitions: tuple[PartitionStatus, ...]
    broker_problem: str | None = None
