"""What a verification finds, as values, and arithmetic on ranges of offsets. Nothing here does I/O.

Counts are exact; of the ranges a report keeps the first ones only, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from heapq import merge
from itertools import islice

from ingest.archive.ranges import ArchivedObject
from ingest.offsets import OffsetRange, PartitionId

SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """Offsets of one partition: how many, in how many ranges, and the first SHOWN of those."""

    offset_count: int = 0
    range_count: int = 0
    ranges: tuple[OffsetRange, ...] = ()

    @classmethod
    def of(cls, ranges: Sequence[OffsetRange]) -> Finding:
        """Give the finding of ascending ranges that share no offset."""
        return cls(sum(map(len, ranges)), len(ranges), tuple(ranges[:SHOWN]))

    def __bool__(self) -> bool:
        return self.offset_count > 0

    def __add__(self, other: Finding) -> Finding:
        return Finding(
            self.offset_count + other.offset_count,
            self.range_count + other.range_count,
            tuple(islice(merge(self.ranges, other.ranges), SHOWN)),
        )


@dataclass(frozen=True)
class Answer:
    """What the broker says of gaps.

    `holes` have no message: marks and aborted messages of transactions, and what compaction
    removed. `missed` have one; `landed_count` of them were landed just now. Of `unknown` ones
    nobody can tell any more, for `reasons`.
    """

    holes: Finding = Finding()
    missed: Finding = Finding()
    landed_count: int = 0
    unknown: Finding = Finding()
    reasons: tuple[str, ...] = ()

    def __add__(self, other: Answer) -> Answer:
        return Answer(
            self.holes + other.holes,
            self.missed + other.missed,
            self.landed_count + other.landed_count,
            self.unknown + other.unknown,
            tuple(dict.fromkeys((*self.reasons, *other.reasons))),
        )


@dataclass(frozen=True)
class PartitionReport:
    """What was found in one partition of a raw table.

    `offsets` reach from its first landed or archived one to the last, `row_count` rows of them are
    in raw. `duplicates` have more than one row; `gaps` have none, though greater ones have landed,
    and `answer` is what the broker says of them (None: it was not asked). `backward` ones landed
    after greater ones.
    """

    raw_table: str
    partition: PartitionId
    offsets: OffsetRange
    row_count: int
    duplicates: Finding = Finding()
    gaps: Finding = Finding()
    backward: Finding = Finding()
    answer: Answer | None = None

    @property
    def unexplained(self) -> Finding:
        """Gaps of which nobody has said whether there is a message."""
        return self.gaps if self.answer is None else self.answer.unknown

    @property
    def missed_count(self) -> int:
        """Messages that the broker has and the table has not, still."""
        missed = 0 if self.answer is None else self.answer.missed.offset_count
        return missed - self.landed_count

    @property
    def landed_count(self) -> int:
        """Missed messages that were landed just now."""
        return 0 if self.answer is None else self.answer.landed_count


@dataclass(frozen=True)
class FileReport:
    """What was found in the label files of a raw table; `duplicated` ones have duplicates."""

    file_count: int = 0
    row_count: int = 0
    duplicated: tuple[PartitionReport, ...] = ()


@dataclass(frozen=True)
class VerificationReport:
    """What was found in all partitions, and in label files."""

    partitions: tuple[PartitionReport, ...] = ()
    files: FileReport = field(default_factory=FileReport)

    @property
    def row_count(self) -> int:
        """Rows that were looked at."""
        return self.files.row_count + sum(each.row_count for each in self.partitions)

    @property
    def duplicate_count(self) -> int:
        """Offsets with more than one row."""
        everything = (*self.partitions, *self.files.duplicated)
        return sum(each.duplicates.offset_count for each in everything)

    @property
    def missed_count(self) -> int:
        """Messages that the broker has and the tables have not, still."""
        return sum(each.missed_count for each in self.partitions)

    @property
    def landed_count(self) -> int:
        """Missed messages that were landed just now."""
        return sum(each.landed_count for each in self.partitions)

    @property
    def unexplained_count(self) -> int:
        """Offsets without a row of which nobody has said whether there is a message."""
        return sum(each.unexplained.offset_count for each in self.partitions)

    @property
    def backward_count(self) -> int:
        """Offsets that landed after greater ones."""
        return sum(each.backward.offset_count for each in self.partitions)

    def is_sound(self, *, allow_gaps: bool = False) -> bool:
        """Whether each offset has landed once, as far as can be told."""
        return not (
            self.duplicate_count or self.missed_count or (self.unexplained_count and not allow_gaps)
        )


@dataclass(frozen=True)
class LandedDay:
    """The rows of a partition in a raw table that landed on one day (`batch_date`)."""

    raw_table: str
    partition: PartitionId
    batch_date: date
    offsets: OffsetRange
    row_count: int


@dataclass(frozen=True)
class Cell:
    """The rows of a partition within one cell of offsets, counted.

    `landed_from` and `landed_to` are the first and last time of landing, milliseconds since 1970;
    `is_ordered` says that no row of it landed after a greater one of it.
    """

    offsets: OffsetRange
    row_count: int
    offset_count: int
    landed_from: int
    landed_to: int
    is_ordered: bool

    @property
    def has_duplicates(self) -> bool:
        """Whether an offset has more than one row."""
        return self.row_count > self.offset_count

    @property
    def has_gaps(self) -> bool:
        """Whether an offset between the first and the last one has no row."""
        return self.offset_count < len(self.offsets)


PartitionKey = tuple[str, PartitionId]


def accounted_for(
    days: Iterable[LandedDay],
    objects: Iterable[ArchivedObject],
    recorded: Iterable[tuple[PartitionId, OffsetRange]],
    raw_tables: Iterable[str],
) -> Mapping[PartitionKey, Sequence[OffsetRange]]:
    """Give the offsets that need no row in raw: archived ones, and those recorded as lost.

    An object with a row for every offset of its range speaks for all of them. One with holes does
    so only where raw has dropped its rows: as long as they are there they show which are missing.
    """
    extents = {(day.raw_table, day.partition, day.batch_date): day.offsets for day in days}
    found: dict[PartitionKey, list[OffsetRange]] = {}
    for one in objects:
        place = one.range
        landed = extents.get((place.raw_table, place.partition, place.batch_date))
        is_expired = (
            landed is None or landed.last < place.offsets.first or place.offsets.last < landed.first
        )
        if is_expired or one.row_count == len(place.offsets):
            found.setdefault((place.raw_table, place.partition), []).append(place.offsets)
    for partition, offsets in recorded:
        for raw_table in raw_tables:
            found.setdefault((raw_table, partition), []).append(offsets)
    return {key: list(joined(ranges)) for key, ranges in found.items()}


def joined(ranges: Iterable[OffsetRange]) -> Iterator[OffsetRange]:
    """Give the same offsets in ascending ranges with something between them."""
    current: OffsetRange | None = None
    for each in sorted(ranges):
        if current is not None and each.first <= current.end:
            current = OffsetRange(current.first, max(current.last, each.last))
            continue
        if current is not None:
            yield current
        current = each
    if current is not None:
        yield current


def without(ranges: Iterable[OffsetRange], removed: Sequence[OffsetRange]) -> list[OffsetRange]:
    """Give what is left of ascending ranges; `removed` are ascending and share no offset, too."""
    left = []
    at = 0
    for each in ranges:
        first = each.first
        while at < len(removed) and removed[at].last < first:
            at += 1
        here = at
        while here < len(removed) and removed[here].first <= each.last:
            if removed[here].first > first:
                left.append(OffsetRange(first, removed[here].first - 1))
            first = max(first, removed[here].end)
            here += 1
        if first <= each.last:
            left.append(OffsetRange(first, each.last))
    return left


def within(ranges: Iterable[OffsetRange], bounds: OffsetRange) -> list[OffsetRange]:
    """Give the part of ranges that is within bounds."""
    return [
        OffsetRange(max(each.first, bounds.first), min(each.last, bounds.last))
        for each in ranges
        if each.first <= bounds.last and bounds.first <= each.last
    ]
