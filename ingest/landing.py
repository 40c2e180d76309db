"""Landing bytes in ClickHouse: one block an insert, offsets stored with the data."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import Any, Protocol

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError
from urllib3.exceptions import HTTPError

from ingest.batches import Batch
from ingest.messages import MESSAGE_SCHEMA
from ingest.offsets import Insert, OffsetRange, PartitionId, Repair, Skip, decide
from ingest.raw_tables import ARCHIVE_MANIFEST, OFFSET_GAPS, quoted, raw_table

# Errors that pass by themselves: wait and try again, for ever. Anything else needs a person.
TRANSIENT_CODES: Mapping[int, str] = {
    159: "TIMEOUT_EXCEEDED",
    201: "QUOTA_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    279: "ALL_CONNECTION_TRIES_FAILED",
    285: "TOO_FEW_LIVE_REPLICAS",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    999: "KEEPER_EXCEPTION",
}

# An insert is atomic only as one block into one partition, and its token holds only for the same
# block: nothing on the way may cut or join blocks by another rule.
ONE_BLOCK: Mapping[str, Any] = {
    "async_insert": 0,
    "wait_end_of_query": 1,
    "insert_deduplicate": 1,
    "max_insert_threads": 1,
    "max_insert_block_size": 1_048_576,
    "min_insert_block_size_rows": 1_048_576,
    "min_insert_block_size_bytes": 0,
}

_INSERTS_BEFORE_GIVING_UP = 4
# What a client raises where a statement fails.
STATEMENT_FAILURES = (ClickHouseError, HTTPError, OSError)

# The columns of an events table, without the time of landing.
EVENT_SCHEMA = pa.schema(
    [
        ("cluster", pa.string()),
        ("topic", pa.string()),
        ("topic_id", pa.string()),
        ("partition", pa.int32()),
        *MESSAGE_SCHEMA,
        ("batch_date", pa.date32()),
    ]
)
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


class LandingError(Exception):
    """A statement on the warehouse failed; `is_transient` says whether waiting may help."""

    def __init__(self, message: str, *, code: int | None, is_transient: bool) -> None:
        super().__init__(message)
        self.code = code
        self.is_transient = is_transient

    @classmethod
    def of(cls, error: Exception, doing: str) -> LandingError:
        """Tell a passing failure from one that needs a person."""
        code = getattr(error, "code", None)
        is_transient = (
            code in TRANSIENT_CODES
            if code is not None
            # No code: the server did not answer, or a proxy before it did.
            else isinstance(error, OperationalError | OSError | HTTPError)
            or type(error) is DatabaseError
        )
        return cls(f"{doing}: {error}", code=code, is_transient=is_transient)


class Sink(Protocol):
    """Where the loader puts batches, and where it asks what is there already."""

    def insert(self, batch: Batch, token: str) -> None:
        """Land a batch as one block; raises LandingError. The outcome is then unknown."""

    def landed_last(self, partition: PartitionId) -> int | None:
        """Give the greatest landed offset of a partition, None where there is none."""

    def missing(self, partition: PartitionId, offsets: Sequence[int]) -> Collection[int]:
        """Give those of ascending offsets of a partition that have not landed."""

    def record_gap(self, partition: PartitionId, gap: OffsetRange, reason: str) -> None:
        """Record offsets that the broker no longer had."""


class ClickHouseSink:
    """Lands the messages of each topic in its raw table.

    `client` must have no session, as several threads share it. `tables` gives the raw table of
    each topic, by topic name.
    """

    def __init__(self, client: Client, raw_database: str, tables: Mapping[str, str]) -> None:
        self._client = client
        self._raw_database = raw_database
        self._table_names = dict(tables)
        self._tables = {topic: raw_table(raw_database, table) for topic, table in tables.items()}
        self._manifest = raw_table(raw_database, ARCHIVE_MANIFEST)

    def insert(self, batch: Batch, token: str) -> None:
        """Land a batch as one block; raises LandingError. The outcome is then unknown."""
        insert_block(
            self._client,
            self._tables[batch.partition.topic],
            batch_block(batch),
            token,
            f"insert of {batch.partition} offsets {batch.range}",
        )

    def landed_last(self, partition: PartitionId) -> int | None:
        """Give the greatest landed offset of a partition, None where there is none.

        Rows that have been archived and dropped since have landed too.
        """
        table = self._tables[partition.topic]
        conditions = (
            "where topic = {topic:String} and topic_id = {topic_id:String} "
            "and `partition` = {partition:Int32} and cluster = {cluster:String}"
        )
        # In the order of the sorting key, so that ClickHouse reads one granule, not all offsets.
        rows = query_rows(
            self._client,
            f"""
            with newest as (
                select `offset` as last_offset
                from {table} {conditions}
                order by topic desc, topic_id desc, `partition` desc, `offset` desc
                limit 1
            ),

            archived as (
                select max(last_offset) as last_offset
                from {self._manifest} {conditions} and raw_table = {{raw_table:String}}
                having count() > 0
            )

            select * from newest union all select * from archived
            """,  # noqa: S608 - quoted
            {
                "topic": partition.topic,
                "topic_id": partition.topic_id,
                "partition": partition.partition,
                "cluster": partition.cluster,
                "raw_table": self._table_names[partition.topic],
            },
            f"last landed offset of {partition}",
        )
        return max((int(row[0]) for row in rows), default=None)

    def missing(self, partition: PartitionId, offsets: Sequence[int]) -> Collection[int]:
        """Give those of ascending offsets of a partition that have not landed."""
        return missing_numbers(
            self._client,
            self._tables[partition.topic],
            "offset",
            {
                "topic": partition.topic,
                "topic_id": partition.topic_id,
                "partition": partition.partition,
                "cluster": partition.cluster,
            },
            offsets,
            f"landed offsets of {partition}",
        )

    def record_gap(self, partition: PartitionId, gap: OffsetRange, reason: str) -> None:
        """Record offsets that the broker no longer had, once however often it is noticed."""
        block = pa.record_batch(
            {
                "cluster": [partition.cluster],
                "topic": [partition.topic],
                "topic_id": [partition.topic_id],
                "partition": pa.array([partition.partition], pa.int32()),
                "first_offset": [gap.first],
                "last_offset": [gap.last],
                "reason": [reason],
            }
        )
        table = raw_table(self._raw_database, OFFSET_GAPS)
        token = f"gap/{partition.cluster}/{partition.topic}/{partition.topic_id}"
        token += f"/{partition.partition}/{gap}"
        insert_block(self._client, table, block, token, f"record of a gap in {partition}")


class PacedSink:
    """A sink that lands at most `rows_per_second` over all partitions, to spare a small server.

    `clock` gives seconds, `pause` waits so many; the pace is kept over the whole run, so idle time
    is not made up for.
    """

    def __init__(
        self,
        sink: Sink,
        rows_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sink = sink
        self._rows_per_second = rows_per_second
        self._clock = clock
        self._pause = pause
        self._lock = threading.Lock()
        self._free_at = clock()

    def insert(self, batch: Batch, token: str) -> None:
        """Wait for the batch's turn, then land it."""
        with self._lock:
            now = self._clock()
            begins = max(now, self._free_at)
            self._free_at = begins + len(batch) / self._rows_per_second
        self._pause(begins - now)
        self._sink.insert(batch, token)

    def landed_last(self, partition: PartitionId) -> int | None:
        """Give the greatest landed offset of a partition, None where there is none."""
        return self._sink.landed_last(partition)

    def missing(self, partition: PartitionId, offsets: Sequence[int]) -> Collection[int]:
        """Give those of ascending offsets of a partition that have not landed."""
        return self._sink.missing(partition, offsets)

    def record_gap(self, partition: PartitionId, gap: OffsetRange, reason: str) -> None:
        """Record offsets that the broker no longer had."""
        self._sink.record_gap(partition, gap, reason)


