"""Labels from files, on disk and on S3: every row once, errors by row, twice is once."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import zstandard
from botocore.stub import Stubber

from ingest.label_files import LabelColumns, LabelFileError, LabelImport, import_labels
from ingest.landing import LandingError
from ingest.raw_tables import LABEL_EVENTS
from ingest.row_files import BLOCK_BYTES, RowFileError, find_row_file
from tests.ingest.conftest import Systems

COLUMNS = LabelColumns(model_name="m")
ROWS = [
    {"prediction_id": f"id-{number}", "label": label, "observed_at": f"2026-11-{1 + number:02}"}
    for number, label in enumerate(["late", "on_time", 'od"d', "näh"])
]


def write_csv(path: Path, table: pa.Table) -> Path:
    pyarrow.csv.write_csv(table, path.with_suffix(".csv"))
    return path.with_suffix(".csv")


def write_parquet(path: Path, table: pa.Table) -> Path:
    pyarrow.parquet.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def write_jsonl(path: Path, table: pa.Table) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


WRITERS = pytest.mark.parametrize("write", [write_csv, write_parquet, write_jsonl])
Writer = Callable[[Path, pa.Table], Path]


def run_import(
    systems: Systems, path: Path | str, columns: LabelColumns = COLUMNS, **options: Any
) -> LabelImport:
    return import_labels(
        systems.client,
        path,
        columns,
        raw_database=systems.raw_database,
        topic=systems.kafka.labels_topic,
        **options,
    )


def events(systems: Systems) -> list[Any]:
    values = systems.column(f"select value from raw.{LABEL_EVENTS} order by offset")
    return [json.loads(value) for value in values]


@WRITERS
def test_labels_land_as_events(systems: Systems, tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "labels", pa.Table.from_pylist(ROWS))
    assert run_import(systems, path) == LabelImport(landed=4, landed_before=0, invalid=0)
    assert events(systems) == [
        {
            "schema_version": 1,
            "prediction_id": row["prediction_id"],
            "model_name": "m",
            "label": row["label"],
            "observed_at": f"{row['observed_at']}T00:00:00.000Z",
            "source": f"file:{path.name}",
        }
        for row in ROWS
    ]
    coordinates = systems.rows(
        f"""select cluster, topic, length(topic_id), partition, offset, key, headers.name
        from raw.{LABEL_EVENTS} order by offset limit 1"""
    )
    topic = systems.kafka.labels_topic
    assert coordinates == [("file", topic, 64, 0, 0, "id-0", ["file"])]


@WRITERS
def test_second_import_of_a_file_adds_nothing(
    systems: Systems, tmp_path: Path, write: Writer
) -> None:
    path = write(tmp_path / "labels", pa.Table.from_pylist(ROWS))
    run_import(systems, path)
    assert run_import(systems, path) == LabelImport(landed=0, landed_before=4, invalid=0)
    assert sorted(systems.label_ids()) == [f"id-{number}" for number in range(4)]


@WRITERS
def test_changed_content_is_another_import(systems: Systems, tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "labels", pa.Table.from_pylist(ROWS))
    run_import(systems, path)
    path = write(tmp_path / "labels", pa.Table.from_pylist([*ROWS[:3], {**ROWS[3], "label": "x"}]))
    assert run_import(systems, path) == LabelImport(landed=4, landed_before=0, invalid=0)


def test_same_file_read_otherwise_is_another_one(systems: Systems, tmp_path: Path) -> None:
    rows = [{**row, "other": f"{row['label']}!"} for row in ROWS]
    path = write_parquet(tmp_path / "labels", pa.Table.from_pylist(rows))
    run_import(systems, path)
    run_import(systems, path, LabelColumns(model_name="m", label="other"))
    assert len(systems.label_ids()) == 8


@WRITERS
def test_many_labels_land_exactly_once_in_batches(
    systems: Systems, tmp_path: Path, write: Writer
) -> None:
    count = 120_000
    table = pa.table(
        {
            "prediction_id": [f"id-{number}" for number in range(count)],
            "label": ["late", "on_time"] * (count // 2),
            "observed_at": pa.repeat(pa.scalar("2026-11-22T10:00:00Z"), count),
        }
    )
    path = write(tmp_path / "labels", table)
    phases: dict[str, tuple[int, int]] = {}

    def note(phase: str, done: int, total: int) -> None:
        assert done > phases.get(phase, (0, 0))[0] or phase == "checking bytes"
        phases[phase] = (done, total)

    run_import(systems, path, on_progress=note)
    size = path.stat().st_size
    checked = {
        ".parquet": {"checking rows": (count, count)},
    }.get(path.suffix, {"checking bytes": (size, size)})
    assert phases == {**checked, "importing rows": (count, count)}
    assert set(systems.label_ids()) == {f"id-{number}" for number in range(count)}
    assert systems.rows(f"select count(), max(offset) from raw.{LABEL_EVENTS}") == [
        (count, count - 1)
    ]


def test_interrupted_import_is_completed_by_the_next(systems: Systems, tmp_path: Path) -> None:
    count = 120_000
    table = pa.table(
        {
            "prediction_id": [f"id-{number}" for number in range(count)],
            "label": pa.repeat(pa.scalar(1), count),
            "observed_at": pa.repeat(pa.scalar(datetime(2026, 11, 22, tzinfo=UTC)), count),
        }
    )
    path = write_parquet(tmp_path / "labels", table)

    def interrupt(phase: str, done: int, total: int) -> None:
        if phase == "importing rows":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_import(systems, path, on_progress=interrupt)
    before = len(systems.label_ids())
    assert 0 < before < count
    assert run_import(systems, path) == LabelImport(count - before, before, 0)
    assert set(systems.label_ids()) == {f"id-{number}" for number in range(count)}
    assert len(systems.label_ids()) == count


@pytest.mark.parametrize(
    ("cells", "label_type", "expected"),
    [
        (["1", "0.5", "-2e3"], "auto", [1, 0.5, -2000.0]),
        (["1", "late"], "auto", ["1", "late"]),
        (["01", "1"], "auto", ["01", "1"]),
        (["1", "0"], "string", ["1", "0"]),
        (["1", "0"], "number", [1, 0]),
    ],
)
def test_csv_labels_are_numbers_where_all_of_them_are(
    systems: Systems, tmp_path: Path, cells: list[str], label_type: Any, expected: list[Any]
) -> None:
    rows = "".join(f"id-{index},{cell},2026-11-22\n" for index, cell in enumerate(cells))
    path = tmp_path / "labels.csv"
    path.write_text("prediction_id,label,observed_at\n" + rows)
    run_import(systems, path, LabelColumns(model_name="m", label_type=label_type))
    assert [event["label"] for event in events(systems)] == expected


def test_csv_label_that_is_no_number_is_refused_where_numbers_are_asked(
    systems: Systems, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("prediction_id,label,observed_at\na,late,2026-11-22\n")
    with pytest.raises(LabelFileError, match="'late' is not a number"):
        run_import(systems, path, LabelColumns(model_name="m", label_type="number"))


def test_json_labels_keep_their_types(systems: Systems, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    labels = ["late", 1, 2.5, True]
    path.write_text(
        "".join(
            json.dumps({"prediction_id": f"id-{index}", "label": label}) + "\n"
            for index, label in enumerate(labels)
        )
    )
    columns = LabelColumns(model_name="m", observed_at_constant=datetime(2026, 11, 22, tzinfo=UTC))
    run_import(systems, path, columns)
    assert [event["label"] for event in events(systems)] == labels
    assert {event["observed_at"] for event in events(systems)} == {"2026-11-22T00:00:00.000Z"}


BAD_CSV = """prediction_id,label,observed_at
a,late,2026-11-22
,late,2026-11-22
b,,2026-11-22
c,late,soon
d,late,
e,on_time,2026-11-23
"""


def test_invalid_rows_are_named_and_nothing_lands(systems: Systems, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(BAD_CSV)
    with pytest.raises(LabelFileError) as caught:
        run_import(systems, path)
    assert str(caught.value).splitlines()[0].startswith(f"{path}: 4 of 6 rows are invalid")
    assert str(caught.value).splitlines()[1:] == [
        "row 2: the prediction id is missing",
        "row 3: the label is missing",
        "row 4: the observation time 'soon' is not a time",
        "row 5: the observation time is missing",
    ]
    exists = systems.client.query(f"exists {systems.raw_database}.{LABEL_EVENTS}").result_rows
    assert exists == [(0,)]


def test_invalid_rows_are_skipped_on_request(systems: Systems, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(BAD_CSV)
    assert run_import(systems, path, skip_invalid=True) == LabelImport(2, 0, 4)
    assert run_import(systems, path, skip_invalid=True) == LabelImport(0, 2, 4)
    assert sorted(systems.coordinates(LABEL_EVENTS)) == [(0, 0), (0, 5)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "prediction_id,lable,observed_at\na,b,c\n", "no column 'label'; it has"),
        ("a.csv", "prediction_id,label,observed_at\n", "has no rows"),
        (
            "a.csv",
            "prediction_id,label,observed_at\na,b,2026-11-22\na,b\n",
            "Expected 3 columns, got 2.*1 rows are wrong\nrow 2: 2 cells, where the header has 3",
        ),
        ("a.csv", "prediction_id,label,label,observed_at\na,b,c,d\n", "two columns 'label'"),
        ("a.csv", "", "is empty"),
        ("a.csv.gz", "prediction_id,label,observed_at\n", "cannot be read"),
        ("a.parquet.gz", "", "neither .csv nor .parquet nor .jsonl"),
        ("a.jsonl", '{"prediction_id": "a"}\n{', "row 2 is not JSON"),
        ("a.jsonl", "[1]\n", "row 1 is not a JSON object"),
        ("a.parquet", "not parquet", "cannot be read"),
        ("a.xlsx", "", "neither .csv nor .parquet nor .jsonl"),
    ],
)
def test_file_that_cannot_be_read_says_why(
    systems: Systems, tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(RowFileError, match=f"(?s){message}"):
        run_import(systems, path)


BAD_JSONL = b"""{"prediction_id": "a", "label": "late", "observed_at": "2026-11-22"}
{"prediction_id": "b", "label":
["c"]
{"prediction_id": "d", "label": "\\ud800", "observed_at": "2026-11-22"}
{"prediction_id": "e", "label": "l\xff", "observed_at": "2026-11-22"}
{"prediction_id": "f", "label": 1e400, "observed_at": "2026-11-22"}
{"prediction_id": "g", "label": "late"}
"""


def test_lines_that_are_no_labels_are_named_or_skipped(systems: Systems, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(BAD_JSONL + b"[" * 100_000 + b"\n")
    with pytest.raises(LabelFileError) as caught:
        run_import(systems, path)
    lines = str(caught.value).splitlines()
    assert "7 of 8 rows are invalid" in lines[0]
    assert [line.split(":")[0] for line in lines[1:]] == [
        "row 2 is not JSON",
        "row 3 is not a JSON object",
        "row 4 has a lone surrogate, which is no character",
        "row 5 is not UTF-8",
        "row 6",
        "row 7",
        "row 8 is not JSON",
    ]
    assert run_import(systems, path, skip_invalid=True) == LabelImport(1, 0, 7)


def test_only_the_first_faults_are_listed_and_all_counted(systems: Systems, tmp_path: Path) -> None:
    head = "prediction_id,label,observed_at\n"
    path = tmp_path / "labels.csv"
    path.write_text(head + "a,,2026-11-22\n" * 30)
    with pytest.raises(LabelFileError) as caught:
        run_import(systems, path)
    assert str(caught.value).splitlines()[-2:] == ["row 10: the label is missing", "… and 20 more"]
    path.write_bytes(head.encode() + b"a,b\n" * 15 + b"a,\xff,2026-11-22\n" * 15)
    with pytest.raises(RowFileError) as ragged:
        run_import(systems, path)
    lines = str(ragged.value).splitlines()
    assert lines[0].endswith("; 30 rows are wrong")
    assert lines[-2:] == ["row 10: 2 cells, where the header has 3", "… and 20 more"]


def test_file_that_changes_while_it_is_read_is_refused(systems: Systems, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "labels", pa.Table.from_pylist(ROWS))

    other = path.read_text().replace("id-3", "id-4")

    def change(phase: str, done: int, total: int) -> None:
        path.write_text(other)

    with pytest.raises(RowFileError, match="changed while it was read"):
        run_import(systems, path, on_progress=change)


def compressed(path: Path) -> list[Path]:
    """Give the file compressed in both ways, gzip in two members, as `cat` of two files gives."""
    content = path.read_bytes()
    half = len(content) // 2
    as_gzip, as_zstd = path.with_name(f"{path.name}.gz"), path.with_name(f"{path.name}.zst")
    as_gzip.write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:]))
    as_zstd.write_bytes(zstandard.compress(content))
    return [as_gzip, as_zstd]


@WRITERS
def test_same_content_is_one_import_wherever_it_is(
    systems: Systems, tmp_path: Path, write: Writer, bucket: Any
) -> None:
    path = write(tmp_path / "labels", pa.Table.from_pylist(ROWS))
    key = f"some/folder/{path.name}"
    bucket.upload_file(str(path), key)
    others = [str(each) for each in compressed(path)] if path.suffix != ".parquet" else []
    assert run_import(systems, f"s3://{bucket.name}/{key}") == LabelImport(4, 0, 0)
    for location in (*others, str(path)):
        assert run_import(systems, location) == LabelImport(0, 4, 0)
    assert [event["source"] for event in events(systems)] == [f"file:{path.name}"] * 4


class CountingS3:
    """Boto3's client, that remembers the ranges it was asked for."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.ranges: list[str] = []

    def get_object(self, **arguments: Any) -> Any:
        if "Range" in arguments:
            self.ranges.append(arguments["Range"])
        return self.client.get_object(**arguments)


@WRITERS
def test_object_is_read_in_ranges(
    systems: Systems, tmp_path: Path, write: Writer, bucket: Any
) -> None:
    count = 60_000
    rows = range(count)
    table = pa.table(
        {
            "prediction_id": [f"{number:0200}" for number in rows],
            "label": [1, 0] * (count // 2),
            "observed_at": pa.repeat(pa.scalar(datetime(2026, 11, 22, tzinfo=UTC)), count),
            "other": [str(sha256(b"%d" % number).hexdigest()) * 3 for number in rows],
        }
    )
    if write is write_jsonl:
        table = table.set_column(2, "observed_at", pa.repeat(pa.scalar("2026-11-22"), count))
    path = write(tmp_path / "labels", table)
    bucket.upload_file(str(path), path.name)
    s3 = CountingS3(boto3.client("s3"))
    location = f"s3://{bucket.name}/{path.name}"
    imported = run_import(systems, location, connect_s3=lambda: s3)
    assert imported == LabelImport(count, 0, 0)
    ranges = [tuple(map(int, each.removeprefix("bytes=").split("-"))) for each in s3.ranges]
    assert len(ranges) > path.stat().st_size // BLOCK_BYTES
    assert max(last - first + 1 for first, last in ranges) <= BLOCK_BYTES
    assert run_import(systems, path) == LabelImport(0, count, 0)


def test_object_that_is_replaced_while_it_is_read_is_refused(
    systems: Systems, tmp_path: Path, bucket: Any
) -> None:
    path = write_csv(tmp_path / "labels", pa.Table.from_pylist(ROWS))
    bucket.upload_file(str(path), "labels.csv")
    other = path.read_bytes().replace(b"id-3", b"id-4")

    def replace(phase: str, done: int, total: int) -> None:
        bucket.put_object(Key="labels.csv", Body=other)

    with pytest.raises(RowFileError, match="changed while it was read"):
        run_import(systems, f"s3://{bucket.name}/labels.csv", on_progress=replace)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://no-such-bucket-anywhere/labels.csv", "no bucket no-such-bucket-anywhere"),
        ("s3://{bucket}/labels.csv", "has no such object"),
        ("s3://{bucket}/empty.csv", "is empty"),
        ("s3:///labels.csv", "not of the form s3://bucket/key"),
        ("s3://labels.csv", "not of the form s3://bucket/key"),
        ("{folder}/labels.csv", "there is no file"),
        ("{folder}/folder.csv", "is a folder"),
    ],
)
def test_file_that_is_not_there_is_named(
    systems: Systems, tmp_path: Path, bucket: Any, location: str, message: str
) -> None:
    bucket.put_object(Key="empty.csv", Body=b"")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RowFileError, match=message):
        run_import(systems, location.format(bucket=bucket.name, folder=tmp_path))


