"""Raw events as Parquet files: out of ClickHouse in a stream, back into it block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from clickhouse_connect.driver.client import Client

from ingest.archive.manifest import OF_RANGE, range_parameters
from ingest.archive.object_store import ArchiveError, ParquetFile
from ingest.archive.ranges import EventRange
from ingest.landing import (
    EVENT_SCHEMA,
    STATEMENT_FAILURES,
    LandingError,
    insert_block,
    land_exactly_once,
    missing_numbers,
)
from ingest.raw_tables import ERASED_HEADER, raw_table

# Rows of a row group: what is in memory at once, and one insert when it is restored.
ROW_GROUP_ROWS = 65_536

# What is left of a row that was erased, beside its coordinates.
_ERASED = {
    "key": pa.scalar(None, EVENT_SCHEMA.field("key").type),
    "headers": pa.scalar(
        [{"name": ERASED_HEADER.encode(), "value": None}], EVENT_SCHEMA.field("headers").type
    ),
    "value": pa.scalar(None, EVENT_SCHEMA.field("value").type),
}

_STREAMED = ("offset", "kafka_timestamp", "key", "headers", "value")
_STREAM_SETTINGS = {
    # Bytes, not texts: nothing says that they are UTF-8.
    "output_format_arrow_string_as_string": 0,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "output_format_arrow_compression_method": "lz4_frame",
    "select_sequential_consistency": 1,
}


def write_events(
    client: Client, raw_database: str, rows: EventRange, row_count: int, path: Path
) -> ParquetFile:
    """Write the rows of a range to a Parquet file (zstd), ascending by offset.

    The same rows give the same bytes, as row groups are of one size whatever blocks ClickHouse
    sends. At most two row groups are in memory. Raises LandingError where ClickHouse fails, and
    ArchiveError where it sends anything but `row_count` rows from the first offset to the last.
    """
    offsets: list[int] = []
    written = 0
    with pq.ParquetWriter(path, EVENT_SCHEMA, compression="zstd") as writer:
        for group in _row_groups(_stream(client, raw_database, rows)):
            if not written:
                offsets.append(group.column("offset")[0].as_py())
            written += group.num_rows
            offsets[1:] = [group.column("offset")[-1].as_py()]
            writer.write_table(_with_coordinates(group, rows), row_group_size=ROW_GROUP_ROWS)
    if written != row_count or offsets != [rows.offsets.first, rows.offsets.last]:
        raise ArchiveError(
            f"{rows}: ClickHouse sent {written:,} rows of {row_count:,}; rows changed meanwhile, "
            "or the stream was cut. Nothing was archived of them: run it again"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ParquetFile(path, written, path.stat().st_size, sha256)


def erase_events(file: ParquetFile, offsets: Sequence[int], path: Path) -> tuple[ParquetFile, int]:
    """Write a file again without what the rows at these ascending offsets held.

    Their coordinates stay, so that the file covers the same range with as many rows. Gives the new
    file, and how many rows were not erased before; where there are none it holds what the old
    one does. One row group is in memory.
    """
    wanted = pa.array(offsets, pa.int64())
    erased = 0
    with (
        pq.ParquetFile(file.path) as parquet,
        pq.ParquetWriter(path, EVENT_SCHEMA, compression="zstd") as writer,
    ):
        for number in range(parquet.num_row_groups):
            group = parquet.read_row_group(number).cast(EVENT_SCHEMA)
            is_wanted = pc.is_in(group.column("offset"), wanted)
            # What is to be erased was found by its value or its key.
            has_content = pc.or_(group.column("value").is_valid(), group.column("key").is_valid())
            erased += pc.sum(pc.and_(is_wanted, has_content)).as_py() or 0
            for name, nothing in _ERASED.items():
                group = group.set_column(
                    group.schema.get_field_index(name),
                    EVENT_SCHEMA.field(name),
                    pc.if_else(is_wanted, nothing, group.column(name)),
                )
            writer.write_table(group.combine_chunks(), row_group_size=ROW_GROUP_ROWS)
    with path.open("rb") as written:
        sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    return ParquetFile(path, file.row_count, path.stat().st_size, sha256), erased


def _stream(client: Client, raw_database: str, rows: EventRange) -> Iterator[pa.Table]:
    doing = f"export of {rows}"
    try:
        stream: Any = client.raw_stream(
            "select `offset`, toUnixTimestamp64Milli(kafka_timestamp) as kafka_timestamp, "  # noqa: S608
            f"key, headers, value from {raw_table(raw_database, rows.raw_table)} "
            f"where {OF_RANGE} order by topic, topic_id, `partition`, `offset`",
            parameters=range_parameters(rows),
            settings=_STREAM_SETTINGS,
            fmt="ArrowStream",
        )
        try:
            with pa.ipc.open_stream(stream) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch]).select(_STREAMED)
        finally:
            stream.close()
    except STATEMENT_FAILURES as error:
        raise LandingError.of(error, doing) from error
    except pa.ArrowException as error:
        raise ArchiveError(f"{doing}: the stream was cut: {error}. Run it again") from error


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    row_count = 0
    for table in tables:
        held.append(table)
        row_count += table.num_rows
        while row_count >= ROW_GROUP_ROWS:
            joined = pa.concat_tables(held)
            yield joined.slice(0, ROW_GROUP_ROWS)
            held = [joined.slice(ROW_GROUP_ROWS)]
            row_count -= ROW_GROUP_ROWS
    if row_count:
        yield pa.concat_tables(held)


def _with_coordinates(group: pa.Table, rows: EventRange) -> pa.Table:
    count = group.num_rows
    partition = rows.partition
    constants = {
        "cluster": partition.cluster,
        "topic": partition.topic,
        "topic_id": partition.topic_id,
        "partition": partition.partition,
        "batch_date": rows.batch_date,
    }
    return pa.table(
        [
            pa.repeat(pa.scalar(constants[field.name], field.type), count)
            if field.name in constants
            # One chunk, so that pages are cut alike whatever blocks the rows came in.
            else group.column(field.name).combine_chunks().cast(field.type)
            for field in EVENT_SCHEMA
        ],
        schema=EVENT_SCHEMA,
    )


def land_events(
    client: Client, raw_database: str, rows: EventRange, file: ParquetFile, token: str
) -> int:
    """Land those rows of a file that the raw table does not have; give how many.

    `token` must be new for every restore: one that was used is remembered even when the rows have
    been dropped since. Raises LandingError.
    """
    table = raw_table(raw_database, rows.raw_table)
    partition = rows.partition
    key: dict[str, str | int] = {
        "topic": partition.topic,
        "topic_id": partition.topic_id,
        "partition": partition.partition,
        "cluster": partition.cluster,
    }
    landed = 0
    with pq.ParquetFile(file.path) as parquet:
        for number in range(parquet.num_row_groups):
            group = parquet.read_row_group(number).cast(EVENT_SCHEMA)
            offsets = group.column("offset").to_pylist()

            def insert(
                wanted: Iterable[int],
                insert_token: str,
                group: pa.Table = group,
                row_count: int = len(offsets),
            ) -> None:
                chosen = list(wanted)
                if len(chosen) < row_count:
                    group = group.filter(pc.is_in(group.column("offset"), pa.array(chosen)))
                (block,) = group.combine_chunks().to_batches()
                insert_block(client, table, block, insert_token, f"restore of {rows}")

            landed += land_exactly_once(
                offsets,
                f"{token}/{rows.key}/{number}",
                missing=lambda offsets=offsets: missing_numbers(  # type: ignore[misc]
                    client, table, "offset", key, offsets, f"restored offsets of {rows}"
                ),
                insert=insert,
            )
    return landed