def land_exactly_once(
    numbers: Sequence[int],
    token: str,
    *,
    missing: Callable[[], Collection[int]],
    insert: Callable[[Collection[int], str], None],
    is_new: bool = False,
) -> int:
    """Insert what is missing of `numbers`, until the table has it all; give how many were missing.

    An acknowledged insert is not believed: only rows that are there count. `missing` asks the
    table, `insert` lands some of the numbers under a token. `is_new` says that none can have
    landed, which saves asking first. Raises LandingError, also where rows do not appear.
    """
    absent: Collection[int] = numbers if is_new else missing()
    first_absent = len(absent)
    for inserts in range(_INSERTS_BEFORE_GIVING_UP):
        match decide(numbers, absent, token, inserts=inserts):
            case Skip():
                return first_absent
            case Insert(first_token):
                insert(numbers, first_token)
            case Repair(repair_token, wanted):
                insert(wanted, repair_token)
        absent = missing()
    if absent:
        raise LandingError(
            f"insert {token} was acknowledged {_INSERTS_BEFORE_GIVING_UP} times, but "
            f"{len(absent)} of its rows are not in the table",
            code=None,
            is_transient=True,
        )
    return first_absent


def missing_numbers(
    client: Client,
    table: str,
    column: str,
    key: Mapping[str, str | int],
    numbers: Sequence[int],
    doing: str,
) -> Collection[int]:
    """Give those of ascending `numbers` that `column` of the rows with this `key` does not have.

    `table` is quoted already. Raises LandingError, whose message begins with `doing`.
    """
    conditions = " and ".join(
        f"{quoted(name)} = {{{name}:{'Int64' if isinstance(value, int) else 'String'}}}"
        for name, value in key.items()
    )
    source = (
        f"from {table} where {conditions} "
        f"and {quoted(column)} between {{first:Int64}} and {{last:Int64}}"
    )
    bound = {**key, "first": numbers[0], "last": numbers[-1]}
    # Nearly always all or nothing is there, which needs no list of numbers.
    counted = query_rows(client, f"select uniqExact({quoted(column)}) {source}", bound, doing)
    if int(counted[0][0]) == 0:
        return numbers
    if int(counted[0][0]) == len(numbers) == numbers[-1] - numbers[0] + 1:
        return ()
    found = query_rows(client, f"select {quoted(column)} {source}", bound, doing)
    return frozenset(numbers).difference(int(row[0]) for row in found)


