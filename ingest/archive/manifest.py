"""The manifest of the archive in ClickHouse, and how raw events compare with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from ingest.archive.ranges import (
    CELL_OFFSETS,
    CHUNK_OFFSETS,
    ArchivedObject,
    Cell,
    EventRange,
)
from ingest.landing import insert_block, query_rows
from ingest.offsets import OffsetRange, PartitionId
from ingest.raw_tables import ARCHIVE_MANIFEST, OFFSET_GAPS, raw_table

FIRST_DAY = date(1970, 1, 1)
END_OF_DAYS = date(2149, 6, 6)


@dataclass(frozen=True)
class LandedRange:
    """Rows of a raw table that belong together.

    They are within one object (`archived_first` is its first offset), or within one chunk
    between objects and in none of them (None).
    """

    range: EventRange
    row_count: int
    archived_first: int | None


class Manifest:
    """Reads and writes the manifest of `raw_database`; every method may raise LandingError.

    Dates are batch dates; `since` is included, `before` is not.
    """

    def __init__(self, client: Client, raw_database: str) -> None:
        self._client = client
        self._raw_database = raw_database
        self._table = raw_table(raw_database, ARCHIVE_MANIFEST)

    def objects(
        self, *, since: date = FIRST_DAY, before: date = END_OF_DAYS
    ) -> list[ArchivedObject]:
        """Give the objects of the archive, in the order of their coordinates."""
        rows = query_rows(
            self._client,
            "select raw_table, cluster, topic, topic_id, `partition`, batch_date, "  # noqa: S608
            f"first_offset, last_offset, row_count, byte_count, sha256 from {self._table} final "
            "where batch_date >= {since:Date} and batch_date < {before:Date}",
            {"since": since, "before": before},
            "manifest of the archive",
        )
        return sorted(
            (
                ArchivedObject(
                    EventRange(
                        str(table),
                        PartitionId(str(cluster), str(topic), str(topic_id), int(partition)),
                        day,
                        OffsetRange(int(first), int(last)),
                    ),
                    int(row_count),
                    int(byte_count),
                    str(sha256),
                )
                for (
                    table,
                    cluster,
                    topic,
                    topic_id,
                    partition,
                    day,
                    first,
                    last,
                    row_count,
                    byte_count,
                    sha256,
                ) in rows
            ),
            key=lambda each: each.range,
        )

    def archived_offsets(self, table: str, partition: PartitionId) -> list[OffsetRange]:
        """Give the ranges of the objects that a partition of a raw table has, ascending."""
        rows = query_rows(
            self._client,
            f"select first_offset, last_offset from {self._table} final "  # noqa: S608 - quoted
            "where raw_table = {raw_table:String} and topic = {topic:String} "
            "and topic_id = {topic_id:String} and `partition` = {partition:Int32} "
            "and cluster = {cluster:String} order by first_offset",
            {
                "raw_table": table,
                "topic": partition.topic,
                "topic_id": partition.topic_id,
                "partition": partition.partition,
                "cluster": partition.cluster,
            },
            f"archived offsets of {partition}",
        )
        return [OffsetRange(int(first), int(last)) for first, last in rows]

    def record(self, objects: Sequence[ArchivedObject], archived_at: datetime) -> None:
        """Write the rows of objects that were uploaded and checked."""
        ranges = [each.range for each in objects]
        block = pa.record_batch(
            {
                "raw_table": [each.raw_table for each in ranges],
                "cluster": [each.partition.cluster for each in ranges],
                "topic": [each.partition.topic for each in ranges],
                "topic_id": [each.partition.topic_id for each in ranges],
                "partition": pa.array([each.partition.partition for each in ranges], pa.int32()),
                "batch_date": pa.array([each.batch_date for each in ranges], pa.date32()),
                "first_offset": [each.offsets.first for each in ranges],
                "last_offset": [each.offsets.last for each in ranges],
                "row_count": [each.row_count for each in objects],
                "byte_count": [each.byte_count for each in objects],
                "sha256": [each.sha256 for each in objects],
                "key": [each.key for each in objects],
                "archived_at": pa.array([archived_at] * len(objects), pa.timestamp("ms", "UTC")),
            }
        )
        # The time is part of the token: a row that somebody deleted can be written once more.
        token = f"archive/{ranges[0].key}/{archived_at.isoformat()}"
        insert_block(self._client, self._table, block, token, f"manifest row of {ranges[0].key}")

    def landed(
        self, table: str, *, since: date = FIRST_DAY, before: date = END_OF_DAYS
    ) -> list[LandedRange]:
        """Give what a raw table holds, by object of the archive, and what no object holds."""
        rows = query_rows(
            self._client,
            f"""
            with archived as (
                select
                    cluster,
                    topic,
                    topic_id,
                    `partition`,
                    batch_date,
                    first_offset,
                    last_offset,
                    true as is_found
                from {self._table} final
                where raw_table = {{raw_table:String}}
            ),

            located as (
                select
                    events.cluster as cluster,
                    events.topic as topic,
                    events.topic_id as topic_id,
                    events.`partition` as partition_number,
                    events.batch_date as batch_date,
                    events.`offset` as event_offset,
                    intDiv(event_offset, {CHUNK_OFFSETS}) as chunk,
                    archived.is_found and event_offset <= archived.last_offset as is_archived,
                    if(archived.is_found, archived.first_offset, -1) as object_first
                from {raw_table(self._raw_database, table)} as events
                asof left join archived
                    on events.cluster = archived.cluster
                    and events.topic = archived.topic
                    and events.topic_id = archived.topic_id
                    and events.`partition` = archived.`partition`
                    and events.batch_date = archived.batch_date
                    and events.`offset` >= archived.first_offset
                where events.batch_date >= {{since:Date}} and events.batch_date < {{before:Date}}
            )

            select
                cluster,
                topic,
                topic_id,
                partition_number,
                batch_date,
                is_archived,
                object_first,
                min(event_offset) as first_offset,
                max(event_offset) as last_offset,
                count() as row_count
            from located
            group by
                cluster,
                topic,
                topic_id,
                partition_number,
                batch_date,
                chunk,
                is_archived,
                object_first
            """,  # noqa: S608 - identifiers are quoted
            {"raw_table": table, "since": since, "before": before},
            f"comparison of {table} with the archive",
        )
        return sorted(
            (
                LandedRange(
                    EventRange(
                        table,
                        PartitionId(str(cluster), str(topic), str(topic_id), int(partition)),
                        day,
                        OffsetRange(int(first), int(last)),
                    ),
                    int(row_count),
                    int(object_first) if is_archived else None,
                )
                for (
                    cluster,
                    topic,
                    topic_id,
                    partition,
                    day,
                    is_archived,
                    object_first,
                    first,
                    last,
                    row_count,
                ) in rows
            ),
            key=lambda each: each.range,
        )

    def cells(self, rows: EventRange) -> list[Cell]:
        """Give the rows of a range by cell, ascending."""
        found = query_rows(
            self._client,
            "select min(`offset`), max(`offset`), count(), "  # noqa: S608 - quoted
            "sum(length(ifNull(key, '')) + length(ifNull(value, ''))) "
            f"from {raw_table(self._raw_database, rows.raw_table)} where {OF_RANGE} "
            f"group by intDiv(`offset`, {CELL_OFFSETS}) order by 1",
            range_parameters(rows),
            f"size of {rows}",
        )
        return [Cell(*(int(number) for number in row)) for row in found]

    def known_gaps(self) -> Iterable[tuple[PartitionId, OffsetRange]]:
        """Give the offsets that the loader recorded as lost."""
        rows = query_rows(
            self._client,
            "select cluster, topic, topic_id, `partition`, first_offset, last_offset "  # noqa: S608
            f"from {raw_table(self._raw_database, OFFSET_GAPS)}",
            {},
            "recorded gaps",
        )
        return [
            (
                PartitionId(str(cluster), str(topic), str(topic_id), int(partition)),
                OffsetRange(int(first), int(last)),
            )
            for cluster, topic, topic_id, partition, first, last in rows
        ]

    def months(self, table: str, before: date) -> list[tuple[int, int]]:
        """Give (yyyymm, rows) of each partition of a raw table that ends before a day."""
        rows = query_rows(
            self._client,
            "select toYYYYMM(batch_date) as month, count() "  # noqa: S608 - quoted
            f"from {raw_table(self._raw_database, table)} "
            "where toLastDayOfMonth(batch_date) < {before:Date} group by month order by month",
            {"before": before},
            f"months of {table}",
        )
        return [(int(month), int(row_count)) for month, row_count in rows]


# The rows of an EventRange in its raw table, given `range_parameters`.
OF_RANGE = (
    "topic = {topic:String} and topic_id = {topic_id:String} and `partition` = {partition:Int32} "
    "and cluster = {cluster:String} and batch_date = {batch_date:Date} "
    "and `offset` between {first:Int64} and {last:Int64}"
)


def range_parameters(rows: EventRange) -> dict[str, Any]:
    """Give the parameters of OF_RANGE."""
    return {
        "topic": rows.partition.topic,
        "topic_id": rows.partition.topic_id,
        "partition": rows.partition.partition,
        "cluster": rows.partition.cluster,
        "batch_date": rows.batch_date,
        "first": rows.offsets.first,
        "last": rows.offsets.last,
    }
