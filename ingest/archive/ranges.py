"""What an object of the archive holds, and the decisions about ranges. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from urllib.parse import quote, unquote

from ingest.offsets import OffsetRange, PartitionId
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS

ARCHIVED_TABLES = (PREDICTION_EVENTS, LABEL_EVENTS)
# No object reaches over a multiple of so many offsets, whatever has been archived before. Part of
# the format: objects of another width would overlap those there are.
CHUNK_OFFSETS = 262_144
# A chunk of large events is cut further, at multiples of so many offsets.
CELL_OFFSETS = 64
OBJECT_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, order=True)
class EventRange:
    """Rows of one raw table: those of one partition and batch date within a range of offsets."""

    raw_table: str
    partition: PartitionId
    batch_date: date
    offsets: OffsetRange

    def __str__(self) -> str:
        topic_id = f" (id {self.partition.topic_id})" if self.partition.topic_id else ""
        return f"{self.partition}{topic_id} offsets {self.offsets} of {self.batch_date}"

    @property
    def key(self) -> str:
        """The object's key below the archive's prefix: the same for the same rows."""
        partition = self.partition
        topic = quote(partition.topic, safe="")
        return (
            f"{self.raw_table}/cluster={quote(partition.cluster, safe='')}"
            f"/topic_id={quote(partition.topic_id, safe='')}/topic={topic}"
            f"/date={self.batch_date.isoformat()}"
            f"/{topic}-{partition.partition}-{self.offsets.first}-{self.offsets.last}.parquet"
        )

    @classmethod
    def from_key(cls, key: str) -> EventRange | None:
        """Give the range that a key stands for; None for a key that is not of this shape."""
        parts = key.split("/")
        if len(parts) != 6:
            return None
        table, cluster, topic_id, topic, day, name = parts
        numbers = name.removesuffix(".parquet").rsplit("-", 3)
        try:
            found = cls(
                table,
                PartitionId(
                    unquote(cluster.removeprefix("cluster=")),
                    unquote(topic.removeprefix("topic=")),
                    unquote(topic_id.removeprefix("topic_id=")),
                    int(numbers[1]),
                ),
                date.fromisoformat(day.removeprefix("date=")),
                OffsetRange(int(numbers[2]), int(numbers[3])),
            )
        except (ValueError, IndexError):
            return None
        return found if found.key == key and table in ARCHIVED_TABLES else None


@dataclass(frozen=True)
class ArchivedObject:
    """One object of the archive, as the manifest has it; `sha256` is of its bytes, in hex."""

    range: EventRange
    row_count: int
    byte_count: int
    sha256: str

    @property
    def key(self) -> str:
        """The object's key below the archive's prefix."""
        return self.range.key


@dataclass(frozen=True)
class Cell:
    """Neighbouring rows that stay together: their first and last offset, number and bytes."""

    first: int
    last: int
    row_count: int
    byte_count: int


def packed(cells: Iterable[Cell], *, object_bytes: int = OBJECT_BYTES) -> Iterator[Cell]:
    """Join ascending cells of one chunk into objects of at most `object_bytes` (a cell at least).

    A cell goes where the ones before it leave it room, so that what is packed after an
    interruption is what would have been packed without.
    """
    collected: Cell | None = None
    for cell in cells:
        if collected is None:
            collected = cell
        elif collected.byte_count + cell.byte_count > object_bytes:
            yield collected
            collected = cell
        else:
            collected = Cell(
                collected.first,
                cell.last,
                collected.row_count + cell.row_count,
                collected.byte_count + cell.byte_count,
            )
    if collected is not None:
        yield collected


def holes(
    ranges: Iterable[tuple[PartitionId, OffsetRange]],
) -> Iterator[tuple[PartitionId, OffsetRange]]:
    """Give the offsets of each partition that lie between its ranges and in none of them."""
    for partition, of_partition in groupby(sorted(ranges), key=lambda pair: pair[0]):
        end: int | None = None
        for _, offsets in of_partition:
            if end is not None and offsets.first > end:
                yield partition, OffsetRange(end, offsets.first - 1)
            end = max(end or 0, offsets.end)


def unclaimed(found: Iterable[EventRange], known: Iterable[EventRange]) -> list[EventRange]:
    """Give those of `found` that share no offset with `known` or with a longer one of `found`.

    Of objects that overlap, the longer one was written later, and completed what the other began.
    """
    claimed: dict[tuple[str, PartitionId, date], list[OffsetRange]] = {}
    for each in known:
        claimed.setdefault(_rows_of(each), []).append(each.offsets)
    kept = []
    for each in sorted(found, key=lambda one: (-len(one.offsets), one)):
        others = claimed.setdefault(_rows_of(each), [])
        if all(
            each.offsets.last < other.first or other.last < each.offsets.first for other in others
        ):
            others.append(each.offsets)
            kept.append(each)
    return sorted(kept)


def _rows_of(each: EventRange) -> tuple[str, PartitionId, date]:
    return each.raw_table, each.partition, each.batch_date
