"""Erasing an entity from the archive, the raw tables and the marts, in an order that may break off.

First the plan is made, from the messages themselves. Then objects of the archive are rewritten, raw
messages emptied, rows of the marts deleted. Each step does nothing where it was done before, so an
erasure that was interrupted is ended by running it again. The plan goes last.

A message that was erased keeps its place (cluster, topic, partition, offset, time, day of landing)
and loses key, headers and value: the loader's greatest offset stays, so that Kafka's copy is not
landed again, and the archive's ranges stay whole.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from clickhouse_connect.driver.client import Client

from ingest.archive.event_files import erase_events
from ingest.archive.manifest import Manifest
from ingest.archive.object_store import BadObjectError, ObjectStore
from ingest.archive.operations import rows_in_raw
from ingest.archive.ranges import ARCHIVED_TABLES, ArchivedObject, EventRange
from ingest.erasure.plan import ARCHIVED_COLUMNS, Entity, Plan
from ingest.landing import STATEMENT_FAILURES, LandingError, insert_block, query_rows
from ingest.offsets import PartitionId
from ingest.raw_tables import (
    ERASED_HEADER,
    ERASURES,
    PREDICTION_EVENTS,
    create_raw_tables,
    quoted,
    raw_table,
    stored_table,
)

CRASH_POINTS = (
    "after_plan",
    "after_upload",
    "after_manifest_row",
    "after_earlier_versions",
    "after_raw_table",
    "after_mart",
    "after_record",
)
# Where a row of a mart came from, and the plan's names for it.
_PLACE = {
    "cluster": "cluster",
    "topic": "topic",
    "topic_id": "topic_id",
    "kafka_partition": "partition",
    "kafka_offset": "offset",
}
_CORRECTION_COLUMNS = frozenset(
    {"raw_table", "cluster", "topic", "topic_id", "partition", "offset", "value"}
)
Progress = Callable[[int, int, str], None]


class ErasureError(Exception):
    """The erasure cannot begin or is not complete. The message says why and what to do."""


@dataclass
class ErasureReport:
    """What an erasure found, or did: predictions, messages, objects of the archive, rows of marts.

    `marts` counts rows by table. `earlier_versions` are those of objects that a versioned bucket
    had kept. `was_interrupted` says that an earlier erasure of the entity had not ended.
    """

    predictions: int = 0
    prediction_events: int = 0
    label_events: int = 0
    objects: int = 0
    earlier_versions: int = 0
    marts: dict[str, int] = field(default_factory=dict)
    was_interrupted: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to erase."""
        return not (self.prediction_events or self.label_events)