def test_object_that_may_not_be_read_is_explained(bucket: Any) -> None:
    client = boto3.client("s3")
    with Stubber(client) as stubber:
        stubber.add_client_error("get_object", "AccessDenied", http_status_code=403)
        with pytest.raises(RowFileError, match="access is denied: allow s3:GetObject"):
            find_row_file(f"s3://{bucket.name}/labels.csv", lambda: client)


def test_command_imports_and_says_what_next(systems: Systems, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "labels", pa.Table.from_pylist(ROWS))
    command = [sys.executable, "-m", "driftline", "labels", "import", str(path)]
    command += ["--model-name", "m", "--source", "registry"]
    for expected in ("4 labels landed", "4 had landed before"):
        done = subprocess.run(
            command,
            env=systems.process_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected in done.stdout
        assert "next: driftline dbt build" in done.stdout
    assert {event["source"] for event in events(systems)} == {"registry"}


def test_command_imports_an_object_and_explains_a_wrong_one(
    systems: Systems, tmp_path: Path, bucket: Any
) -> None:
    path = write_csv(tmp_path / "labels", pa.Table.from_pylist(ROWS))
    bucket.upload_file(str(path), "labels.csv")
    command = [sys.executable, "-m", "driftline", "labels", "import", "--model-name", "m"]
    options: Any = {"env": systems.process_environment(), "capture_output": True, "text": True}
    done = subprocess.run([*command, f"s3://{bucket.name}/labels.csv"], **options, check=True)
    assert "labels.csv: 4 labels landed" in done.stdout
    assert done.stderr == ""
    failed = subprocess.run([*command, f"s3://{bucket.name}/lables.csv"], **options, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: s3://{bucket.name}/lables.csv: the bucket")


def test_command_fails_with_the_rows_that_are_wrong(systems: Systems, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(BAD_CSV)
    done = subprocess.run(
        [sys.executable, "-m", "driftline", "labels", "import", str(path), "--model-name", "m"],
        env=systems.process_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "row 4: the observation time 'soon' is not a time" in done.stderr


def test_refused_insert_is_explained(systems: Systems, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "labels", pa.Table.from_pylist(ROWS))
    systems.client.command(f"create database {systems.raw_database}")
    systems.client.command(
        f"create table {systems.raw_database}.{LABEL_EVENTS} (x Int8) engine = MergeTree order by x"
    )
    with pytest.raises(LandingError, match="labels of"):
        run_import(systems, path)
