"""An entity that was erased is in no raw table and no object, and nothing else has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from typer.testing import CliRunner, Result

from driftline.command_line import app
from ingest.archive.object_store import ArchiveError, ObjectStore
from ingest.archive.operations import ArchiveReport
from ingest.erasure.operations import CRASH_POINTS, Erasure, ErasureError, ErasureReport
from ingest.erasure.plan import Entity
from ingest.landing import ClickHouseSink
from ingest.loader import StopWhen
from ingest.offsets import PartitionId
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS
from tests.ingest.archived_warehouse import (
    DAY,
    NEXT_DAY,
    NOW,
    Archived,
    archived_on,
    s3_server,
)
from tests.ingest.conftest import Systems

ENTITY = Entity("loans", 'José "7" O\u2019Hara')
PREDICTIONS = PartitionId("cluster", "predictions", "id-1", 0)
SECOND = PartitionId("cluster", "predictions", "id-1", 1)
LABELS = PartitionId("cluster", "labels", "id-3", 0)
TODAY = NOW.date()
FILE = PartitionId("file", "labels", "f" * 64, 0)
Message = tuple[bytes | None, bytes | None]


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def archived(systems: Systems, s3_url: str) -> Archived:
    return archived_on(systems, s3_url)


def prediction(
    prediction_id: str, entity: str | None = None, *, model: str = "loans", escape: bool = False
) -> Message:
    event: dict[str, Any] = {"prediction_id": prediction_id, "model_name": model}
    if entity is not None:
        event["entity_id"] = entity
    return prediction_id.encode(), json.dumps(event, ensure_ascii=escape).encode()


def label(prediction_id: str, value: str = "late") -> Message:
    event = {"prediction_id": prediction_id, "model_name": "loans", "label": value}
    return prediction_id.encode(), json.dumps(event).encode()


def numbered(messages: list[Message], first: int = 0) -> dict[int, Message]:
    return dict(enumerate(messages, start=first))


# Messages by raw table, partition and day; those of the entity by offset.
ME = ENTITY.entity_id
STORY: list[tuple[str, PartitionId, date, Mapping[int, Message], set[int]]] = [
    (
        PREDICTION_EVENTS,
        PREDICTIONS,
        DAY,
        numbered(
            [
                prediction("p-0", ME),
                prediction("p-1", "another"),
                prediction("p-2", ME, escape=True),
                prediction("p-3", ME, model="other model"),
                prediction("p-4"),
                (None, None),
                (b"p-0", b""),  # all that tells whose it is is its key
            ]
        ),
        {0, 2, 6},
    ),
    (
        PREDICTION_EVENTS,
        PREDICTIONS,
        NEXT_DAY,
        numbered(
            [
                prediction("p-0"),  # sent again, without the entity
                prediction("p-7", "another"),
                prediction("p-8", ME),
            ],
            first=7,
        ),
        {7, 9},
    ),
    (
        PREDICTION_EVENTS,
        SECOND,
        NEXT_DAY,
        numbered(
            [
                (b"p-9", (prediction("p-9", ME)[1] or b"")[:-1] + b', "score": NaN}'),
                (b"p-10", b'{"model_name": "loans", "entity_id": "another", "score": NaN}'),
                (b"p-11", b'{"model_name": "m", "features": {"name": "' + ME.encode() + b'"}}'),
                prediction("", ME),
            ]
        ),
        {0, 3},
    ),
    (
        LABEL_EVENTS,
        LABELS,
        DAY,
        numbered([label("p-0"), label("p-1"), label("p-3"), label("p-8")]),
        {0, 3},
    ),
    (
        LABEL_EVENTS,
        LABELS,
        NEXT_DAY,
        numbered([label("p-0", "on_time"), (b"p-2", b"{"), (b"p-1", b"{"), (None, b"?")], first=4),
        {4, 5},
    ),
    (LABEL_EVENTS, FILE, TODAY, numbered([label("p-2"), label("p-4")]), {0}),
]
ERASED = {
    (table, partition, offset) for table, partition, _, _, offsets in STORY for offset in offsets
}
IDS = (b"p-0", b"p-2", b"p-8", b"p-9")


def tell(archived: Archived, *, expired: bool = True) -> None:
    """Land the story, archive it but for the file of today, and let its first month expire."""
    for table, partition, day, messages, _ in STORY:
        archived.land_messages(partition, messages, day, table)
    archived.archive().run()
    if expired:
        archived.archive().expire(before=date(2026, 10, 15))


def erasure(archived: Archived, entity: Entity = ENTITY, **options: Any) -> Erasure:
    return Erasure(
        archived.systems.client,
        entity,
        raw_database=archived.systems.raw_database,
        database=f"{archived.systems.raw_database}_marts",
        **{
            "store": ObjectStore(archived.s3, archived.settings),
            "clock": archived.tick,
            **options,
        },
    )


def everything(archived: Archived) -> dict[tuple[str, PartitionId, int], tuple[Any, ...]]:
    """Give all messages, of raw and archive together, by place: key, headers, value."""
    found = {}
    for table in (PREDICTION_EVENTS, LABEL_EVENTS):
        for row in archived.systems.rows(
            "select cluster, topic, topic_id, partition, offset, kafka_timestamp, batch_date, "
            "hex(key), isNull(key), arrayMap(header -> (hex(header.1), hex(header.2), "
            f"isNull(header.2)), headers), hex(value), isNull(value) from raw.{table}"
        ):
            place = (table, PartitionId(*row[:4]), row[4])
            assert place not in found
            found[place] = row[5:]
    for key, content in archived.objects().items():
        table = key.removeprefix("some/prefix/").split("/")[0]
        for one in rows_of(content):
            place = (
                table,
                PartitionId(one["cluster"], one["topic"], one["topic_id"], one["partition"]),
                one["offset"],
            )
            row = (
                one["kafka_timestamp"].replace(tzinfo=None),
                one["batch_date"],
                _hex(one["key"]),
                one["key"] is None,
                [
                    (_hex(header["name"]), _hex(header["value"]), header["value"] is None)
                    for header in one["headers"]
                ],
                _hex(one["value"]),
                one["value"] is None,
            )
            # What is in both is the same in both.
            assert found.setdefault(place, row) == row, place
    return found


def rows_of(content: bytes) -> list[dict[str, Any]]:
    with pq.ParquetFile(pa.BufferReader(content)) as parquet:
        rows: list[dict[str, Any]] = parquet.read().to_pylist()
    return rows


def _hex(content: bytes | None) -> str | None:
    return None if content is None else content.hex().upper()


def expected_after(
    before: Mapping[tuple[str, PartitionId, int], tuple[Any, ...]],
) -> dict[tuple[str, PartitionId, int], tuple[Any, ...]]:
    """Empty the entity's messages; leave all others as they are."""
    nothing = (None, True, [(b"driftline_erased".hex().upper(), None, True)], None, True)
    return {
        place: (*row[:2], *nothing) if place in ERASED else row for place, row in before.items()
    }


