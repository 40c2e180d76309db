"""What is done with the archive: run, verify, restore, expire.

The order of steps is what makes an interruption harmless: an object is uploaded and checked before
the manifest names it, the manifest names a restored object before its rows land, and nothing is
dropped before every one of its rows was found in an object that was read whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from clickhouse_connect.driver.client import Client

from ingest.archive.event_files import land_events, write_events
from ingest.archive.manifest import END_OF_DAYS, FIRST_DAY, LandedRange, Manifest
from ingest.archive.object_store import (
    ArchiveError,
    BadObjectError,
    ObjectStore,
    ReplacedObjectError,
)
from ingest.archive.ranges import (
    ARCHIVED_TABLES,
    OBJECT_BYTES,
    ArchivedObject,
    EventRange,
    holes,
    packed,
    unclaimed,
)
from ingest.landing import STATEMENT_FAILURES, LandingError
from ingest.offsets import OffsetRange, PartitionId
from ingest.raw_tables import create_raw_tables, stored_table

CRASH_POINTS = ("after_upload", "after_manifest_row")
# A day is settled once it has been over for so long.
SETTLED_AFTER = timedelta(hours=24)

Progress = Callable[[int, int, str], None]
_SHOWN = 20


def settled_before(now: datetime) -> date:
    """Give the first day that is not settled yet at `now`."""
    return (now.astimezone(UTC) - SETTLED_AFTER).date()


@dataclass
class ArchiveReport:
    """What a run has archived: objects, rows and bytes of Parquet; `event_bytes` uncompressed."""

    objects: int = 0
    rows: int = 0
    bytes: int = 0
    event_bytes: int = 0


@dataclass
class VerifyReport:
    """What a verification saw. The archive is sound where there are no `problems`.

    `gaps` are offsets that neither the archive nor the raw tables have and the loader did not
    record as lost. `expired` counts objects whose rows the raw tables have no more; `strays` are
    objects that the manifest does not name.
    """

    objects: int = 0
    rows: int = 0
    bytes: int = 0
    expired: int = 0
    problems: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)


@dataclass
class RestoreReport:
    """What a restore did: objects read, rows landed, rows that were there, rows of the manifest."""

    objects: int = 0
    rows: int = 0
    rows_before: int = 0
    adopted: int = 0


@dataclass(frozen=True)
class ExpiredMonth:
    """A partition of a raw table that was dropped: its month as yyyymm, and its rows."""

    raw_table: str
    month: int
    rows: int


class Archive:
    """The archive in `store` of the events in `raw_database`.

    `client` must have no session (ingest.warehouse.connect). `crash_point` is called with each name
    of CRASH_POINTS, so that tests can stop a run exactly there. Methods raise ArchiveError, and
    LandingError where ClickHouse fails.
    """

    def __init__(
        self,
        client: Client,
        store: ObjectStore,
        raw_database: str,
        *,
        object_bytes: int = OBJECT_BYTES,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_progress: Progress = lambda done, total, doing: None,  # noqa: ARG005
        crash_point: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._store = store
        self._raw_database = raw_database
        self._object_bytes = object_bytes
        self._clock = clock
        self._on_progress = on_progress
        self._crash_point = crash_point
        self._manifest = Manifest(client, raw_database)

    def run(self, *, before: date | None = None) -> ArchiveReport:
        """Archive what no object holds of the days before `before` (default: settled days).

        Raises ArchiveError at the end where rows landed within the range of an object.
        """
        create_raw_tables(self._client, self._raw_database)
        self._store.check_access()
        before = before or settled_before(self._clock())
        landed = self._landed(before=before)
        due = [each for each in landed if each.archived_first is None]
        total = sum(each.row_count for each in due)
        report = ArchiveReport()
        for group in due:
            for cell in packed(self._manifest.cells(group.range), object_bytes=self._object_bytes):
                rows = EventRange(
                    group.range.raw_table,
                    group.range.partition,
                    group.range.batch_date,
                    OffsetRange(cell.first, cell.last),
                )
                self._on_progress(report.rows, total, f"archiving {rows.partition}")
                stored = self._write(rows, cell.row_count)
                report.objects += 1
                report.rows += stored.row_count
                report.bytes += stored.byte_count
                report.event_bytes += cell.byte_count
                self._on_progress(report.rows, total, f"archiving {rows.partition}")
        late = self._late(landed, self._manifest.objects(before=before))
        if late:
            raise ArchiveError(_listed("rows landed that an object should hold", late))
        return report

    def _write(self, rows: EventRange, row_count: int) -> ArchivedObject:
        with TemporaryDirectory(prefix="driftline-archive-") as folder:
            path = Path(folder) / "object.parquet"
            file = write_events(self._client, self._raw_database, rows, row_count, path)
            stored = self._store.upload(file, rows)
        self._crash_point("after_upload")
        self._manifest.record([stored], self._clock())
        self._crash_point("after_manifest_row")
        return stored

    def verify(
        self,
        *,
        since: date = FIRST_DAY,
        before: date | None = None,
        is_quick: bool = False,
    ) -> VerifyReport:
        """Compare the manifest with the objects and with the raw tables.

        Every object is read and hashed, and its rows counted; with `is_quick` S3 is only asked for
        its size and checksum. Rows of days from `since` until before `before` (default: settled
        days) must be archived.
        """
        create_raw_tables(self._client, self._raw_database)
        self._store.check_access()
        settled = before or settled_before(self._clock())
        objects = self._manifest.objects(since=since, before=before or END_OF_DAYS)
        report = VerifyReport()
        self._check_objects(objects, report, is_quick=is_quick)
        landed = self._landed(since=since)
        for each in landed:
            if each.archived_first is None and each.range.batch_date < settled:
                report.problems.append(
                    f"{each.range}: {each.row_count:,} rows are in no object: driftline archive run"
                )
        report.problems += self._late(landed, objects)
        counts = _counts(landed)
        for one in objects:
            in_raw = counts.get(_identity(one.range), 0)
            report.expired += in_raw == 0
            if 0 < in_raw < one.row_count:
                report.problems.append(
                    f"{one.range}: {one.row_count:,} rows are archived and {in_raw:,} of them are "
                    f"in {one.range.raw_table}: driftline archive restore "
                    f"--from {one.range.batch_date} --to {one.range.batch_date}"
                )
        report.gaps = [
            f"{partition} offsets {gap}: neither archived nor in the raw table ({len(gap):,})"
            for partition, gap in self._gaps(landed, since=since)
        ]
        known = {one.range for one in self._manifest.objects()}
        report.strays = [each.key for each in sorted(self._store.ranges()) if each not in known]
        return report

    def _check_objects(
        self, objects: Sequence[ArchivedObject], report: VerifyReport, *, is_quick: bool
    ) -> None:
        total = sum(each.row_count for each in objects)
        for each in objects:
            self._on_progress(report.rows, total, f"verifying {each.range.partition}")
            try:
                if is_quick:
                    self._store.check(each)
                else:
                    with self._store.downloaded(each):
                        pass
            except ReplacedObjectError as error:
                report.problems.append(str(error))
            except BadObjectError as error:
                report.problems.append(
                    f"{error}: put it back from a copy, or where raw has its rows: delete its row "
                    "of archive_manifest and run driftline archive run"
                )
            report.objects += 1
            report.rows += each.row_count
            report.bytes += each.byte_count
        self._on_progress(report.rows, total, "verified")

    def restore(self, *, since: date = FIRST_DAY, before: date = END_OF_DAYS) -> RestoreReport:
        """Land the archived rows of the days from `since` until before `before` that raw lacks.

        Objects that the manifest does not know (it was lost with the warehouse) are adopted first.
        """
        create_raw_tables(self._client, self._raw_database)
        self._store.check_access()
        report = RestoreReport(adopted=self._adopt())
        objects = self._manifest.objects(since=since, before=before)
        counts = _counts(self._landed(since=since, before=before))
        total = sum(each.row_count for each in objects)
        token = f"restore/{self._clock().isoformat()}"
        for each in objects:
            done = report.rows + report.rows_before
            self._on_progress(done, total, f"restoring {each.range.partition}")
            landed = 0
            if counts.get(_identity(each.range), 0) < each.row_count:
                with self._store.downloaded(each) as file:
                    landed = land_events(self._client, self._raw_database, each.range, file, token)
                report.objects += 1
            report.rows += landed
            report.rows_before += each.row_count - landed
        self._on_progress(total, total, "restored")
        return report

    def _adopt(self) -> int:
        known = {each.range for each in self._manifest.objects()}
        found = unclaimed((each for each in self._store.ranges() if each not in known), known)
        for number, each in enumerate(found):
            self._on_progress(number, len(found), "reading the list of objects")
            self._manifest.record([self._store.described(each)], self._clock())
        return len(found)

    def expire(self, *, before: date) -> list[ExpiredMonth]:
        """Drop the months of the raw tables that end before a day; all of them or none.

        Raises ArchiveError naming what is missing, unless the archive has every row of them.
        """
        if before > (settled := settled_before(self._clock())):
            raise ArchiveError(f"rows may still land on days from {settled} on: expire before it")
        create_raw_tables(self._client, self._raw_database)
        self._store.check_access()
        due = [
            ExpiredMonth(table, month, row_count)
            for table in ARCHIVED_TABLES
            for month, row_count in self._manifest.months(table, before)
        ]
        # The first day of the month that `before` is in: everything earlier is in whole months.
        end = max((_next_month(each.month) for each in due), default=FIRST_DAY)
        landed = self._landed(before=end)
        objects = self._manifest.objects(before=end)
        missing = [
            f"{each.range}: {each.row_count:,} rows are in no object: driftline archive run "
            f"--before {end}"
            for each in landed
            if each.archived_first is None
        ]
        missing += self._late(landed, objects)
        counts = _counts(landed)
        report = VerifyReport()
        self._check_objects(
            [each for each in objects if _identity(each.range) in counts], report, is_quick=False
        )
        missing += report.problems
        if missing:
            raise ArchiveError(_listed("nothing was dropped, for the archive lacks", missing))
        for each in due:
            self._drop(each, before)
        return due

    def _drop(self, month: ExpiredMonth, before: date) -> None:
        # Rows may have landed while objects were read.
        now = dict(self._manifest.months(month.raw_table, before)).get(month.month)
        if now != month.rows:
            raise ArchiveError(
                f"{month.raw_table} has {now} rows of {month.month}, it had {month.rows} when they "
                "were compared with the archive: run driftline archive run and expire once more"
            )
        doing = f"drop of partition {month.month} of {month.raw_table}"
        try:
            table = stored_table(self._client, self._raw_database, month.raw_table)
            self._client.command(f"alter table {table} drop partition {month.month:d}")
        except STATEMENT_FAILURES as error:
            raise LandingError.of(error, doing) from error

    def _landed(self, *, since: date = FIRST_DAY, before: date = END_OF_DAYS) -> list[LandedRange]:
        return [
            each
            for table in ARCHIVED_TABLES
            for each in self._manifest.landed(table, since=since, before=before)
        ]

    def _late(self, landed: Iterable[LandedRange], objects: Iterable[ArchivedObject]) -> list[str]:
        """Name the objects within whose range raw has more rows than they have."""
        counts = _counts(landed)
        return [
            f"{one.range}: {counts[_identity(one.range)]:,} rows are in {one.range.raw_table} and "
            f"only {one.row_count:,} in the object. If raw has all rows of this object, delete its "
            "row of archive_manifest and run driftline archive run"
            for one in objects
            if counts.get(_identity(one.range), 0) > one.row_count
        ]

    def _gaps(
        self, landed: Iterable[LandedRange], *, since: date
    ) -> Iterable[tuple[PartitionId, OffsetRange]]:
        ranges = [each.range for each in landed]
        ranges += [each.range for each in self._manifest.objects(since=since)]
        known = self._manifest.known_gaps()
        partitions = {each.partition for each in ranges}
        return holes(
            [(each.partition, each.offsets) for each in ranges]
            + [pair for pair in known if pair[0] in partitions]
        )


_Identity = tuple[str, PartitionId, date, int]


def _identity(rows: EventRange) -> _Identity:
    """Give what tells an object from others: of two, only one begins at an offset."""
    return rows.raw_table, rows.partition, rows.batch_date, rows.offsets.first


def _counts(landed: Iterable[LandedRange]) -> Mapping[_Identity, int]:
    counts: Counter[_Identity] = Counter()
    for each in landed:
        if each.archived_first is not None:
            rows = each.range
            counts[rows.raw_table, rows.partition, rows.batch_date, each.archived_first] += (
                each.row_count
            )
    return counts


def rows_in_raw(manifest: Manifest) -> Callable[[EventRange], int]:
    """Give what counts the rows that the raw tables have of an object's range."""
    counts = _counts([each for table in ARCHIVED_TABLES for each in manifest.landed(table)])
    return lambda rows: counts.get(_identity(rows), 0)


def _next_month(month: int) -> date:
    return (date(month // 100, month % 100, 28) + timedelta(days=4)).replace(day=1)


def _listed(title: str, lines: Sequence[str]) -> str:
    more = f"\n… and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"{title}:\n" + "\n".join(lines[:_SHOWN]) + more
