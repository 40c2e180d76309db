"""Raw events go to S3 and come back byte for byte, whatever is cut short or damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.settings import ArchiveSettings, SettingsError
from ingest.archive.object_store import ArchiveError
from ingest.archive.operations import ArchiveReport, settled_before
from ingest.archive.ranges import (
    CHUNK_OFFSETS,
    Cell,
    EventRange,
    holes,
    packed,
    unclaimed,
)
from ingest.label_files import LabelColumns, LabelImport, import_labels
from ingest.landing import ClickHouseSink
from ingest.loader import StopWhen
from ingest.offsets import OffsetRange, PartitionId
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS
from tests.ingest.archived_warehouse import (
    DAY,
    NEXT_DAY,
    NOW,
    ODD_HEADERS,
    ODD_KEYS,
    ODD_VALUES,
    Archived,
    archived_on,
    s3_server,
)
from tests.ingest.conftest import Systems


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def archived(systems: Systems, s3_url: str) -> Archived:
    return archived_on(systems, s3_url)


PREDICTIONS = PartitionId("cluster", "predictions", "id-1", 0)
RECREATED = PartitionId("cluster", "predictions", "id-2", 0)
ELSEWHERE = PartitionId("cluster-2", "predictions", "id-1", 0)
SECOND = PartitionId("cluster", "predictions", "id-1", 1)
LABELS = PartitionId("cluster", "labels", "", 0)


def test_round_trip_through_an_empty_warehouse_gives_the_same_bytes(archived: Archived) -> None:
    for partition in (PREDICTIONS, RECREATED, ELSEWHERE, SECOND):
        archived.land(partition, range(90))
    archived.land(PREDICTIONS, [90, 93, 99], NEXT_DAY)  # holes, and another month
    archived.land(LABELS, range(5, 40), table=LABEL_EVENTS)
    before = archived.events(), archived.events(LABEL_EVENTS)
    landed_at = archived.systems.column("select max(landed_at) from raw.prediction_events")[0]

    report = archived.archive().run()
    assert (report.objects, report.rows) == (6, 4 * 90 + 3 + 35)
    archived.empty_the_warehouse()
    restored = archived.archive().restore()

    assert (restored.rows, restored.adopted, restored.rows_before) == (report.rows, 6, 0)
    assert (archived.events(), archived.events(LABEL_EVENTS)) == before
    assert archived.systems.column("select min(landed_at) from raw.prediction_events")[0] > (
        landed_at
    )
    again = archived.archive().restore()
    assert (again.rows, again.rows_before, again.objects, again.adopted) == (0, report.rows, 0, 0)
    assert archived.archive().verify(before=None).problems == []


def test_running_twice_adds_nothing(archived: Archived) -> None:
    archived.land(PREDICTIONS, range(50))
    archived.archive().run()
    objects = archived.objects()
    assert archived.archive().run() == ArchiveReport()
    assert archived.objects() == objects
    assert list(objects) == [
        "some/prefix/prediction_events/cluster=cluster/topic_id=id-1/topic=predictions"
        "/date=2026-09-30/predictions-0-0-49.parquet"
    ]


def test_object_is_parquet_that_others_can_read(archived: Archived) -> None:
    archived.land(PREDICTIONS, range(3, 50))
    archived.archive().run()
    (content,) = archived.objects().values()
    with pq.ParquetFile(pa.BufferReader(content)) as parquet:
        assert parquet.metadata.row_group(0).column(0).compression == "ZSTD"
        table = parquet.read()
    assert table.column("offset").to_pylist() == list(range(3, 50))
    assert table.column("key").to_pylist() == [ODD_KEYS[at % 5] for at in range(3, 50)]
    assert table.column("value").to_pylist() == [ODD_VALUES[at // 5 % 5] for at in range(3, 50)]
    assert table.column("headers")[4].as_py() == [
        {"name": name.encode(), "value": value} for name, value in ODD_HEADERS[7 % 3]
    ]


@pytest.mark.parametrize("point", ["after_upload", "after_manifest_row"])
def test_interrupted_run_is_completed_with_the_same_objects(archived: Archived, point: str) -> None:
    class KilledError(Exception):
        pass

    archived.land(PREDICTIONS, range(1000), value=b"v" * 100)
    # Objects of at most two cells.
    small = {"object_bytes": 64 * 110 * 2}
    passes = 0

    def crash_point(name: str) -> None:
        nonlocal passes
        passes += name == point
        if passes == 3:
            raise KilledError

    with pytest.raises(KilledError):
        archived.archive(crash_point=crash_point, **small).run()
    interrupted = archived.objects()
    assert len(interrupted) == 3
    assert len(archived.manifest()) == (2 if point == "after_upload" else 3)

    archived.archive(**small).run()
    completed = archived.objects()
    assert {key: completed[key] for key in interrupted} == interrupted
    assert len(completed) == len(archived.manifest()) == 8
    assert sum(rows for _, rows in archived.manifest()) == 1000
    assert archived.archive().verify().problems == []


def test_large_range_is_cut_at_chunks_and_streams_in_row_groups(archived: Archived) -> None:
    first = CHUNK_OFFSETS - 70_000
    archived.land(PREDICTIONS, range(first, first + 75_000), value=b"v")
    before = archived.systems.column(
        "select sum(cityHash64(offset, value, key, headers)) from raw.prediction_events"
    )
    archived.archive().run()
    assert [rows for _, rows in archived.manifest()] == [70_000, 5_000]
    archived.empty_the_warehouse()
    assert archived.archive().restore().rows == 75_000
    assert before == archived.systems.column(
        "select sum(cityHash64(offset, value, key, headers)) from raw.prediction_events"
    )


def test_only_settled_days_are_archived(archived: Archived) -> None:
    settled = settled_before(NOW)
    assert settled == date(2026, 11, 21)
    archived.land(PREDICTIONS, range(10), date(2026, 11, 20))
    archived.land(PREDICTIONS, range(10, 30), date(2026, 11, 21))
    assert archived.archive().run().rows == 10
    assert archived.archive().verify().problems == []
    # A day that is archived too early goes on in a further object.
    assert archived.archive().run(before=date(2026, 11, 22)).rows == 20
    archived.land(PREDICTIONS, range(30, 35), date(2026, 11, 21))
    assert archived.archive().run(before=date(2026, 11, 22)).rows == 5
    assert [rows for _, rows in archived.manifest()] == [10, 20, 5]


def test_rows_within_an_archived_range_are_named(archived: Archived) -> None:
    archived.land(PREDICTIONS, [0, 1, 5])
    archived.archive().run()
    archived.land(PREDICTIONS, [3])
    with pytest.raises(ArchiveError, match=r"predictions\[0\].* offsets 0-5 .*4 rows"):
        archived.archive().run()
    assert "4 rows are in prediction_events and only 3" in archived.archive().verify().problems[0]
    with pytest.raises(ArchiveError, match="nothing was dropped"):
        archived.archive().expire(before=date(2026, 11, 1))
    # The remedy that the message names.
    archived.systems.client.command(
        f"alter table {archived.systems.raw_database}.archive_manifest delete where true",
        settings={"mutations_sync": 2},
    )
    assert archived.archive().run().rows == 4
    assert archived.archive().verify().problems == []


@pytest.mark.parametrize("damage", ["missing", "shorter", "other bytes", "other rows"])
def test_damaged_object_is_found_and_not_restored(archived: Archived, damage: str) -> None:
    archived.land(PREDICTIONS, range(50))
    archived.land(SECOND, range(50))
    archived.archive().run()
    key, other = sorted(archived.objects())
    at = {"Bucket": archived.settings.bucket, "Key": key}
    content = archived.objects()[key]
    if damage == "missing":
        archived.s3.delete_object(**at)
    elif damage == "shorter":
        archived.s3.put_object(**at, Body=content[:-1])
    elif damage == "other bytes":
        archived.s3.put_object(**at, Body=content[:100] + b"?" + content[101:])
    else:
        archived.s3.put_object(**at, Body=archived.objects()[other])
    for is_quick in (True, False):
        (problem,) = archived.archive().verify(is_quick=is_quick).problems
        assert key in problem
    with pytest.raises(ArchiveError, match="nothing was dropped"):
        archived.archive().expire(before=date(2026, 11, 1))
    assert len(archived.events()) == 100

    manifest = f"{archived.systems.raw_database}.prediction_events"
    archived.systems.client.command(f"truncate table {manifest}")
    with pytest.raises(ArchiveError, match="predictions-0-0-49"):
        archived.archive().restore()
    assert [row[3] for row in archived.events()] == []


def test_verify_names_missing_ranges_and_gaps(archived: Archived) -> None:
    archived.land(PREDICTIONS, range(20))
    archived.archive().run()
    archived.land(PREDICTIONS, range(25, 30), NEXT_DAY)
    report = archived.archive().verify()
    assert len(report.problems) == len(report.gaps) == 1
    assert "offsets 25-29 of 2026-10-01: 5 rows are in no object" in report.problems[0]
    assert "predictions[0] offsets 20-24: neither archived nor in the raw table" in report.gaps[0]

    # A gap that the loader recorded is explained.
    sink = ClickHouseSink(archived.systems.client, archived.systems.raw_database, {})
    sink.record_gap(PREDICTIONS, OffsetRange(20, 24), "retention")
    archived.archive().run()
    report = archived.archive().verify()
    assert (report.problems, report.gaps) == ([], [])

    raw = f"{archived.systems.raw_database}.prediction_events"
    archived.systems.client.command(
        f"alter table {raw} delete where `offset` = 7", settings={"mutations_sync": 2}
    )
    (problem,) = archived.archive().verify().problems
    assert "20 rows are archived and 19 of them" in problem
    assert archived.archive().restore(since=DAY, before=NEXT_DAY).rows == 1
    assert archived.archive().verify().problems == []
    assert [row[4] for row in archived.events()] == [*range(20), *range(25, 30)]


def test_expired_months_are_dropped_and_come_back(archived: Archived) -> None:
    archived.land(PREDICTIONS, range(50))
    archived.land(RECREATED, range(20))
    archived.land(PREDICTIONS, range(50, 60), NEXT_DAY)
    archived.land(LABELS, range(8), table=LABEL_EVENTS)
    before = archived.events(), archived.events(LABEL_EVENTS)
    with pytest.raises(ArchiveError, match="offsets 0-49 of 2026-09-30: 50 rows are in no object"):
        archived.archive().expire(before=date(2026, 10, 15))
    assert (archived.events(), archived.events(LABEL_EVENTS)) == before
    archived.archive().run()

    for _ in range(3):  # the tokens of one restore must not stand in the way of the next
        assert archived.archive().expire(before=date(2026, 9, 30)) == []  # not over then
        dropped = archived.archive().expire(before=date(2026, 10, 15))
        assert [(each.raw_table, each.month, each.rows) for each in dropped] == [
            (PREDICTION_EVENTS, 202609, 70),
            (LABEL_EVENTS, 202609, 8),
        ]
        assert [row[4] for row in archived.events()] == list(range(50, 60))
        report = archived.archive().verify()
        assert (report.problems, report.gaps, report.expired) == ([], [], 3)
        assert archived.archive().run() == ArchiveReport()
        assert archived.archive().restore().rows == 78
        assert (archived.events(), archived.events(LABEL_EVENTS)) == before


def test_expire_refuses_days_that_are_not_settled(archived: Archived) -> None:
    with pytest.raises(ArchiveError, match="expire before it"):
        archived.archive().expire(before=date(2026, 11, 22))


def test_rows_that_land_while_objects_are_read_are_not_dropped(archived: Archived) -> None:
    archived.land(PREDICTIONS, range(50))
    archived.archive().run()

    def land_late(done: int, total: int, doing: str) -> None:
        if doing == "verified":
            archived.land(PREDICTIONS, range(50, 60))

    with pytest.raises(ArchiveError, match="has 60 rows of 202609, it had 50"):
        archived.archive(on_progress=land_late).expire(before=date(2026, 11, 1))
    assert len(archived.events()) == 60


def test_last_offset_is_the_greater_of_raw_and_manifest(archived: Archived) -> None:
    assert archived.last(PREDICTIONS) is None
    archived.land(PREDICTIONS, range(50))
    archived.archive().run()
    archived.land(PREDICTIONS, range(50, 53), NEXT_DAY)
    assert archived.last(PREDICTIONS) == 52
    raw = f"{archived.systems.raw_database}.prediction_events"
    archived.systems.client.command(f"truncate table {raw}")
    assert archived.last(PREDICTIONS) == 49
    for other in (RECREATED, ELSEWHERE, SECOND):
        assert archived.last(other) is None
    assert archived.last(PREDICTIONS, LABEL_EVENTS) is None


def test_loader_does_not_land_expired_offsets_again(archived: Archived) -> None:
    systems = archived.systems
    topic = systems.kafka.predictions_topic
    systems.produce(topic, [b"one", b"two", b"three"], partition=1)
    systems.loader(today=lambda: DAY).run(StopWhen(is_caught_up=True))
    archived.archive().run()
    archived.archive().expire(before=date(2026, 11, 1))
    assert systems.coordinates() == []

    systems.produce(topic, [b"four"], partition=1)
    # A group that has committed nothing reads from where the warehouse says.
    systems.environment["DRIFTLINE_CONSUMER_GROUP"] += "_2"
    systems.loader(today=lambda: NEXT_DAY).run(StopWhen(is_caught_up=True))
    assert systems.coordinates() == [(1, 3)]


def test_label_file_whose_rows_expired_lands_nothing_again(
    archived: Archived, tmp_path: Path
) -> None:
    file = tmp_path / "labels.csv"
    rows = [f"id-{number},late,2026-11-01T00:00:00Z" for number in range(30)]
    file.write_text("\n".join(["prediction_id,label,observed_at", *rows]) + "\n")

    def import_file() -> LabelImport:
        return import_labels(
            archived.systems.client,
            file,
            LabelColumns(model_name="m"),
            raw_database=archived.systems.raw_database,
            topic=archived.systems.kafka.labels_topic,
        )

    assert import_file() == LabelImport(landed=30, landed_before=0, invalid=0)
    # The import is of today, so its rows are archived and expire in the month after next.
    archived.now = datetime.now(UTC) + timedelta(days=62)
    archived.archive().run()
    [dropped] = archived.archive().expire(before=archived.now.date().replace(day=1))
    assert (dropped.raw_table, dropped.rows) == (LABEL_EVENTS, 30)
    assert import_file() == LabelImport(landed=0, landed_before=30, invalid=0)
    assert archived.events(LABEL_EVENTS) == []
    # Another file, which begins with the same rows, is another import.
    file.write_text(file.read_text() + "id-30,late,2026-11-01T00:00:00Z\n")
    assert import_file() == LabelImport(landed=31, landed_before=0, invalid=0)


def test_stray_object_is_named_and_adopted_only_where_it_adds_rows(archived: Archived) -> None:
    archived.land(PREDICTIONS, range(20))
    archived.archive().run()
    (key,) = archived.objects()
    (row,) = archived.manifest()
    for name in ("predictions-0-5-9", "predictions-0-0-9"):
        archived.s3.put_object(
            Bucket=archived.settings.bucket,
            Key=key.replace("predictions-0-0-19", name),
            Body=b"an interrupted run of a day that went on",
        )
    archived.s3.put_object(Bucket=archived.settings.bucket, Key="some/prefix/other", Body=b"")
    assert len(archived.archive().verify().strays) == 2
    archived.empty_the_warehouse()
    assert archived.archive().restore().adopted == 1
    assert archived.manifest() == [row]
    assert len(archived.events()) == 20


def test_missing_bucket_is_an_error_with_a_remedy(archived: Archived) -> None:
    archived.settings = ArchiveSettings("no-such-bucket", "")
    for operation in (archived.archive().run, archived.archive().verify):
        with pytest.raises(ArchiveError, match="create the bucket no-such-bucket"):
            operation()


def test_commands_archive_verify_expire_and_restore(
    archived: Archived, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived.land(PREDICTIONS, range(20))
    before = archived.events()
    environment = {
        **archived.systems.process_environment(),
        "DRIFTLINE_ARCHIVE_URL": archived.settings.url,
        "AWS_ENDPOINT_URL": s3_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
    }

    def driftline(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "driftline", "archive", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    unarchived = driftline("verify")
    assert unarchived.returncode == 1
    assert "20 rows are in no object: driftline archive run" in unarchived.stderr
    refused = driftline("expire", "--before", "2026-11-01")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: nothing was dropped")
    assert "20 rows archived in 1 objects" in driftline("run").stdout
    assert "the archive is sound" in driftline("verify").stdout
    assert (
        "dropped 202609 of prediction_events: 20 rows"
        in driftline("expire", "--before", "2026-11-01").stdout
    )
    assert archived.events() == []
    other_day = driftline("restore", "--from", "2026-10-01")
    assert "0 rows restored" in other_day.stdout
    assert "20 rows restored" in driftline("restore", "--to", "2026-09-30").stdout
    assert archived.events() == before

    environment["DRIFTLINE_ARCHIVE_URL"] = "s3://no-such-bucket"
    failed = driftline("run")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: s3://no-such-bucket: ")
    assert "Traceback" not in failed.stderr
    assert "testing-secret" not in failed.stdout + failed.stderr


@pytest.mark.parametrize("url", ["", "bucket", "https://bucket/prefix", "s3://", "s3:///prefix"])
def test_address_that_is_no_s3_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="s3://bucket/prefix"):
        ArchiveSettings.from_environment({"DRIFTLINE_ARCHIVE_URL": url})


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [("s3://b", "b", ""), ("s3://b/", "b", ""), ("s3://b/a/c/", "b", "a/c/")],
)
def test_address_gives_bucket_and_prefix(url: str, bucket: str, prefix: str) -> None:
    found = ArchiveSettings.from_environment({"DRIFTLINE_ARCHIVE_URL": url})
    assert found == ArchiveSettings(bucket, prefix)
    assert found.url == url.rstrip("/")


_names = st.text(max_size=12)


@given(
    table=st.sampled_from([PREDICTION_EVENTS, LABEL_EVENTS]),
    partition=st.builds(PartitionId, _names, _names, _names, st.integers(0, 10**6)),
    day=st.dates(),
    first=st.integers(0, 2**62),
    length=st.integers(0, 10**9),
)
def test_key_says_which_rows_an_object_has(
    table: str, partition: PartitionId, day: date, first: int, length: int
) -> None:
    rows = EventRange(table, partition, day, OffsetRange(first, first + length))
    assert rows.key.isascii()
    assert EventRange.from_key(rows.key) == rows
    assert EventRange.from_key(rows.key + "x") is None
    assert EventRange.from_key("x/" + rows.key) is None


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    limit=st.integers(1, 100),
    done=st.integers(0, 40),
)
def test_packing_goes_on_where_it_was_interrupted(sizes: list[int], limit: int, done: int) -> None:
    cells = [Cell(at * 64, at * 64 + 63, 64, size) for at, size in enumerate(sizes)]
    whole = list(packed(cells, object_bytes=limit))
    assert sum(each.row_count for each in whole) == 64 * len(cells)
    assert [each.first for each in whole[1:]] == [each.last + 1 for each in whole[:-1]]
    assert all(each.byte_count <= limit or each.row_count == 64 for each in whole)
    kept = whole[:done]
    end = kept[-1].last if kept else -1
    rest = packed([cell for cell in cells if cell.first > end], object_bytes=limit)
    assert kept + list(rest) == whole


@given(
    covered=st.sets(st.integers(0, 30), min_size=1),
    cuts=st.sets(st.integers(0, 30)),
)
def test_holes_are_what_no_range_covers(covered: set[int], cuts: set[int]) -> None:
    ranges: list[tuple[PartitionId, OffsetRange]] = []
    for offset in sorted(covered):
        last = ranges[-1][1] if ranges else None
        if last is not None and last.end == offset and offset not in cuts:
            ranges[-1] = (PREDICTIONS, OffsetRange(last.first, offset))
        else:
            ranges.append((PREDICTIONS, OffsetRange(offset, offset)))
    found = {at for _, hole in holes(ranges) for at in range(hole.first, hole.end)}
    assert found == set(range(min(covered), max(covered))) - covered


def test_holes_are_told_apart_by_partition() -> None:
    ranges = [
        (PREDICTIONS, OffsetRange(0, 4)),
        (RECREATED, OffsetRange(10, 14)),
        (RECREATED, OffsetRange(12, 20)),
        (RECREATED, OffsetRange(23, 24)),
    ]
    assert list(holes(ranges)) == [(RECREATED, OffsetRange(21, 22))]


def test_overlapping_objects_are_claimed_once() -> None:
    def rows(first: int, last: int, partition: PartitionId = PREDICTIONS) -> EventRange:
        return EventRange(PREDICTION_EVENTS, partition, DAY, OffsetRange(first, last))

    found = [rows(0, 9), rows(0, 19), rows(20, 29), rows(35, 45), rows(0, 9, RECREATED)]
    assert unclaimed(found, [rows(40, 60)]) == [rows(0, 19), rows(20, 29), rows(0, 9, RECREATED)]
