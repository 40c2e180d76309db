"""Offsets as values, and the decisions about them. Nothing here does I/O.

What has landed is decided by the offsets stored in the table.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from ingest.intents import Intent


class OffsetError(ValueError):
    """The broker's offsets contradict those that have landed. The message says which and why."""


@dataclass(frozen=True, order=True)
class PartitionId:
    """One partition of one incarnation of a topic: a topic that is recreated has a new id."""

    cluster: str
    topic: str
    topic_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


@dataclass(frozen=True, order=True)
class OffsetRange:
    """Offsets from `first` to `last`, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"{self.first} to {self.last} is not a range of offsets")

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, offset: object) -> bool:
        return isinstance(offset, int) and self.first <= offset <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def end(self) -> int:
        """The offset after the last one: what Kafka calls the committed offset."""
        return self.last + 1


@dataclass(frozen=True)
class Insert:
    """Nothing of the batch has landed or been acknowledged: insert it under its token."""

    token: str


@dataclass(frozen=True)
class Skip:
    """All of the batch has landed already."""


@dataclass(frozen=True)
class Repair:
    """Some offsets are missing: insert only those, under a token that is not used up."""

    token: str
    missing: frozenset[int] = field(repr=False)


Decision = Insert | Skip | Repair


def decide(
    offsets: Collection[int], missing: Collection[int], token: str, *, inserts: int = 0
) -> Decision:
    """Decide what to insert, from the offsets that the table does not have.

    `inserts` counts those tried for this batch since it was formed. The token serves once: a server
    that was killed may remember it and yet have lost the rows, so what is missing after an
    insert that was acknowledged goes under another one.
    """
    if not missing:
        return Skip()
    if inserts == 0 and len(missing) == len(offsets):
        return Insert(token)
    salt = sha256(",".join(map(str, sorted(missing))).encode()).hexdigest()[:16]
    return Repair(f"{token}/repair-{inserts}-{salt}", frozenset(missing))


class StartPolicy(StrEnum):
    """Where to begin a partition of which nothing has landed and nothing was committed."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True)
class Start:
    """Where to read from, what the broker has dropped before that, and how to cut the next batch.

    `intent` is the one that was found, unless all of it has landed.
    """

    offset: int
    gap: OffsetRange | None = None
    intent: Intent | None = None


def decide_start(
    partition: PartitionId,
    *,
    landed_last: int | None,
    low: int,
    high: int,
    committed: int | None = None,
    intent: Intent | None = None,
    policy: StartPolicy = StartPolicy.EARLIEST,
) -> Start:
    """Decide where to read a newly assigned partition from: the table wins over Kafka.

    `landed_last` is the greatest offset in the table (None: nothing has landed), `low` and `high`
    the broker's first offset and the one after its last; `committed` is the group's, with the
    `intent` found beside it. Raises OffsetError where more has landed than the broker ever had:
    then its offsets are not those of the table.
    """
    if landed_last is not None:
        wanted = landed_last + 1
        if wanted > high:
            raise OffsetError(
                f"{partition}: offset {landed_last} has landed, but the broker's log ends before "
                f"{high}. The topic was recreated or truncated under the same id "
                f"({partition.topic_id!r}). Load it under another name, or remove its rows from "
                "the raw table, so that new messages are not taken for landed ones."
            )
    elif policy is StartPolicy.LATEST:
        wanted = high if committed is None else min(committed, high)
    else:
        wanted = low if committed is None else min(committed, low)
    gap = OffsetRange(wanted, low - 1) if wanted < low else None
    if intent is not None and (
        intent.topic_id != partition.topic_id
        or not low <= intent.last < high
        or (landed_last is not None and landed_last >= intent.last)
    ):
        intent = None
    if intent is not None:
        # Some of it may have landed and some not: all of it is looked for.
        wanted = min(wanted, intent.first)
    return Start(max(wanted, low), gap, intent)


def full_jitter(attempt: int, draw: float, *, first: float = 0.5, longest: float = 30.0) -> float:
    """Give the seconds to wait before retry `attempt` (from 1): uniform below a doubling bound.

    `draw` is a random number in [0, 1). Source: "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015.
    """
    return draw * min(longest, math.ldexp(first, min(attempt - 1, 16)))
