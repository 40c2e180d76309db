"""Importing labels from a file: CSV, Parquet or JSONL, on disk or S3, streamed in batches.

A file lands in the same table as the labels topic, as if it were a topic of its own: its id hashes
the content and how it was read, and a row's offset is its number from 0. Importing the same content
twice therefore adds nothing, wherever it is and whether compressed or not. Nothing lands before
every row has been checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client

from ingest.archive.manifest import Manifest
from ingest.batches import Batch
from ingest.events import SCHEMA_VERSION
from ingest.json_columns import ColumnError, json_objects, json_values, plain_texts, time_texts
from ingest.landing import batch_block, insert_block, land_exactly_once, missing_numbers
from ingest.messages import message_block
from ingest.offsets import OffsetRange, PartitionId
from ingest.raw_tables import LABEL_EVENTS, create_raw_tables, raw_table
from ingest.row_files import BLOCK_BYTES, RowFile, RowFileError, find_row_file

if TYPE_CHECKING:
    from hashlib import _Hash

    from ingest.archive.object_store import S3

FILE_CLUSTER = "file"
LabelType = Literal["auto", "string", "number"]
# Phase and unit ("checking bytes"), how much is done, how much there is.
OnProgress = Callable[[str, int, int], None]

_BATCH_ROWS = 50_000
_SHOWN_PROBLEMS = 10
# A column beside those of the file: why a row cannot be read.
_FAULT = "__fault__"
_JSON_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


class LabelFileError(RowFileError):
    """The file or some of its rows cannot be imported. The message names the rows."""


@dataclass(frozen=True)
class LabelColumns:
    """Where the labels are in a file, and whose they are.

    `observed_at` is a column, unless `observed_at_constant` gives one time for all rows. In CSV
    every cell is a text: with `label_type` auto, labels are numbers where all of them are.
    `source` names the origin of the labels; None is `file:` and the file's name.
    """

    model_name: str
    prediction_id: str = "prediction_id"
    label: str = "label"
    observed_at: str = "observed_at"
    observed_at_constant: datetime | None = None
    label_type: LabelType = "auto"
    source: str | None = None

    @property
    def wanted(self) -> list[str]:
        """The columns that are read."""
        columns = [self.prediction_id, self.label]
        return columns if self.observed_at_constant else [*columns, self.observed_at]


@dataclass(frozen=True)
class LabelImport:
    """How many rows of a file landed now, had landed before, or were left out as invalid."""

    landed: int
    landed_before: int
    invalid: int


@dataclass(frozen=True)
class _Rows:
    """Consecutive rows: ids, labels as JSON, times as RFC 3339 (null where there is none).

    `faults` says of each row why it cannot be read at all; null where it can.
    """

    first: int
    ids: pa.Array
    labels: pa.Array
    times: pa.Array
    shown_labels: pa.Array = field(repr=False)
    shown_times: pa.Array = field(repr=False)
    faults: pa.Array = field(repr=False)

    @property
    def is_valid(self) -> pa.Array:
        has_id = pc.and_(pc.is_valid(self.ids), pc.not_equal(pc.fill_null(self.ids, ""), ""))
        has_label = pc.not_equal(self.labels, "null")
        has_all = pc.and_(pc.and_(has_id, has_label), pc.is_valid(self.times))
        return pc.and_(has_all, pc.is_null(self.faults))

    def problems(self) -> Iterator[str]:
        """Say what is wrong with each invalid row; rows count from 1, without the header."""
        for index in pc.indices_nonzero(pc.invert(self.is_valid)).to_pylist():
            row = f"row {self.first + index + 1}"
            if self.faults[index].as_py():
                yield f"{row} {self.faults[index].as_py()}"
            elif not self.ids[index].as_py():
                yield f"{row}: the prediction id is missing"
            elif self.labels[index].as_py() == "null":
                shown = self.shown_labels[index].as_py()
                missing = shown is None or shown == ""
                yield f"{row}: the label is " + ("missing" if missing else f"{shown!r}")
            else:
                shown = self.shown_times[index].as_py()
                missing = shown is None or shown == ""
                yield f"{row}: the observation time " + (
                    "is missing" if missing else f"{shown!r} is not a time"
                )


def import_labels(
    client: Client,
    location: str | Path,
    columns: LabelColumns,
    *,
    raw_database: str,
    topic: str,
    skip_invalid: bool = False,
    on_progress: OnProgress = lambda phase, done, total: None,  # noqa: ARG005
    connect_s3: Callable[[], S3] | None = None,
) -> LabelImport:
    """Land the labels of a file as label events; a second import of the same content adds nothing.

    `location` is a path or s3://bucket/key. `client` must have no session
    (ingest.warehouse.connect); `topic` is the labels topic. `connect_s3` gives boto3's client, by
    default that of the environment.

    Raises LabelFileError naming the first invalid rows, unless `skip_invalid`; RowFileError for a
    file that cannot be found or read; ColumnError for a column of a wrong type; LandingError where
    ClickHouse refuses.
    """
    file = find_row_file(location, connect_s3)
    digest = _digest(columns)
    rows, invalid, is_number, problems = _check(file, columns, digest, on_progress)
    if problems and not skip_invalid:
        more = f"\n… and {invalid - len(problems)} more" if invalid > len(problems) else ""
        raise LabelFileError(
            f"{file.location}: {invalid} of {rows} rows are invalid; nothing was imported. Mend "
            "them, or skip them with --skip-invalid\n" + "\n".join(problems) + more
        )
    create_raw_tables(client, raw_database)
    partition = PartitionId(FILE_CLUSTER, topic, digest.hexdigest(), 0)
    table = raw_table(raw_database, LABEL_EVENTS)
    archived = Manifest(client, raw_database).archived_offsets(LABEL_EVENTS, partition)
    today = datetime.now(UTC)
    landed = 0
    for part in _read(file, columns, is_number=is_number):
        landed += _land(client, table, partition, part, columns, file, today, archived)
        on_progress("importing rows", part.first + len(part.ids), rows)
    return LabelImport(landed, rows - invalid - landed, invalid)


def _check(
    file: RowFile, columns: LabelColumns, digest: _Hash, on_progress: OnProgress
) -> tuple[int, int, bool, list[str]]:
    """Look at every row, and add the content to `digest`.

    Gives the number of rows and of invalid ones, whether the labels of a CSV are numbers, and what
    is wrong with the first invalid rows.
    """
    rows = invalid = 0
    # Only CSV does not say itself what is a number.
    is_number = file.format == "csv" and columns.label_type != "string"
    problems: list[str] = []
    for part in _read(file, columns, is_number=False, digest=digest, on_progress=on_progress):
        rows += len(part.ids)
        is_valid = part.is_valid
        found = len(part.ids) - (pc.sum(is_valid).as_py() or 0)
        if found and len(problems) < _SHOWN_PROBLEMS:
            for problem in part.problems():
                problems.append(problem)
                if len(problems) == _SHOWN_PROBLEMS:
                    break
        invalid += found
        if is_number:
            texts = pc.filter(part.shown_labels, is_valid)
            is_like_number = pc.match_substring_regex(texts, _JSON_NUMBER)
            if not pc.all(is_like_number, min_count=0).as_py():
                is_number = False
                if columns.label_type == "number":
                    at = pc.index(is_like_number, False).as_py()
                    raise LabelFileError(
                        f"{file.location}: label {texts[at].as_py()!r} is not a number"
                    )
    if rows == 0:
        raise LabelFileError(f"{file.location} has no rows")
    return rows, invalid, is_number, problems


def _digest(columns: LabelColumns) -> _Hash:
    """Begin the hash of a file with how it is read: read otherwise, it holds other labels."""
    constant = columns.observed_at_constant
    reading = [
        columns.model_name,
        columns.prediction_id,
        columns.label,
        constant.isoformat() if constant else columns.observed_at,
        columns.label_type,
        columns.source,
    ]
    return sha256(json.dumps(reading).encode())


def _land(
    client: Client,
    table: str,
    partition: PartitionId,
    part: _Rows,
    columns: LabelColumns,
    file: RowFile,
    today: datetime,
    archived: Sequence[OffsetRange],
) -> int:
    valid = pc.indices_nonzero(part.is_valid)
    if not len(valid):
        return 0
    batch = _events(partition, part, valid, columns, file, today)
    doing = f"labels of {file.location}, rows {batch.range}"
    key: dict[str, str | int] = {
        "topic": partition.topic,
        "topic_id": partition.topic_id,
        "partition": partition.partition,
        "cluster": partition.cluster,
    }

    def missing() -> Collection[int]:
        absent = missing_numbers(client, table, "offset", key, batch.offsets, doing)
        # What was archived and dropped since has landed, too.
        within = [
            range(max(each.first, batch.range.first), min(each.last, batch.range.last) + 1)
            for each in archived
        ]
        return frozenset(absent).difference(*within) if any(within) else absent

    return land_exactly_once(
        batch.offsets,
        batch.token,
        missing=missing,
        insert=lambda offsets, token: insert_block(
            client,
            table,
            batch_block(batch if len(offsets) == len(batch) else batch.only(offsets)),
            token,
            doing,
        ),
    )


def _events(
    partition: PartitionId,
    part: _Rows,
    valid: pa.Array,
    columns: LabelColumns,
    file: RowFile,
    today: datetime,
) -> Batch:
    rows = len(valid)
    ids = part.ids.take(valid)

    def constant(value: object) -> pa.Array:
        return pa.repeat(pa.scalar(json.dumps(value, ensure_ascii=False)), rows)

    source = columns.source if columns.source is not None else f"file:{file.name}"
    values = json_objects(
        [
            ("schema_version", constant(SCHEMA_VERSION)),
            ("prediction_id", json_values(ids, columns.prediction_id)),
            ("model_name", constant(columns.model_name)),
            ("label", part.labels.take(valid)),
            ("observed_at", json_values(part.times.take(valid), columns.observed_at)),
            ("source", constant(source)),
        ],
        rows,
    )
    name = file.name.encode(errors="replace")
    day: date = today.date()
    return Batch(
        partition=partition,
        batch_date=day,
        blocks=(
            message_block(
                offsets=[part.first + index for index in valid.to_pylist()],
                timestamps=[int(today.timestamp() * 1000)] * rows,
                keys=ids,
                headers=[(("file", name),)] * rows,
                values=values,
            ),
        ),
    )


# -- reading ------------------------------------------------------------------------------------


def _read(
    file: RowFile,
    columns: LabelColumns,
    *,
    is_number: bool,
    digest: _Hash | None = None,
    on_progress: OnProgress = lambda phase, done, total: None,  # noqa: ARG005
) -> Iterator[_Rows]:
    """Give the file's rows in batches, and add its content to `digest`.

    Raises RowFileError where it cannot be read.
    """
    reader = {"csv": _read_csv, "parquet": _read_parquet, "jsonl": _read_jsonl}[file.format]
    first = 0
    for batch in reader(file, columns, digest, on_progress):
        if batch.num_rows:
            yield _rows(batch, first, columns, is_number=is_number)
            first += batch.num_rows


def _rows(batch: pa.RecordBatch, first: int, columns: LabelColumns, *, is_number: bool) -> _Rows:
    labels = batch.column(columns.label)
    is_json = b"labels_are_json" in (batch.schema.metadata or {})
    if is_json or (is_number and pa.types.is_string(labels.type)):
        label_texts = pc.fill_null(labels, "null")
    else:
        label_texts = json_values(labels, columns.label)
        label_texts = pc.if_else(pc.equal(label_texts, '""'), "null", label_texts)
    if columns.observed_at_constant is not None:
        shown_times = pa.repeat(
            pa.scalar(columns.observed_at_constant, pa.timestamp("ms", "UTC")), batch.num_rows
        )
    else:
        shown_times = batch.column(columns.observed_at)
    return _Rows(
        first=first,
        ids=plain_texts(batch.column(columns.prediction_id), columns.prediction_id),
        labels=label_texts,
        times=time_texts(shown_times, columns.observed_at),
        shown_labels=labels,
        shown_times=shown_times,
        faults=batch.column(_FAULT) if is_json else pa.nulls(batch.num_rows, pa.string()),
    )


def _check_columns(file: RowFile, columns: LabelColumns, found: list[str]) -> None:
    for column in columns.wanted:
        if column not in found:
            raise LabelFileError(
                f"{file.location} has no column {column!r}; it has {', '.join(found)}. Name the "
                "right one with --prediction-id-column, --label-column or --observed-at-column, "
                "or give one time for all rows with --observed-at"
            )
        if found.count(column) > 1:
            raise LabelFileError(f"{file.location} has two columns {column!r}: rename one of them")


def _read_csv(
    file: RowFile, columns: LabelColumns, digest: _Hash | None, on_progress: OnProgress
) -> Iterator[pa.RecordBatch]:
    import pyarrow.csv

    block = pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES)
    with file.stream() as content:
        _check_columns(file, columns, pyarrow.csv.open_csv(content, block).schema.names)
    with file.stream(
        digest, lambda done: on_progress("checking bytes", done, file.byte_count)
    ) as content:
        yield from pyarrow.csv.open_csv(
            content,
            block,
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=columns.wanted,
                column_types=dict.fromkeys(columns.wanted, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )


def _read_parquet(
    file: RowFile, columns: LabelColumns, digest: _Hash | None, on_progress: OnProgress
) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet

    with (
        file.random_access() as content,
        # Buffered: otherwise a column of a whole row group is read at once.
        pyarrow.parquet.ParquetFile(content, buffer_size=BLOCK_BYTES) as parquet,
    ):
        _check_columns(file, columns, parquet.schema_arrow.names)
        done = 0
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns.wanted):
            yield batch
            done += batch.num_rows
            on_progress("checking rows", done, parquet.metadata.num_rows)
    if digest is not None:
        file.add_to(digest)


def _read_jsonl(
    file: RowFile, columns: LabelColumns, digest: _Hash | None, on_progress: OnProgress
) -> Iterator[pa.RecordBatch]:
    """Read line by line: labels may be texts, numbers and booleans in one file."""
    names = [*columns.wanted, _FAULT]
    schema = pa.schema([(name, pa.string()) for name in names], metadata={"labels_are_json": "1"})

    def batch() -> pa.RecordBatch:
        return pa.record_batch([pa.array(values, pa.string()) for values in rows], schema)

    rows: list[list[str | None]] = [[] for _ in names]
    with file.stream(
        digest, lambda done: on_progress("checking bytes", done, file.byte_count)
    ) as content:
        for line in content:
            for values, cell in zip(rows, _cells(line, columns), strict=True):
                values.append(cell)
            if len(rows[0]) == _BATCH_ROWS:
                yield batch()
                rows = [[] for _ in names]
    yield batch()


def _cells(line: bytes, columns: LabelColumns) -> list[str | None]:
    """Give the wanted cells of a line, labels as JSON, and why it cannot be read (else None)."""
    nothing: list[str | None] = [None] * len(columns.wanted)
    try:
        found = json.loads(line)
        if not isinstance(found, dict):
            return [*nothing, "is not a JSON object"]
        cells = [_cell(found.get(column), column == columns.label) for column in columns.wanted]
        for cell in cells:
            if cell is not None:
                cell.encode()
    except UnicodeDecodeError as error:
        return [*nothing, f"is not UTF-8: {error}"]
    except UnicodeEncodeError:
        return [*nothing, "has a lone surrogate, which is no character"]
    except (ValueError, RecursionError) as error:
        return [*nothing, f"is not JSON: {error}"]
    return [*cells, None]


def _cell(value: object, is_label: bool) -> str | None:
    if not is_label:
        return value if isinstance(value, str) or value is None else json.dumps(value)
    if value is None or value == "" or isinstance(value, dict | list):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.dumps(value, ensure_ascii=False)


__all__ = [
    "ColumnError",
    "LabelColumns",
    "LabelFileError",
    "LabelImport",
    "import_labels",
]