def traces(archived: Archived) -> list[str]:
    """Say where the entity, or an id of its predictions, still is."""
    found = []
    for table in archived.systems.column(
        f"select name from system.tables where database = '{archived.systems.raw_database}'"
    ):
        text = "\n".join(
            map(str, archived.systems.column(f"select toString(tuple(*)) from raw.{table}"))
        )
        # Of another model the entity stays, and in what is no JSON of its model.
        found += [f"{table}: {one!r}" for one in IDS if f"'{one.decode()}'" in text]
        if table.startswith("erasure_plan"):
            found.append(f"plan: {table}")
    for place, row in everything(archived).items():
        content = bytes.fromhex((row[2] or "") + (row[5] or ""))
        if any(b'"prediction_id": "%s"' % one in content for one in IDS):
            found.append(str(place))
    return found


def test_entity_is_erased_from_raw_and_archive_and_nothing_else(archived: Archived) -> None:
    tell(archived)
    before = everything(archived)
    manifest = archived.manifest()
    objects = archived.objects()

    report = erasure(archived).run()

    after = everything(archived)
    assert after == expected_after(before)
    assert traces(archived) == []
    # p-9 was no JSON, so that it has no id; p-0, p-2 and p-8 have one.
    assert report == ErasureReport(
        predictions=3, prediction_events=7, label_events=5, objects=5, marts={}
    )
    assert archived.manifest() == manifest
    found = archived.archive().verify()
    assert (found.problems, found.gaps, found.strays) == ([], [], [])
    rewritten = {key for key, content in archived.objects().items() if content != objects[key]}
    assert len(rewritten) == 5

    # Once more there is nothing to do, and nothing is done.
    objects = archived.objects()
    assert erasure(archived).run().is_empty
    assert erasure(archived, reads_every_object=True).run().is_empty
    assert archived.objects() == objects
    [record] = archived.systems.rows(
        "select model_name, entity_sha256, prediction_count, prediction_event_count, "
        "label_event_count, archived_object_count from raw.erasures"
    )
    assert record == ("loans", ENTITY.sha256, 3, 7, 5, 5)

    # What is restored is what was left, and a further run archives nothing.
    archived.archive().restore()
    assert everything(archived) == after
    tomorrow = TODAY + timedelta(days=1)
    assert archived.archive().run(before=tomorrow).rows == 2
    archived.empty_the_warehouse()
    archived.archive().restore()
    assert everything(archived) == after
    assert archived.archive().run(before=tomorrow) == ArchiveReport()
    assert erasure(archived, reads_every_object=True).look().is_empty


