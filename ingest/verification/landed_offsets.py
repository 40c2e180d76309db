"""Has every offset landed once? Asked of the raw tables, in two steps.

Offsets are compared cell by cell: a cell is a million offsets of a partition, of which ClickHouse
gives a handful of numbers. Only a cell whose numbers do not fit is looked at row by row, by a
window function, and only for what does not fit. So memory is bounded by a cell, and a table in
which all is well is read once, by its coordinates alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.external import ExternalData

from ingest.archive.manifest import END_OF_DAYS, FIRST_DAY, Manifest
from ingest.archive.ranges import ARCHIVED_TABLES
from ingest.label_files import FILE_CLUSTER
from ingest.landing import STATEMENT_FAILURES, LandingError
from ingest.offsets import OffsetRange, PartitionId
from ingest.raw_tables import raw_table
from ingest.verification.findings import (
    SHOWN,
    Answer,
    Cell,
    FileReport,
    Finding,
    LandedDay,
    PartitionKey,
    PartitionReport,
    VerificationReport,
    accounted_for,
    joined,
    within,
    without,
)

CELL_OFFSETS = 1 << 20
# One query compares so many cells: ClickHouse keeps a bit an offset and a number an insert.
_CELLS_AT_ONCE = 8
_SPILL_BYTES = 256 * 1024 * 1024
_SETTINGS: Mapping[str, Any] = {
    # On a cluster, never a replica that has not heard of the last insert.
    "select_sequential_consistency": 1,
    "max_bytes_before_external_group_by": _SPILL_BYTES,
    "max_bytes_before_external_sort": _SPILL_BYTES,
}
_NO_LIMIT = 2**63 - 1
# ClickHouse's codes for a table or a database that is not there.
_MISSING_CODES = (60, 81)

_OF_PARTITION = (
    "topic = {topic:String} and topic_id = {topic_id:String} and `partition` = {partition:Int32} "
    "and cluster = {cluster:String}"
)
_OF_CELL = _OF_PARTITION + " and `offset` between {first:Int64} and {last:Int64}"

_DAYS = """
select
    cluster,
    topic,
    topic_id,
    `partition`,
    batch_date,
    min(`offset`) as first_offset,
    max(`offset`) as last_offset,
    count() as row_count
from {table}
where cluster != {file:String} and batch_date >= {since:Date} and batch_date < {before:Date}
group by cluster, topic, topic_id, `partition`, batch_date
"""

_FILES = """
select
    topic,
    topic_id,
    `partition`,
    min(`offset`) as first_offset,
    max(`offset`) as last_offset,
    count() as row_count,
    groupBitmap(toUInt64(`offset`)) as offset_count
from {table}
where cluster = {file:String} and batch_date >= {since:Date} and batch_date < {before:Date}
group by topic, topic_id, `partition`
"""

# An insert gives all of its rows one time of landing. Rows of a cell are in order where no insert
# has an offset below one of an earlier insert.
_CELLS = """
with

inserts as (
    select
        intDiv(`offset`, {cell}) as cell,
        landed_at,
        min(`offset`) as first_offset,
        max(`offset`) as last_offset,
        count() as row_count,
        groupBitmapState(toUInt32(`offset` % {cell})) as offsets
    from {table}
    where {of_cell}
    group by cell, landed_at
),

compared as (
    select
        *,
        max(last_offset) over (
            partition by cell
            order by landed_at
            rows between unbounded preceding and 1 preceding
        ) as reached
    from inserts
)

select
    min(first_offset) as cell_first,
    max(last_offset) as cell_last,
    sum(row_count) as cell_row_count,
    groupBitmapMerge(offsets) as offset_count,
    toUnixTimestamp64Milli(min(landed_at)) as landed_from,
    toUnixTimestamp64Milli(max(landed_at)) as landed_to,
    countIf(reached > first_offset) = 0 as is_ordered
from compared
group by cell
order by cell desc
"""

# Offsets of a CTE `found` as ranges, the first of them, and how many there are in all.
_RANGES = """
numbered as (
    select found_offset, found_offset - row_number() over (order by found_offset) as island
    from found
),

