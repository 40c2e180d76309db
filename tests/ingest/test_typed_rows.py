"""Rows of files in blocks: the types are those of the whole file, as Arrow would find them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import typed_rows
from ingest.baselines import Roles, register_baseline
from ingest.row_files import RowFileError
from ingest.typed_rows import FileRows, TableRows, in_batches, open_rows
from tests.ingest.conftest import Systems

CELLS = (
    "", "NaN", "null", "NA", "0", "1", "-7", "1.5", "1e3", "true", "False", "2026-01-01",
    "10:30:00", "2026-01-01 10:00:00", "2026-01-01T10:00:00.123456", "2026-01-01T10:00:00Z",
    "2026-01-01T10:00:00.5Z", "2026-01-01T10:00:00+02:00", "late", "12345678901234567890", "ü'x'",
)  # fmt: skip


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_rows, "BLOCK_BYTES", 96)


def whole(rows: FileRows) -> pa.Table:
    return pa.Table.from_batches(rows.batches(), rows.schema)


def read_whole_csv(path: Path) -> pa.Table:
    return pyarrow.csv.read_csv(
        path,
        convert_options=pyarrow.csv.ConvertOptions(
            null_values=["", "NaN", "nan", "null", "NULL"], strings_can_be_null=True
        ),
    )


column = st.lists(st.sampled_from(CELLS), min_size=1, max_size=3).flatmap(
    lambda kinds: st.lists(st.sampled_from(kinds), min_size=30, max_size=30)
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(columns=st.lists(column, min_size=1, max_size=4))
def test_csv_in_blocks_is_what_arrow_reads_whole(
    columns: list[list[str]], tmp_path: Path, small_blocks: None
) -> None:
    path = tmp_path / "rows.csv"
    lines = [",".join(cells) for cells in zip(*columns, strict=True)]
    head = ",".join(f"c{number}" for number in range(len(columns)))
    # A last column, so that no line is empty.
    path.write_text("\n".join(f"{line},x" for line in [head, *lines]) + "\n")
    expected = read_whole_csv(path)
    found = whole(open_rows(path))
    assert found.schema == expected.schema
    assert found.to_pydict() == expected.to_pydict()


def test_misfit_in_a_late_block_makes_the_whole_column_wider(
    tmp_path: Path, small_blocks: None
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("n,c\n" + "1,1\n" * 500 + "2.5,x\n")
    schema = open_rows(path).schema
    assert schema.types == [pa.float64(), pa.string()]


LINES: list[list[dict[str, Any]]] = [
    [{"x": 1, "c": "a"}] * 20 + [{"x": 2.5, "c": None}] * 20,
    [{"x": None}] * 20 + [{"x": True}] * 20,
    [{"x": 1}] * 20 + [{"late": "column"}] * 20,
    [{"t": "2026-01-01 10:00:00"}] * 20 + [{"t": "soon"}] * 20,
]


@pytest.mark.parametrize("rows", LINES)
def test_jsonl_in_blocks_is_what_arrow_reads_whole(
    rows: list[dict[str, Any]], tmp_path: Path, small_blocks: None
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = pyarrow.json.read_json(path)
    found = whole(open_rows(path))
    assert found.schema == expected.schema
    assert found.to_pydict() == expected.to_pydict()


def test_jsonl_of_two_kinds_is_refused_with_the_row(tmp_path: Path, small_blocks: None) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": 1}\n' * 50 + '{"x": "one"}\n')
    with pytest.raises(RowFileError, match=r"rows.jsonl cannot be read: .*\(/x\) changed"):
        whole(open_rows(path))
    path.write_text('{"x": 1}\n' * 50 + "{\n")
    with pytest.raises(RowFileError, match=r"counted from row 45"):
        open_rows(path)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".jsonl"])
def test_file_is_read_with_its_types_and_nulls(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"baseline{suffix}"
    table = pa.table({"x": [1.5, None], "c": ["NA", None], "b": [True, False]})
    if suffix.startswith(".csv"):
        content = pa.BufferOutputStream()
        pyarrow.csv.write_csv(table, content)
        written = content.getvalue().to_pybytes()
        path.write_bytes(gzip.compress(written) if suffix.endswith(".gz") else written)
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    assert whole(open_rows(path)).to_pydict() == table.to_pydict()


@pytest.mark.parametrize("sizes", [[], [3], [1, 1, 1, 1], [7, 2, 5], [4, 4], [0, 9]])
def test_batches_have_one_size_however_rows_come(sizes: list[int]) -> None:
    table = pa.table({"x": pa.array(range(sum(sizes)), pa.int64())})
    chunks, first = [], 0
    for size in sizes:
        chunks.append(table.slice(first, size))
        first += size
    given_rows = TableRows(pa.concat_tables(chunks) if chunks else table)
    batches = list(in_batches(given_rows, 4))
    assert [batch.num_rows for batch in batches[:-1]] == [4] * (len(batches) - 1)
    assert [row for batch in batches for row in batch.column(0).to_pylist()] == list(range(first))


def test_baseline_is_the_same_from_memory_disk_and_s3(
    systems: Systems, tmp_path: Path, bucket: Any
) -> None:
    count = 50_000
    table = pa.table(
        {
            "x": [number / 4 for number in range(count)],
            "c": [None if number % 7 == 0 else f"c{number % 5}" for number in range(count)],
            "score": [number % 100 / 100 for number in range(count)],
        }
    )
    path = tmp_path / "baseline.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=30_000)
    pyarrow.csv.write_csv(table, tmp_path / "baseline.csv")
    bucket.upload_file(str(path), "folder/baseline.parquet")
    found = [
        register_baseline(
            systems.client,
            rows,
            Roles(score="score"),
            model_name="m",
            model_version="1",
            raw_database=systems.raw_database,
        )
        for rows in (
            open_rows(f"s3://{bucket.name}/folder/baseline.parquet"),
            open_rows(path),
            open_rows(tmp_path / "baseline.csv"),
            table,
        )
    ]
    assert [baseline.is_new for baseline in found] == [True, False, False, False]
    assert len({baseline.baseline_id for baseline in found}) == 1
    assert systems.rows("select count(), max(row_number) from raw.baseline_rows") == [
        (count, count - 1)
    ]


def test_every_wrong_row_is_counted_and_the_first_named(systems: Systems) -> None:
    rows = pa.table({"x": [1] * 40, "s": [0.5] * 20 + [1.5] * 15 + [-1.0] * 5})
    with pytest.raises(ValueError, match="20 values in 40 rows are wrong") as caught:
        register_baseline(
            systems.client,
            rows,
            Roles(score="s"),
            model_name="m",
            model_version="1",
            raw_database=systems.raw_database,
        )
    lines = str(caught.value).splitlines()
    assert lines[1] == "row 21: 's' is 1.5, not a probability in [0, 1]"
    assert len(lines) == 12
    assert lines[-1] == "… and 10 more"