def test_rewritten_object_is_what_an_archive_of_the_erased_rows_is(archived: Archived) -> None:
    tell(archived, expired=False)
    erasure(archived).run()
    archived.archive().run()
    rewritten = archived.objects()
    archived.systems.client.command(
        f"truncate table {archived.systems.raw_database}.archive_manifest"
    )
    archived.archive().run()
    assert archived.objects() == rewritten


def test_look_counts_what_a_run_erases_and_changes_nothing(archived: Archived) -> None:
    tell(archived)
    before, objects = everything(archived), archived.objects()
    found = erasure(archived).look()
    assert (everything(archived), archived.objects()) == (before, objects)
    assert archived.systems.column("select count() from raw.erasures") == [0]
    assert [one for one in traces(archived) if "plan" in one] == []
    assert erasure(archived).run() == found
    for stranger in (Entity("loans", "nobody"), Entity("other", ENTITY.entity_id)):
        assert erasure(archived, stranger).look() == ErasureReport()


class KilledError(Exception):
    """Stands for the end of the process."""


def kill_at(point: str, times: int) -> Callable[[str], None]:
    """Give a crash point's callback that raises when a point is passed for the n-th time."""
    passed = 0

    def crash(name: str) -> None:
        nonlocal passed
        passed += name == point
        if name == point and passed == times:
            raise KilledError(name)

    return crash


POINTS = [one for one in CRASH_POINTS if one != "after_mart"]


@pytest.mark.parametrize(
    "points",
    # Killed at one point after another, and (make test-faults) at each alone.
    [POINTS, *(pytest.param([one], marks=pytest.mark.faults, id=one) for one in POINTS)],
)
def test_interrupted_erasure_is_ended_by_the_next(archived: Archived, points: list[str]) -> None:
    versioned(archived)
    tell(archived)
    before = everything(archived)
    for point in points:
        # Where a point is passed for each object or table, some of them are done then.
        times = 2 if len(points) == 1 and point not in ("after_plan", "after_record") else 1
        with pytest.raises(KilledError):
            erasure(archived, crash_point=kill_at(point, times)).run()

    report = erasure(archived).run()
    assert report.was_interrupted
    assert (report.predictions, report.prediction_events, report.label_events) == (3, 7, 5)
    assert everything(archived) == expected_after(before)
    assert traces(archived) == []
    assert archived.archive().verify().problems == []
    assert earlier_versions(archived) == []
    assert archived.systems.column("select count() from raw.erasures") == [1]


def versioned(archived: Archived) -> None:
    archived.s3.put_bucket_versioning(
        Bucket=archived.settings.bucket, VersioningConfiguration={"Status": "Enabled"}
    )


def earlier_versions(archived: Archived) -> list[str]:
    listed = archived.s3.list_object_versions(Bucket=archived.settings.bucket)
    found = [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]
    return [one["Key"] for one in found if not one["IsLatest"]]