class Erasure:
    """The erasure of `entity` from `raw_database`, the marts in `database`, and the archive.

    `client` must have no session (ingest.warehouse.connect). `store` is None where there is no
    archive. With `reads_every_object` those objects are searched, too, whose rows raw has all.
    `crash_point` is called with each name of CRASH_POINTS, so that tests can stop exactly there.
    Methods raise ErasureError; ArchiveError where S3 fails, LandingError where ClickHouse does.
    """

    def __init__(
        self,
        client: Client,
        entity: Entity,
        *,
        raw_database: str,
        database: str,
        store: ObjectStore | None,
        reads_every_object: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_progress: Progress = lambda done, total, doing: None,  # noqa: ARG005
        crash_point: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._entity = entity
        self._raw_database = raw_database
        self._database = database
        self._store = store
        self._reads_every_object = reads_every_object
        self._clock = clock
        self._on_progress = on_progress
        self._crash_point = crash_point
        self._plan = Plan(client, raw_database, entity)
        self._manifest = Manifest(client, raw_database)
        self._named: frozenset[EventRange] = frozenset()

    def look(self) -> ErasureReport:
        """Say what an erasure would erase; change nothing."""
        was_interrupted = self._prepare()
        try:
            objects = self._make_plan()
            return self._found(objects, was_interrupted=was_interrupted)
        finally:
            # The plan of an interrupted erasure knows what cannot be found again.
            if not was_interrupted:
                self._plan.drop()

    def run(self) -> ErasureReport:
        """Erase; give what was erased. Afterwards there is nothing left to find."""
        was_interrupted = self._prepare()
        objects = self._make_plan()
        report = self._found(objects, was_interrupted=was_interrupted)
        if report.is_empty:
            self._plan.drop()
            return report
        self._crash_point("after_plan")
        for number, (stored, offsets) in enumerate(affected := self._affected(objects)):
            self._on_progress(number, len(affected), "rewriting objects of the archive")
            report.earlier_versions += self._erase_archived(stored, offsets)
        for number, table in enumerate(ARCHIVED_TABLES):
            self._on_progress(number, len(ARCHIVED_TABLES), f"erasing from {table}")
            self._erase_raw(table)
            self._crash_point("after_raw_table")
        for corrections in self._corrections():
            self._erase_corrections(corrections)
        for number, mart in enumerate(report.marts):
            self._on_progress(number, len(report.marts), f"erasing from {mart}")
            self._erase_mart(mart)
            self._crash_point("after_mart")
        self._refuse_remains()
        self._record(report)
        self._crash_point("after_record")
        self._plan.drop()
        return report

    def _prepare(self) -> bool:
        """Make room for a plan; say whether an interrupted erasure has left one."""
        create_raw_tables(self._client, self._raw_database)
        if self._store is not None:
            self._store.check_access()
        elif self._manifest.objects():
            raise ErasureError(
                "events are in an archive that DRIFTLINE_ARCHIVE_URL does not name: set it to the "
                "archive's s3://bucket/prefix, so that they are erased there, too"
            )
        was_interrupted = self._plan.exists
        self._plan.create()
        return was_interrupted

    def _make_plan(self) -> Sequence[ArchivedObject]:
        """Plan what the raw tables and the archive have of the entity; give all objects."""
        objects = self._objects()
        searched = list(self._searched(objects))
        self._plan_entity_in_raw()
        predictions = [one for one in searched if one.range.raw_table == PREDICTION_EVENTS]
        for rows, events in self._archived(predictions):
            self._plan.add_archived_of_entity(rows, events)
        if self._plan.counts().predictions:
            self._plan_predictions_in_raw()
            for rows, events in self._archived(searched):
                self._plan.add_archived_of_predictions(rows, events)
        return objects

    def _plan_entity_in_raw(self) -> None:
        self._on_progress(0, 1, f"searching {PREDICTION_EVENTS}")
        self._plan.add_of_entity(PREDICTION_EVENTS)
        for corrections in self._corrections():
            self._plan.add_of_entity(PREDICTION_EVENTS, corrections)

    def _plan_predictions_in_raw(self) -> None:
        for table in ARCHIVED_TABLES:
            self._on_progress(0, 1, f"searching {table}")
            self._plan.add_of_predictions(table)
            for corrections in self._corrections():
                self._plan.add_of_predictions(table, corrections)

    def _objects(self) -> Sequence[ArchivedObject]:
        """Give the objects of the archive, also those that the manifest does not name."""
        if self._store is None:
            return []
        named = self._manifest.objects()
        self._named = frozenset(one.range for one in named)
        strays = [one for one in self._store.ranges() if one not in self._named]
        try:
            return [*named, *map(self._store.described, strays)]
        except BadObjectError as error:
            raise ErasureError(
                f"{error}. The manifest does not name it: delete it where nobody needs it, then "
                "erase once more"
            ) from error

    def _searched(self, objects: Sequence[ArchivedObject]) -> Iterator[ArchivedObject]:
        """Give the objects whose rows raw does not have all, for it cannot tell what is in them."""
        in_raw = rows_in_raw(self._manifest)
        for one in objects:
            if self._reads_every_object or in_raw(one.range) < one.row_count:
                yield one

    def _archived(self, objects: Sequence[ArchivedObject]) -> Iterator[tuple[EventRange, pa.Table]]:
        """Give the messages of objects, a row group at a time."""
        if self._store is None:
            return
        for number, one in enumerate(objects):
            self._on_progress(number, len(objects), "searching objects of the archive")
            current = self._store.successor(one)
            with self._store.downloaded(current) as file, pq.ParquetFile(file.path) as parquet:
                for group in range(parquet.num_row_groups):
                    yield one.range, parquet.read_row_group(group, columns=list(ARCHIVED_COLUMNS))

    def _found(self, objects: Sequence[ArchivedObject], *, was_interrupted: bool) -> ErasureReport:
        counts = self._plan.counts()
        return ErasureReport(
            predictions=counts.predictions,
            prediction_events=counts.prediction_events,
            label_events=counts.label_events,
            objects=len(self._affected(objects)),
            marts=self._mart_rows(),
            was_interrupted=was_interrupted,
        )

    def _affected(
        self, objects: Sequence[ArchivedObject]
    ) -> Sequence[tuple[ArchivedObject, Sequence[int]]]:
        """Give the objects within whose range planned offsets are, with those offsets."""
        planned = self._plan.offsets()
        found = []
        for one in objects:
            offsets = _within(planned, one.range)
            if offsets:
                found.append((one, offsets))
        return found

    def _erase_archived(self, stored: ArchivedObject, offsets: Sequence[int]) -> int:
        """Rewrite an object without what the rows at these offsets held; give versions deleted."""
        if self._store is None:
            return 0
        current = self._store.successor(stored)
        with TemporaryDirectory(prefix="driftline-erasure-") as folder:
            path = Path(folder) / "object.parquet"
            with self._store.downloaded(current) as file:
                rewritten, erased = erase_events(file, offsets, path)
            if erased:
                current = self._store.upload(rewritten, stored.range, replaced=current)
                self._crash_point("after_upload")
        if current != stored and stored.range in self._named:
            self._manifest.record([current], self._clock())
            self._crash_point("after_manifest_row")
        deleted = self._store.delete_earlier_versions(stored.key)
        self._crash_point("after_earlier_versions")
        return deleted

    def _erase_raw(self, table: str) -> None:
        self._mutate(
            self._raw_database,
            table,
            f"""
            update
                key = null,
                headers = cast(
                    [('{ERASED_HEADER}', null)],
                    'Array(Tuple(name String, value Nullable(String)))'
                ),
                value = null
            where
                (key is not null or value is not null)
                and (cluster, topic, topic_id, `partition`, `offset`) in (
                    select cluster, topic, topic_id, `partition`, `offset`
                    from {self._plan.table}
                    where raw_table = '{table}'
                )
            """,  # noqa: S608 - quoted
        )

    def _corrections(self) -> Sequence[str]:
        """Name the raw tables that have other bytes for places of messages, by their columns."""
        rows = query_rows(
            self._client,
            "select table from system.columns where database = {database:String} "
            "and name in {columns:Array(String)} group by table having count() = {count:UInt8}",
            {
                "database": self._raw_database,
                "columns": sorted(_CORRECTION_COLUMNS),
                "count": len(_CORRECTION_COLUMNS),
            },
            "look for corrections",
        )
        return sorted(str(row[0]) for row in rows)

    def _erase_corrections(self, corrections: str) -> None:
        place = "raw_table, cluster, topic, topic_id, `partition`, `offset`"
        planned = f"select {place} from {self._plan.table}"  # noqa: S608 - quoted
        self._mutate(self._raw_database, corrections, f"delete where ({place}) in ({planned})")

    def _erase_mart(self, mart: str) -> None:
        self._mutate(self._database, mart, f"delete where {self._row_level_marts()[mart]}")

    def _mart_rows(self) -> dict[str, int]:
        """Count the rows of the marts that the plan names, by table."""
        counts = {}
        for mart, condition in self._row_level_marts().items():
            [(count,)] = query_rows(
                self._client,
                f"select count() from {quoted(self._database)}.{quoted(mart)} "  # noqa: S608
                f"where {condition}",
                {},
                f"count of what is to be erased from {mart}",
            )
            if count:
                counts[mart] = int(count)
        return counts

    def _row_level_marts(self) -> Mapping[str, str]:
        """Give the tables that have rows of single messages, and which rows are planned.

        They are known by their columns, so that no list has to be kept.
        """
        rows = query_rows(
            self._client,
            """
            select tables.name, groupArray(columns.name)
            from system.tables as tables
            inner join system.columns as columns
                on tables.database = columns.database and tables.name = columns.table
            where
                tables.database = {database:String}
                and (tables.engine like '%MergeTree' or tables.engine = 'Distributed')
                and columns.name in {columns:Array(String)}
                -- What a Distributed table stands for is counted and erased by that one's name.
                and tables.name not in (
                    select splitByChar('''', engine_full)[6]
                    from system.tables
                    where database = {database:String} and engine = 'Distributed'
                )
            group by tables.name
            order by tables.name
            """,
            {"database": self._database, "columns": ["prediction_id", *_PLACE]},
            "look for row-level marts",
        )
        conditions = {}
        for name, columns in rows:
            chosen = []
            if "prediction_id" in columns:
                chosen.append(f"prediction_id in ({self._plan.prediction_ids})")
            place = [one for one in _PLACE if one in columns]
            if set(place) >= set(_PLACE) - {"cluster"}:
                planned = ", ".join(quoted(_PLACE[one]) for one in place)
                chosen.append(
                    f"({', '.join(place)}) in (select {planned} from {self._plan.table})"  # noqa: S608
                )
            if chosen:
                conditions[str(name)] = " or ".join(chosen)
        return conditions

    def _refuse_remains(self) -> None:
        """Look again: rows may have landed, and dbt may have run, meanwhile."""
        remains = [f"{count:,} rows of {mart}" for mart, count in self._mart_rows().items()]
        before = self._plan.counts()
        self._plan_entity_in_raw()
        self._plan_predictions_in_raw()
        after = self._plan.counts()
        if after != before:
            remains.append("messages that landed meanwhile")
        if remains:
            raise ErasureError(
                f"there is more of the entity by now: {', '.join(remains)}. Run the same erasure "
                "once more, while neither driftline dbt nor driftline archive runs"
            )

    def _record(self, report: ErasureReport) -> None:
        """Write that the erasure was, once however often it is ended."""
        erasure_id = self._plan.erasure_id
        table = raw_table(self._raw_database, ERASURES)
        known = query_rows(
            self._client,
            f"select count() from {table} where erasure_id = {{erasure_id:String}}",  # noqa: S608
            {"erasure_id": erasure_id},
            "look for the record of the erasure",
        )
        if int(known[0][0]):
            return
        erased_at = self._clock()
        block = pa.record_batch(
            {
                "erasure_id": [erasure_id],
                "model_name": [self._entity.model_name],
                "entity_sha256": [self._entity.sha256],
                "prediction_count": pa.array([report.predictions], pa.uint64()),
                "prediction_event_count": pa.array([report.prediction_events], pa.uint64()),
                "label_event_count": pa.array([report.label_events], pa.uint64()),
                "archived_object_count": pa.array([report.objects], pa.uint64()),
                "erased_at": pa.array([erased_at], pa.timestamp("ms", "UTC")),
            }
        )
        insert_block(
            self._client,
            table,
            block,
            f"erasure/{erasure_id}/{erased_at.isoformat()}",
            "record of the erasure",
        )

    def _mutate(self, database: str, table: str, change: str) -> None:
        try:
            self._plan.sync()
            stored = stored_table(self._client, database, table)
            # Until every replica has rewritten its rows.
            self._client.command(f"alter table {stored} {change}", settings={"mutations_sync": 2})
        except STATEMENT_FAILURES as error:
            raise LandingError.of(error, f"erasure from {table}") from error


def _within(
    planned: Mapping[tuple[str, PartitionId], Sequence[int]], rows: EventRange
) -> Sequence[int]:
    offsets = planned.get((rows.raw_table, rows.partition), ())
    return offsets[
        bisect_left(offsets, rows.offsets.first) : bisect_right(offsets, rows.offsets.last)
    ]