ranges as (
    select min(found_offset) as first_found, max(found_offset) as last_found
    from numbered
    group by island
)
"""
_FIRST_RANGES = """
select
    first_found,
    last_found,
    count() over () as range_count,
    sum(last_found - first_found + 1) over () as offset_count
from ranges
order by first_found
limit {most:UInt64}
"""

_DUPLICATES = """
with

found as (
    select `offset` as found_offset
    from {table}
    where {of_cell}
    group by found_offset
    having count() > 1
),
{ranges}
"""

# What lies beyond the cell stands for it with one row: the earliest landing of greater offsets.
_BACKWARD = """
with

landings as (
    select
        `offset` as found_offset,
        toUnixTimestamp64Milli(min(landed_at)) as landed_from,
        toUnixTimestamp64Milli(max(landed_at)) as landed_to
    from {table}
    where {of_cell}
    group by found_offset
    union all
    select {last:Int64} + 1, {beyond:Int64}, {beyond:Int64}
),

compared as (
    select
        found_offset,
        landed_to,
        min(landed_from) over (
            order by found_offset desc
            rows between unbounded preceding and 1 preceding
        ) as landed_from_of_greater
    from landings
),

found as (
    select found_offset
    from compared
    where landed_to > landed_from_of_greater and found_offset <= {last:Int64}
),
{ranges}
"""

_GAPS = """
with

taken as (
    select `offset` as first_offset, `offset` as last_offset
    from {table}
    where {of_cell}
    union all
    select first_offset, last_offset from accounted_for
),

compared as (
    select
        first_offset,
        max(last_offset) over (
            order by first_offset
            rows between unbounded preceding and 1 preceding
        ) as reached
    from taken
),