def test_earlier_versions_of_rewritten_objects_are_deleted_and_no_others(
    archived: Archived,
) -> None:
    versioned(archived)
    tell(archived)
    bucket = archived.settings.bucket
    untouched = "some/prefix/other"
    [key] = [key for key in archived.objects() if "/predictions-1-" in key]
    for again in (key, key, untouched, untouched, key + ".copy", key + ".copy"):
        body = archived.objects().get(again, b"other")
        archived.s3.put_object(Bucket=bucket, Key=again, Body=body, Metadata=_metadata(body))
    assert len(earlier_versions(archived)) == 4
    report = erasure(archived).run()
    # Five objects were replaced, one of them had been written three times.
    assert report.earlier_versions == 7
    assert sorted(earlier_versions(archived)) == sorted([untouched, key + ".copy"])


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (501, "NotImplemented", None),
        (403, "AccessDenied", "allow s3:ListBucketVersions and s3:DeleteObjectVersion on it"),
    ],
)
def test_endpoint_without_versions_has_none_and_a_missing_right_is_named(
    archived: Archived, status: int, code: str, remedy: str | None
) -> None:
    archived.land_messages(PREDICTIONS, STORY[0][3])
    archived.archive().run()

    def refuse(request: Any, **_: Any) -> AWSResponse:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        return AWSResponse(request.url, status, HTTPHeaders(), _Raw(body))

    archived.s3.meta.events.register("before-send.s3.ListObjectVersions", refuse)
    if remedy is None:
        assert erasure(archived).run().objects == 1
    else:
        with pytest.raises(ArchiveError, match=remedy):
            erasure(archived).run()
        archived.s3.meta.events.unregister("before-send.s3.ListObjectVersions", refuse)
        assert erasure(archived).run().was_interrupted
    assert erasure(archived).look().is_empty


