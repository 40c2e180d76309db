"""The rows of a CSV, Parquet or JSONL file with the types of the whole file, in bounded memory.

Parquet says its types. Those of CSV and JSONL must fit every row, so the file is read once for them
alone: what its first block looks like is not what it is.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from ingest.row_files import BLOCK_BYTES, RowFile, RowFileError, find_row_file

if TYPE_CHECKING:
    from ingest.archive.object_store import S3

_BATCH_ROWS = 20_000
_NULLS = ("", "NaN", "nan", "null", "NULL")
# The order in which Arrow tries the types of a CSV column.
_CSV_TYPES = (
    pa.null(),
    pa.int64(),
    pa.bool_(),
    pa.date32(),
    pa.time32("s"),
    pa.timestamp("s"),
    pa.timestamp("ns"),
    pa.timestamp("s", "UTC"),
    pa.timestamp("ns", "UTC"),
    pa.float64(),
    pa.string(),
)
# "invalid value 'x'", "expected a zone offset in 'x'. …"
_CONVERSION = re.compile(r"In CSV column #(\d+): CSV conversion error [^']*'(.*)'", re.DOTALL)


class Rows(Protocol):
    """Rows that can be read as often as wanted, in the same order."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give all rows from the first one on."""


@dataclass(frozen=True)
class TableRows:
    """The rows of a table in memory."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self.table.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give all rows from the first one on."""
        yield from self.table.to_batches()


@dataclass(frozen=True)
class FileRows:
    """The rows of a file; every method raises RowFileError where it cannot be read."""

    file: RowFile
    schema: pa.Schema = field(repr=False)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give all rows from the first one on, a block at a time."""
        match self.file.format:
            case "csv":
                with self.file.stream() as content:
                    yield from _open_csv(content, self.schema)
            case "parquet":
                # Buffered: otherwise a column of a whole row group is read at once.
                with (
                    self.file.random_access() as content,
                    pyarrow.parquet.ParquetFile(content, buffer_size=BLOCK_BYTES) as parquet,
                ):
                    yield from parquet.iter_batches(batch_size=_BATCH_ROWS)
            case "jsonl":
                for table in _json_tables(self.file, self.schema):
                    yield from table.select(self.schema.names).to_batches()


def open_rows(location: str | Path, connect_s3: Callable[[], S3] | None = None) -> FileRows:
    """Open a file on disk, or an object by its s3://bucket/key, and find the types of its columns.

    In CSV an empty cell, NaN and null are null; NA is a text. Numbers of which one is no integer
    are floats, and a column is of texts where nothing else fits every row. Raises RowFileError as
    `find_row_file`, and where the file cannot be read.
    """
    file = find_row_file(location, connect_s3)
    match file.format:
        case "csv":
            return FileRows(file, _csv_schema(file))
        case "parquet":
            with (
                file.random_access() as content,
                pyarrow.parquet.ParquetFile(content) as parquet,
            ):
                return FileRows(file, parquet.schema_arrow)
        case "jsonl":
            schema = pa.schema([])
            for table in _json_tables(file, None):
                schema = _merged(schema, table.schema)
            return FileRows(file, schema)


def in_batches(rows: Rows, size: int) -> Iterator[pa.RecordBatch]:
    """Give the rows in batches of `size` (the last one of fewer), however they are read."""
    pending = rows.schema.empty_table()
    for batch in rows.batches():
        pending = pa.concat_tables([pending, pa.Table.from_batches([batch], rows.schema)])
        while pending.num_rows >= size:
            yield _one_batch(pending.slice(0, size))
            pending = pending.slice(size)
    if pending.num_rows:
        yield _one_batch(pending)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


# -- CSV ------------------------------------------------------------------------------------------


def _open_csv(
    content: io.BufferedIOBase, schema: pa.Schema | None
) -> pyarrow.csv.CSVStreamingReader:
    return pyarrow.csv.open_csv(
        content,
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=schema, null_values=list(_NULLS), strings_can_be_null=True
        ),
    )


def _csv_schema(file: RowFile) -> pa.Schema:
    """Find the types that fit every row: each misfit makes its column's type a wider one."""
    schema: pa.Schema | None = None
    while True:
        with file.stream() as content:
            try:
                reader = _open_csv(content, schema)
                # Column types are given by name, which must be one column's alone.
                if schema is None and len(set(reader.schema.names)) < len(reader.schema.names):
                    return reader.schema
                schema = reader.schema
                for _ in reader:
                    pass
            except pa.ArrowInvalid as error:
                misfit = _CONVERSION.search(str(error))
                if schema is None or misfit is None:
                    raise
                column, value = int(misfit[1]), misfit[2]
                wider = _wider(schema.field(column).type, value)
                if wider is None:
                    raise
                schema = schema.set(column, schema.field(column).with_type(wider))
            else:
                return schema


def _wider(kind: pa.DataType, value: str) -> pa.DataType | None:
    """Give the next type that Arrow would try and that takes the value; None where none does."""
    if kind not in _CSV_TYPES:
        return None
    for candidate in _CSV_TYPES[_CSV_TYPES.index(kind) + 1 :]:
        escaped = value.replace('"', '""')
        try:
            _open_csv(
                io.BytesIO(f'x\n"{escaped}"\n'.encode()), pa.schema([("x", candidate)])
            ).read_all()
        except (pa.ArrowInvalid, UnicodeEncodeError):
            continue
        return candidate
    return None


# -- JSONL ----------------------------------------------------------------------------------------


def _json_tables(file: RowFile, schema: pa.Schema | None) -> Iterator[pa.Table]:
    """Read blocks of whole lines; without a schema each table has the types of its block."""
    options = pyarrow.json.ParseOptions(explicit_schema=schema)
    with file.stream() as content:
        first = 0
        while block := content.read(BLOCK_BYTES):
            block += content.readline()
            try:
                yield pyarrow.json.read_json(
                    io.BytesIO(block),
                    read_options=pyarrow.json.ReadOptions(block_size=len(block) + 1),
                    parse_options=options,
                )
            except pa.ArrowInvalid as error:
                raise RowFileError(
                    f"{file.location} cannot be read: {error}"
                    + (f" (counted from row {first + 1})" if first else "")
                ) from error
            first += block.count(b"\n")


def _merged(schema: pa.Schema, other: pa.Schema) -> pa.Schema:
    for column in other:
        index = schema.get_field_index(column.name)
        if index < 0:
            schema = schema.append(column)
            continue
        kind = schema.field(index).type
        if kind != column.type:
            schema = schema.set(index, column.with_type(_common(kind, column.type)))
    return schema


def _common(kind: pa.DataType, other: pa.DataType) -> pa.DataType:
    try:
        columns = [pa.schema([("x", each)]) for each in (kind, other)]
        merged = pa.unify_schemas(columns, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Times in one block, other texts in the next.
        return pa.string()
    return merged.field(0).type