ranges as (
    select reached + 1 as first_found, first_offset - 1 as last_found
    from compared
    where first_offset > {first:Int64} and first_offset > reached + 1
)
{first_ranges}
"""

# Says of gaps of a raw table's partition, ascending, what the broker has there.
Ask = Callable[[str, PartitionId, Sequence[OffsetRange]], Answer]
Progress = Callable[[int, int, str], None]


class VerificationError(Exception):
    """There is nothing to verify. The message names the remedy."""


class Verification:
    """Verifies the event tables of `raw_database`.

    `client` must have no session (ingest.warehouse.connect). `ask` is what to ask of gaps (None:
    nothing). Raises LandingError where ClickHouse fails, VerificationError where a table is
    missing.
    """

    def __init__(
        self,
        client: Client,
        raw_database: str,
        *,
        ask: Ask | None = None,
        cell_offsets: int = CELL_OFFSETS,
        on_progress: Progress = lambda done, total, doing: None,  # noqa: ARG005
    ) -> None:
        self._client = client
        self._raw_database = raw_database
        self._ask = ask
        self._cell_offsets = cell_offsets
        self._on_progress = on_progress
        self._done = 0
        self._total = 0

    def run(self, *, since: date = FIRST_DAY, before: date = END_OF_DAYS) -> VerificationReport:
        """Verify the offsets that landed on the days (`batch_date`) from `since` to `before`.

        Days choose, per partition, the first and the last offset; all between them is looked at,
        whenever it landed. `since` is included, `before` is not.
        """
        days = self._every_day(since, before)
        manifest = Manifest(self._client, self._raw_database)
        try:
            objects = manifest.objects()
            recorded = manifest.known_gaps()
        except LandingError as error:
            raise self._explained(error) from error
        objects = [one for one in objects if one.range.partition.cluster != FILE_CLUSTER]
        every_day = days
        # Which objects have expired cannot be seen from some of the days.
        if (since, before) != (FIRST_DAY, END_OF_DAYS) and objects:
            every_day = self._every_day(FIRST_DAY, END_OF_DAYS)
        known = accounted_for(every_day, objects, recorded, ARCHIVED_TABLES)
        landed: dict[PartitionKey, list[OffsetRange]] = {}
        archived: dict[PartitionKey, list[OffsetRange]] = {}
        for day in days:
            landed.setdefault((day.raw_table, day.partition), []).append(day.offsets)
        for one in objects:
            place = one.range
            if since <= place.batch_date < before:
                archived.setdefault((place.raw_table, place.partition), []).append(place.offsets)
        self._done = 0
        self._total = sum(len(_extent(ranges)) for ranges in landed.values())
        partitions = []
        for key in sorted({*landed, *archived}):
            extent = _extent([*landed.get(key, ()), *archived.get(key, ())])
            in_raw = _extent(landed[key]) if key in landed else None
            partitions.append(self._partition(*key, extent, in_raw, known.get(key, ())))
        return VerificationReport(tuple(partitions), self._files(since, before))

    def _every_day(self, since: date, before: date) -> list[LandedDay]:
        return [day for table in ARCHIVED_TABLES for day in self._days(table, since, before)]

    def _days(self, table: str, since: date, before: date) -> Iterator[LandedDay]:
        self._on_progress(0, 0, f"looking for the partitions of {table}")
        bound = {"file": FILE_CLUSTER, "since": since, "before": before}
        for cluster, topic, topic_id, number, day, first, last, row_count in self._rows(
            _DAYS, table, bound, f"partitions of {table}"
        ):
            yield LandedDay(
                table,
                PartitionId(str(cluster), str(topic), str(topic_id), int(number)),
                day,
                OffsetRange(int(first), int(last)),
                int(row_count),
            )

    def _files(self, since: date, before: date) -> FileReport:
        """Look for duplicates in label files. They need neither order nor each of their rows."""
        files = rows = 0
        duplicated = []
        bound = {"file": FILE_CLUSTER, "since": since, "before": before}
        for table in ARCHIVED_TABLES:
            for topic, topic_id, number, first, last, row_count, offset_count in self._rows(
                _FILES, table, bound, f"label files of {table}"
            ):
                files += 1
                rows += int(row_count)
                if int(row_count) > int(offset_count):
                    partition = PartitionId(FILE_CLUSTER, str(topic), str(topic_id), int(number))
                    offsets = OffsetRange(int(first), int(last))
                    found = self._partition(table, partition, offsets, offsets, None)
                    duplicated.append(replace(found, backward=Finding()))
        return FileReport(files, rows, tuple(duplicated))

    def _partition(
        self,
        table: str,
        partition: PartitionId,
        extent: OffsetRange,
        in_raw: OffsetRange | None,
        known: Sequence[OffsetRange] | None,
    ) -> PartitionReport:
        """Look at one partition; `known` offsets need no row (None: gaps do not matter)."""
        report = PartitionReport(table, partition, extent, 0)
        taken: list[OffsetRange] = []
        # From the end on, so that each cell is told when greater offsets landed first.
        beyond = _NO_LIMIT
        for cell in self._cells(table, partition, in_raw) if in_raw else ():
            taken.append(cell.offsets)
            duplicates, backward = Finding(), Finding()
            if cell.has_duplicates:
                duplicates = self._first(_DUPLICATES, table, partition, cell)
            if not cell.is_ordered or cell.landed_to > beyond:
                backward = self._first(_BACKWARD, table, partition, cell, beyond=beyond)
            report = replace(
                report,
                row_count=report.row_count + cell.row_count,
                duplicates=report.duplicates + duplicates,
                backward=report.backward + backward,
            )
            if cell.has_gaps and known is not None:
                report = self._with_gaps(
                    report, *self._gaps(table, partition, cell, within(known, cell.offsets))
                )
            beyond = min(beyond, cell.landed_from)
        if known is not None:
            between = without([extent], list(joined([*taken, *within(known, extent)])))
            report = self._with_gaps(report, Finding.of(between), between)
        return report

    def _with_gaps(
        self, report: PartitionReport, found: Finding, ranges: Sequence[OffsetRange]
    ) -> PartitionReport:
        answer = report.answer
        if self._ask is not None and ranges:
            given = self._ask(report.raw_table, report.partition, ranges)
            answer = given if answer is None else answer + given
        return replace(report, gaps=report.gaps + found, answer=answer)

    def _cells(self, table: str, partition: PartitionId, extent: OffsetRange) -> Iterator[Cell]:
        """Compare the cells of a partition, those of the greatest offsets first."""
        width = self._cell_offsets * _CELLS_AT_ONCE
        for span in range(extent.last // width, extent.first // width - 1, -1):
            first = max(extent.first, span * width)
            last = min(extent.last, (span + 1) * width - 1)
            self._on_progress(self._done, self._total, f"verifying {partition}")
            for row in self._rows(
                _CELLS.replace("{cell}", str(self._cell_offsets)),
                table,
                _bound(partition, OffsetRange(first, last)),
                f"comparison of {partition} offsets {first}-{last}",
            ):
                numbers = [int(number) for number in row]
                cell_first, cell_last, row_count, offset_count, landed_from, landed_to = numbers[:6]
                yield Cell(
                    OffsetRange(cell_first, cell_last),
                    row_count,
                    offset_count,
                    landed_from,
                    landed_to,
                    is_ordered=bool(numbers[6]),
                )
            self._done += last - first + 1
            self._on_progress(self._done, self._total, f"verifying {partition}")

    def _first(
        self, statement: str, table: str, partition: PartitionId, cell: Cell, **more: int
    ) -> Finding:
        bound = _bound(partition, cell.offsets) | {"most": SHOWN} | more
        doing = f"look at {partition} offsets {cell.offsets}"
        return _finding(self._rows(statement, table, bound, doing))

    def _gaps(
        self,
        table: str,
        partition: PartitionId,
        cell: Cell,
        known: Sequence[OffsetRange],
    ) -> tuple[Finding, Sequence[OffsetRange]]:
        """Give the gaps of a cell; all of their ranges only where somebody is asked of them."""
        most = SHOWN if self._ask is None else self._cell_offsets
        rows = self._rows(
            _GAPS,
            table,
            _bound(partition, cell.offsets) | {"most": most},
            f"gaps of {partition} offsets {cell.offsets}",
            accounted_for=pa.table(
                {
                    "first_offset": pa.array([each.first for each in known], pa.int64()),
                    "last_offset": pa.array([each.last for each in known], pa.int64()),
                }
            ),
        )
        return _finding(rows), [OffsetRange(int(row[0]), int(row[1])) for row in rows]

    def _rows(
        self,
        statement: str,
        table: str,
        bound: Mapping[str, Any],
        doing: str,
        accounted_for: pa.Table | None = None,
    ) -> Sequence[Sequence[Any]]:
        text = statement.replace("{ranges}", _RANGES + _FIRST_RANGES)
        text = text.replace("{first_ranges}", _FIRST_RANGES).replace("{of_cell}", _OF_CELL)
        try:
            found = self._client.query(
                text.replace("{table}", raw_table(self._raw_database, table)),
                parameters=dict(bound),
                settings=dict(_SETTINGS),
                external_data=None if accounted_for is None else _external(accounted_for),
            )
            # Within the try: the client reads the answer only now.
            rows: Sequence[Sequence[Any]] = found.result_rows
        except STATEMENT_FAILURES as error:
            raise self._explained(LandingError.of(error, doing)) from error
        return rows

    def _explained(self, error: LandingError) -> LandingError | VerificationError:
        if error.code in _MISSING_CODES:
            return VerificationError(
                f"the database {self._raw_database} lacks a raw table: create those that are "
                f"missing with driftline migrate ({error})"
            )
        return error


def _extent(ranges: Sequence[OffsetRange]) -> OffsetRange:
    return OffsetRange(min(each.first for each in ranges), max(each.last for each in ranges))


def _bound(partition: PartitionId, offsets: OffsetRange) -> dict[str, Any]:
    return {
        "topic": partition.topic,
        "topic_id": partition.topic_id,
        "partition": partition.partition,
        "cluster": partition.cluster,
        "first": offsets.first,
        "last": offsets.last,
    }


def _finding(rows: Sequence[Sequence[Any]]) -> Finding:
    """Give the finding of rows (first, last, count of ranges, count of offsets)."""
    if not rows:
        return Finding()
    ranges = tuple(OffsetRange(int(row[0]), int(row[1])) for row in rows[:SHOWN])
    return Finding(int(rows[0][3]), int(rows[0][2]), ranges)


def _external(ranges: pa.Table) -> ExternalData:
    body = pa.BufferOutputStream()
    with pa.ipc.new_stream(body, ranges.schema) as stream:
        stream.write_table(ranges)
    return ExternalData(
        file_name="accounted_for",
        fmt="ArrowStream",
        structure="first_offset Int64, last_offset Int64",
        data=body.getvalue().to_pybytes(),
    )