def query_rows(
    client: Client, statement: str, parameters: dict[str, Any], doing: str
) -> Sequence[Sequence[Any]]:
    """Give the rows of a query; raises LandingError, whose message begins with `doing`."""
    try:
        # On a cluster, never a replica that has not heard of the last insert.
        found = client.query(
            statement, parameters=parameters, settings={"select_sequential_consistency": 1}
        )
        # Within the try: the client reads the answer only now.
        rows: Sequence[Sequence[Any]] = found.result_rows
    except STATEMENT_FAILURES as error:
        raise LandingError.of(error, doing) from error
    return rows


def insert_block(client: Client, table: str, block: pa.RecordBatch, token: str, doing: str) -> None:
    """Insert one Arrow record batch as one block under a deduplication token.

    `table` is quoted already. Raises LandingError, whose message begins with `doing`.
    """
    body = pa.BufferOutputStream()
    with pa.ipc.new_stream(body, block.schema, options=_LZ4) as stream:
        stream.write_batch(block)
    try:
        client.raw_insert(
            table,
            column_names=block.schema.names,
            insert_block=body.getvalue().to_pybytes(),
            settings={**ONE_BLOCK, "insert_deduplication_token": token},
            fmt="ArrowStream",
        )
    except STATEMENT_FAILURES as error:
        raise LandingError.of(error, doing) from error


def batch_block(batch: Batch) -> pa.RecordBatch:
    """Give a batch as an Arrow record batch with the columns of an events table.

    Arrow, because it takes bytes as they are, several times as fast as writing ClickHouse's Native
    format in Python.
    """
    rows = len(batch)
    partition = batch.partition
    return pa.record_batch(
        [
            pa.repeat(pa.scalar(partition.cluster, pa.string()), rows),
            pa.repeat(pa.scalar(partition.topic, pa.string()), rows),
            pa.repeat(pa.scalar(partition.topic_id, pa.string()), rows),
            pa.repeat(pa.scalar(partition.partition, pa.int32()), rows),
            *batch.messages().columns,
            pa.repeat(pa.scalar(_days(batch.batch_date), pa.int32()), rows).cast(pa.date32()),
        ],
        schema=EVENT_SCHEMA,
    )


def _days(day: date) -> int:
    return (day - date(1970, 1, 1)).days