class _Raw(BytesIO):
    """An answer's body as urllib3 gives it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def _metadata(body: bytes) -> dict[str, str]:
    return {"driftline-row-count": str(len(rows_of(body)))} if body != b"other" else {}


def test_interrupted_erasure_is_named_by_verify(archived: Archived) -> None:
    tell(archived)
    with pytest.raises(KilledError):
        erasure(archived, crash_point=kill_at("after_upload", 1)).run()
    for is_quick in (True, False):
        [problem] = archived.archive().verify(is_quick=is_quick).problems
        assert "run driftline erase for the same entity once more" in problem
        assert "put it back" not in problem
    with pytest.raises(ArchiveError, match="driftline erase for the same entity"):
        archived.archive().restore()
    # A look says so, and takes nothing from what is known; to be killed again harms nothing.
    assert erasure(archived).look().was_interrupted
    with pytest.raises(KilledError):
        erasure(archived, crash_point=kill_at("after_upload", 1)).run()
    assert erasure(archived).run().was_interrupted
    assert traces(archived) == []
    assert archived.archive().verify().problems == []


def test_erased_messages_are_not_landed_again_from_kafka(archived: Archived) -> None:
    systems = archived.systems
    topic = systems.kafka.predictions_topic
    # The entity's is the last of its partition.
    values = [prediction("p-1", "another")[1], prediction("p-0", ME)[1]]
    systems.produce(topic, values, partition=1)
    systems.loader(today=lambda: DAY).run(StopWhen(is_caught_up=True))
    landed = archived.events()
    archived.archive().run()
    assert erasure(archived).run().prediction_events == 1
    after = archived.events()
    assert [row[:6] for row in after] == [row[:6] for row in landed]
    assert [row[9:11] for row in after] == [(landed[0][9], 0), (None, 1)]

    systems.produce(topic, [prediction("p-2", "another")[1]], partition=1)
    # A group that has committed nothing reads from where the warehouse says.
    systems.environment["DRIFTLINE_CONSUMER_GROUP"] += "_2"
    systems.loader(today=lambda: NEXT_DAY).run(StopWhen(is_caught_up=True))
    assert archived.events()[:2] == after
    assert sorted(systems.coordinates()) == [(1, 0), (1, 1), (1, 2)]
    sink = ClickHouseSink(systems.client, systems.raw_database, {topic: PREDICTION_EVENTS})
    partition = PartitionId(*archived.events()[0][:4])
    assert sink.landed_last(partition) == 2


def test_messages_that_land_meanwhile_are_named_and_erased_by_the_next_run(
    archived: Archived,
) -> None:
    tell(archived)
    late = {10: prediction("p-12", ME)}

    def land_late(name: str) -> None:
        if name == "after_raw_table" and late:
            archived.land_messages(PREDICTIONS, late, NEXT_DAY)
            late.clear()

    with pytest.raises(ErasureError, match="messages that landed meanwhile"):
        erasure(archived, crash_point=land_late).run()
    assert archived.systems.column("select count() from raw.erasures") == [0]
    report = erasure(archived).run()
    assert (report.was_interrupted, report.predictions, report.prediction_events) == (True, 4, 8)
    assert traces(archived) == []


def test_corrected_bytes_of_a_broken_message_are_erased_with_it(archived: Archived) -> None:
    broken: dict[int, Message] = dict.fromkeys(range(4), (None, b"{"))
    archived.land_messages(PREDICTIONS, broken)
    archived.land_messages(LABELS, broken, table=LABEL_EVENTS)
    raw = archived.systems.raw_database
    archived.systems.client.command(
        f"create table {raw}.corrections (raw_table String, cluster String, topic String, "
        "topic_id String, partition Int32, offset Int64, value Nullable(String)) "
        "engine = MergeTree order by offset"
    )
    corrected = [
        (PREDICTION_EVENTS, PREDICTIONS, 1, prediction("p-1", ME)),
        (PREDICTION_EVENTS, PREDICTIONS, 2, prediction("p-2", "another")),
        (LABEL_EVENTS, LABELS, 2, label("p-1")),
        (LABEL_EVENTS, LABELS, 3, label("p-2")),
    ]
    archived.systems.client.insert(
        f"{raw}.corrections",
        [
            [
                table,
                one.cluster,
                one.topic,
                one.topic_id,
                one.partition,
                at,
                (value or b"").decode(),
            ]
            for table, one, at, (_, value) in corrected
        ],
    )
    report = erasure(archived).run()
    assert (report.predictions, report.prediction_events, report.label_events) == (1, 1, 1)
    assert archived.systems.rows("select raw_table, offset from raw.corrections order by all") == [
        (LABEL_EVENTS, 3),
        (PREDICTION_EVENTS, 2),
    ]
    for table, erased in ((PREDICTION_EVENTS, 1), (LABEL_EVENTS, 2)):
        assert archived.systems.column(f"select offset from raw.{table} where value is null") == [
            erased
        ]


def test_object_that_the_manifest_does_not_name_is_rewritten_too(archived: Archived) -> None:
    tell(archived, expired=False)
    # A run that was killed has left an object of a part of the day.
    [key] = [key for key in archived.objects() if key.endswith("/predictions-0-0-6.parquet")]
    stray = key.replace("-0-6.", "-0-2.")
    [table] = [pq.read_table(pa.BufferReader(archived.objects()[key])).slice(0, 3)]
    body = pa.BufferOutputStream()
    pq.write_table(table, body)
    at = {"Bucket": archived.settings.bucket, "Key": stray}
    archived.s3.put_object(
        **at, Body=body.getvalue().to_pybytes(), Metadata={"driftline-row-count": "3"}
    )
    manifest = archived.manifest()
    assert erasure(archived).run().objects == 6
    assert archived.manifest() == manifest
    assert [one["value"] is None for one in rows_of(archived.objects()[stray])] == [
        True,
        False,
        True,
    ]

    archived.s3.put_object(**at, Body=b"cut short")
    with pytest.raises(ErasureError, match=r"predictions-0-0-2.*delete it where nobody needs it"):
        erasure(archived).look()


def test_archive_that_is_not_named_is_not_forgotten(archived: Archived) -> None:
    tell(archived)
    with pytest.raises(ErasureError, match="DRIFTLINE_ARCHIVE_URL"):
        erasure(archived, store=None).run()


def test_warehouse_without_an_archive_is_enough(archived: Archived) -> None:
    archived.land_messages(PREDICTIONS, STORY[0][3])
    assert erasure(archived, store=None).run().prediction_events == 3
    assert erasure(archived, store=None).look().is_empty


def test_entity_needs_a_model_and_an_id() -> None:
    for model_name, entity_id in (("", "someone"), ("loans", "")):
        with pytest.raises(ValueError, match="neither may be empty"):
            Entity(model_name, entity_id)
    assert "someone" not in repr(Entity("loans", "someone"))


def test_command_looks_then_erases(
    archived: Archived, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(archived)
    before = everything(archived)
    for name, value in {
        **archived.systems.process_environment(),
        "DRIFTLINE_ARCHIVE_URL": archived.settings.url,
        "AWS_ENDPOINT_URL": s3_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }.items():
        monkeypatch.setenv(name, value)

    def erase(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["erase", "--model", "loans", *arguments])

    looked = erase("--entity", ME)
    assert looked.exit_code == 0, looked.output
    assert "found: 3 predictions, in 7 messages of predictions and 5 of labels" in looked.stdout
    assert "nothing was changed; next: the same command with --yes" in looked.stdout
    assert everything(archived) == before
    done = erase("--entity", ME, "--yes")
    assert "erased: 3 predictions" in done.stdout, done.output
    assert everything(archived) == expected_after(before)
    assert ME not in looked.output + done.output

    monkeypatch.delenv("DRIFTLINE_ARCHIVE_URL")
    refused = erase("--entity", ME)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: events are in an archive")
    assert erase("--entity", "").exit_code == 2
