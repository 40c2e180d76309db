"""What the verifier finds, and what it must not take for a finding."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from driftline.command_line import app
from ingest.archive.ranges import ArchivedObject, EventRange
from ingest.batches import BatchLimits
from ingest.label_files import LabelColumns, import_labels
from ingest.lag import LagReader
from ingest.offsets import OffsetRange, PartitionId
from ingest.raw_tables import (
    ERASED_HEADER,
    LABEL_EVENTS,
    PREDICTION_EVENTS,
    create_raw_tables,
    raw_table,
)
from ingest.topic_identity import TopicIdentities, TopicIdentity
from ingest.verification.broker import GapReader, MissedMessages, open_gap_reader
from ingest.verification.findings import (
    SHOWN,
    Finding,
    LandedDay,
    VerificationReport,
    accounted_for,
    joined,
    within,
    without,
)
from ingest.verification.landed_offsets import Verification, VerificationError
from tests.ingest.archived_warehouse import DAY, NEXT_DAY, Archived, archived_on, s3_server
from tests.ingest.conftest import Systems
from tests.ingest.loading import CAUGHT_UP
from tests.kafka.cluster import KafkaCluster

PREDICTIONS = PartitionId("cluster", "predictions", "id-1", 0)
RECREATED = PartitionId("cluster", "predictions", "id-2", 0)
ELSEWHERE = PartitionId("cluster-2", "predictions", "id-1", 0)
SECOND = PartitionId("cluster", "predictions", "id-1", 1)
LABELS = PartitionId("cluster", "labels", "", 0)
LANDED_AT = datetime(2026, 9, 30, 12, tzinfo=UTC)
# So small that the few rows of a test are in several cells, and in several queries.
CELL = 16


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def archived(systems: Systems, s3_url: str) -> Archived:
    return archived_on(systems, s3_url)


@pytest.fixture
def tables(systems: Systems) -> Systems:
    create_raw_tables(systems.client, systems.raw_database)
    return systems


def land(
    systems: Systems,
    offsets: Sequence[int],
    partition: PartitionId = PREDICTIONS,
    *,
    minute: int = 0,
    day: date = DAY,
    table: str = PREDICTION_EVENTS,
) -> None:
    """Land rows that came so many minutes after LANDED_AT, with one insert."""
    systems.client.insert(
        f"{systems.raw_database}.{table}",
        [
            [
                *(partition.cluster, partition.topic, partition.topic_id, partition.partition),
                *(offset, LANDED_AT, [], "v", day, LANDED_AT + timedelta(minutes=minute)),
            ]
            for offset in offsets
        ],
        column_names=[
            *("cluster", "topic", "topic_id", "partition"),
            *("offset", "kafka_timestamp", "headers", "value", "batch_date", "landed_at"),
        ],
        settings={"insert_deduplicate": 0},
    )


def verify(systems: Systems, **limits: Any) -> VerificationReport:
    return Verification(systems.client, systems.raw_database, cell_offsets=CELL).run(**limits)


def offsets_of(finding: Finding) -> list[int]:
    assert finding.range_count == len(finding.ranges)
    found = [offset for each in finding.ranges for offset in range(each.first, each.end)]
    assert len(found) == finding.offset_count
    return found


def test_sound_partitions_have_no_findings(tables: Systems) -> None:
    for partition in (PREDICTIONS, RECREATED, ELSEWHERE, SECOND):
        land(tables, range(5, 200), partition)
        land(tables, range(200, 230), partition, minute=1)
    land(tables, range(40), LABELS, table=LABEL_EVENTS)
    report = verify(tables)
    assert [(each.raw_table, each.partition) for each in report.partitions] == [
        (LABEL_EVENTS, LABELS),
        *((PREDICTION_EVENTS, each) for each in (PREDICTIONS, SECOND, RECREATED, ELSEWHERE)),
    ]
    assert [(each.offsets, each.row_count) for each in report.partitions] == [
        (OffsetRange(0, 39), 40),
        *[(OffsetRange(5, 229), 225)] * 4,
    ]
    assert report.is_sound()
    assert not any(each.duplicates or each.gaps or each.backward for each in report.partitions)


def test_each_kind_of_finding_is_named_by_its_offsets(tables: Systems) -> None:
    """One of each within a cell, across cells, and in a partition beside one that is sound."""
    land(tables, [*range(3), *range(5, 14), *range(40, 100)])
    land(tables, [7, 8, 60], minute=1)
    land(tables, [100, 101], minute=2)
    land(tables, [3, 70], minute=3)
    land(tables, range(102), SECOND)
    report = verify(tables)
    first, second = report.partitions
    assert offsets_of(first.duplicates) == [7, 8, 60, 70]
    assert offsets_of(first.gaps) == [4, *range(14, 40)]
    # The repeats of 7, 8 and 60 landed after what follows them, too.
    assert offsets_of(first.backward) == [3, 7, 8, 60, 70]
    assert not second.duplicates
    assert not second.gaps
    assert not second.backward
    assert (report.duplicate_count, report.unexplained_count, report.backward_count) == (4, 27, 5)
    assert not report.is_sound()


def test_duplicate_and_gap_that_balance_each_other_are_both_found(tables: Systems) -> None:
    land(tables, [0, 1, 2, 2, 4, 5, 5, 7])
    (found,) = verify(tables).partitions
    assert found.row_count == len(found.offsets)
    assert offsets_of(found.duplicates) == [2, 5]
    assert offsets_of(found.gaps) == [3, 6]


@pytest.mark.parametrize("late", [[10], [20, 21], range(15, 40), [0], [98]])
def test_rows_that_landed_after_greater_ones_are_named(
    tables: Systems, late: Sequence[int]
) -> None:
    """Within a cell of 16 offsets, across a border, over several; first and last but one."""
    land(tables, [offset for offset in range(100) if offset not in late], minute=0)
    land(tables, late, minute=1)
    land(tables, range(100, 130), minute=2)
    report = verify(tables)
    assert offsets_of(report.partitions[0].backward) == list(late)
    assert report.is_sound(), "what landed late has landed"


def test_insert_that_is_late_in_part_is_named_in_part(tables: Systems) -> None:
    land(tables, [0, 1, 2, 3, 6, 7])
    land(tables, [4, 5, *range(8, 12)], minute=1)
    assert offsets_of(verify(tables).partitions[0].backward) == [4, 5]


def test_many_findings_are_counted_all_and_shown_in_part(tables: Systems) -> None:
    land(tables, range(0, 1000, 2))
    land(tables, range(0, 1000, 4), minute=1)
    (found,) = verify(tables).partitions
    assert found.gaps.offset_count == found.gaps.range_count == 499
    assert found.gaps.ranges == tuple(OffsetRange(at, at) for at in range(1, 2 * SHOWN, 2))
    assert found.duplicates.offset_count == 250
    assert [each.first for each in found.duplicates.ranges] == list(range(0, 4 * SHOWN, 4))


def test_offsets_recorded_as_lost_are_no_gaps(tables: Systems) -> None:
    land(tables, [0, 1, 2, *range(10, 40), *range(90, 100)])
    land(tables, [0, 5], SECOND)
    for first, last in [(3, 9), (40, 60)]:
        tables.sink().record_gap(PREDICTIONS, OffsetRange(first, last), "retention")
    first_found, second_found = verify(tables).partitions
    assert offsets_of(first_found.gaps) == list(range(61, 90))
    assert offsets_of(second_found.gaps) == [1, 2, 3, 4]


def test_expired_rows_are_no_gaps_and_what_no_object_has_is_one(archived: Archived) -> None:
    systems = archived.systems
    archived.land(PREDICTIONS, [*range(50), *range(60, 70)], date(2026, 8, 30))
    archived.land(PREDICTIONS, range(70, 90), date(2026, 8, 31))
    archived.land(PREDICTIONS, range(95, 130), NEXT_DAY)
    archived.land(SECOND, range(5), date(2026, 8, 31))
    archived.archive().run()
    (found, _) = verify(systems).partitions
    # Archived and in raw: the rows themselves show which are missing.
    assert offsets_of(found.gaps) == [*range(50, 60), *range(90, 95)]
    archived.archive().expire(before=date(2026, 9, 1))
    (found, gone) = verify(systems).partitions
    assert (found.offsets, found.row_count) == (OffsetRange(0, 129), 35)
    assert offsets_of(found.gaps) == list(range(90, 95))
    assert (gone.offsets, gone.row_count, gone.gaps) == (OffsetRange(0, 4), 0, Finding())
    # Chosen days do not make rows of other days expired, nor gaps.
    (found,) = verify(systems, since=NEXT_DAY).partitions
    assert (found.offsets, found.gaps) == (OffsetRange(95, 129), Finding())


def test_archived_rows_that_are_in_raw_show_their_gaps_whatever_days_are_chosen(
    archived: Archived,
) -> None:
    archived.land(PREDICTIONS, [0, 1, 3, 4, *range(6, 20)])
    archived.land(PREDICTIONS, [2, *range(20, 30)], NEXT_DAY)
    archived.archive().run()
    (found,) = verify(archived.systems, since=NEXT_DAY).partitions
    assert found.offsets == OffsetRange(2, 29)
    assert offsets_of(found.gaps) == [5]


def test_days_choose_offsets_whenever_what_is_between_landed(tables: Systems) -> None:
    """A row of July that was repaired in October: what landed between them is no gap."""
    land(tables, [*range(5), *range(6, 100)], day=date(2026, 7, 1))
    land(tables, range(100, 150), day=NEXT_DAY)
    land(tables, [5, *range(150, 160)], day=NEXT_DAY)
    (found,) = verify(tables, since=NEXT_DAY).partitions
    assert (found.offsets, found.row_count, found.gaps) == (OffsetRange(5, 159), 155, Finding())
    (found,) = verify(tables, before=NEXT_DAY).partitions
    assert (found.offsets, found.gaps) == (OffsetRange(0, 99), Finding())
    assert verify(tables, since=date(2026, 12, 1)).partitions == ()


def test_label_file_has_no_gaps_and_its_duplicates_are_found(
    tables: Systems, tmp_path: Path
) -> None:
    file = tmp_path / "labels.csv"
    lines = [f"p{number},{'' if number == 3 else 'late'}" for number in range(10)]
    file.write_text("prediction_id,label\n" + "\n".join(lines) + "\n")
    columns = LabelColumns(
        model_name="m", observed_at_constant=datetime.fromisoformat("2026-11-01T00:00:00+00:00")
    )
    imported = import_labels(
        tables.client,
        str(file),
        columns,
        raw_database=tables.raw_database,
        topic="labels",
        skip_invalid=True,
    )
    assert (imported.landed, imported.invalid) == (9, 1)
    report = verify(tables)
    assert report.partitions == ()
    assert (report.files.file_count, report.files.row_count) == (1, 9)
    assert report.is_sound()
    tables.client.command(
        f"insert into {tables.raw_database}.{LABEL_EVENTS} "
        "select * replace (landed_at + interval 1 minute as landed_at) "
        f"from {tables.raw_database}.{LABEL_EVENTS} where offset in (4, 5)"
    )
    report = verify(tables)
    (duplicated,) = report.files.duplicated
    assert offsets_of(duplicated.duplicates) == [4, 5]
    assert not duplicated.gaps
    assert not duplicated.backward
    assert not report.is_sound(allow_gaps=True)


def test_erased_rows_are_neither_gaps_nor_late(tables: Systems) -> None:
    land(tables, range(40))
    tables.client.command(
        f"alter table {tables.raw_database}.{PREDICTION_EVENTS} update key = null, value = null, "
        f"headers = [('{ERASED_HEADER}', null)] where offset in (3, 17)",
        settings={"mutations_sync": 2},
    )
    (found,) = verify(tables).partitions
    assert (found.row_count, found.gaps, found.backward) == (40, Finding(), Finding())


def test_missing_tables_name_the_remedy(systems: Systems) -> None:
    with pytest.raises(VerificationError, match="driftline migrate"):
        verify(systems)


def test_remedy_for_duplicates_removes_them(tables: Systems) -> None:
    """The statement of docs/ingest.md, as it stands there."""
    land(tables, range(30))
    land(tables, [3, 4, 20], minute=1)
    assert verify(tables).duplicate_count == 3
    text = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text()
    [statement] = [block for block in text.split("```") if "deduplicate by" in block]
    tables.client.command(statement.removeprefix("sql").replace("raw.", f"{tables.raw_database}."))
    (found,) = verify(tables).partitions
    assert (found.row_count, found.duplicates) == (30, Finding())


# -- arithmetic ---------------------------------------------------------------------------------

RANGES = st.lists(
    st.builds(
        lambda first, length: OffsetRange(first, first + length),
        st.integers(0, 60),
        st.integers(0, 12),
    ),
    max_size=8,
)


def members(ranges: Sequence[OffsetRange]) -> set[int]:
    return {offset for each in ranges for offset in range(each.first, each.end)}


@given(RANGES, RANGES, RANGES)
def test_ranges_behave_as_sets(
    some: list[OffsetRange], others: list[OffsetRange], bounds: list[OffsetRange]
) -> None:
    first, second = list(joined(some)), list(joined(others))
    assert members(first) == members(some)
    assert all(one.end < following.first for one, following in pairwise(first))
    assert members(without(first, second)) == members(some) - members(others)
    for bound in bounds:
        assert members(within(first, bound)) == members(some) & members([bound])
    left = without(first, second)
    assert left == sorted(left)
    total = Finding.of(first) + Finding.of(without(second, first))
    assert total.offset_count == len(members(some) | members(others))


def test_object_with_holes_speaks_for_itself_only_once_its_rows_are_gone() -> None:
    whole = EventRange(PREDICTION_EVENTS, PREDICTIONS, DAY, OffsetRange(0, 9))
    holey = EventRange(PREDICTION_EVENTS, PREDICTIONS, DAY, OffsetRange(20, 29))
    objects = [ArchivedObject(whole, 10, 0, ""), ArchivedObject(holey, 7, 0, "")]

    def known(*landed: tuple[date, OffsetRange]) -> Sequence[OffsetRange]:
        days = [LandedDay(PREDICTION_EVENTS, PREDICTIONS, *one, 1) for one in landed]
        found = accounted_for(days, objects, [], [PREDICTION_EVENTS])
        return found[PREDICTION_EVENTS, PREDICTIONS]

    both = [whole.offsets, holey.offsets]
    assert known() == both
    assert known((NEXT_DAY, OffsetRange(0, 100))) == both
    assert known((DAY, OffsetRange(30, 40))) == both
    assert known((DAY, OffsetRange(0, 19))) == both
    assert known((DAY, OffsetRange(0, 20))) == [whole.offsets]


# -- with a broker ------------------------------------------------------------------------------


def ask(systems: Systems, *, repairs: bool = False) -> VerificationReport:
    """Verify, and ask the broker."""
    missed = MissedMessages(lambda _table, _topic: systems.sink())
    with open_gap_reader(systems.kafka, missed=missed if repairs else None) as reader:
        return Verification(
            systems.client, systems.raw_database, ask=reader.ask, cell_offsets=CELL
        ).run()


def delete(systems: Systems, condition: str) -> None:
    systems.client.command(
        f"alter table {raw_table(systems.raw_database, PREDICTION_EVENTS)} delete where "
        f"{condition}",
        settings={"mutations_sync": 2},
    )


def test_missed_messages_are_told_from_the_broker_and_landed(systems: Systems) -> None:
    topic = systems.kafka.predictions_topic
    values = [f"message {number}".encode() for number in range(100)]
    systems.produce(topic, list(values), partition=1)
    systems.produce(topic, [b"x"] * 10, partition=2)
    systems.loader(limits=BatchLimits(rows=30)).run(CAUGHT_UP)
    delete(systems, "partition = 1 and (offset between 20 and 59 or offset in (3, 80))")
    missed = [3, *range(20, 60), 80]
    report = ask(systems)
    (found, other) = report.partitions
    assert found.answer is not None
    assert offsets_of(found.answer.missed) == offsets_of(found.gaps) == missed
    assert (report.missed_count, report.unexplained_count) == (42, 0)
    assert not report.is_sound(allow_gaps=True)
    assert other.answer is None

    report = ask(systems, repairs=True)
    assert (report.landed_count, report.missed_count) == (42, 0)
    assert report.is_sound()
    report = verify(systems)
    assert report.is_sound()
    assert offsets_of(report.partitions[0].backward) == missed
    landed = systems.column(
        f"select value from raw.{PREDICTION_EVENTS} where partition = 1 order by offset"
    )
    assert landed == [value.decode() for value in values]
    # Lost once more: the tokens that are used up stop nobody.
    delete(systems, "partition = 1 and (offset between 20 and 59 or offset in (3, 80))")
    assert ask(systems, repairs=True).landed_count == 42
    assert verify(systems).is_sound()


def test_broker_of_another_topic_or_none_is_no_witness(systems: Systems) -> None:
    create_raw_tables(systems.client, systems.raw_database)
    systems.produce(systems.kafka.predictions_topic, [b"x"] * 50, partition=0)
    foreign = PartitionId("cluster", systems.kafka.predictions_topic, "id-1", 0)
    land(systems, [0, 5], foreign)
    report = ask(systems, repairs=True)
    (found,) = report.partitions
    assert found.answer is not None
    assert offsets_of(found.answer.unknown) == [1, 2, 3, 4]
    assert "is another topic" in found.answer.reasons[0]
    assert (report.unexplained_count, report.missed_count, report.landed_count) == (4, 0, 0)
    assert not report.is_sound()
    assert report.is_sound(allow_gaps=True)


def test_broker_that_is_down_leaves_gaps_unexplained(systems: Systems) -> None:
    asked: list[str] = []

    def identify(topic: str) -> TopicIdentity:
        asked.append(topic)
        # Nobody listens on port 1.
        return TopicIdentities({"bootstrap.servers": "127.0.0.1:1"}, timeout=0.5).of(topic)

    def never() -> Consumer:
        raise AssertionError("nothing can be read")

    with LagReader(systems.kafka) as lag:
        reader = GapReader(never, identify=identify, bounds=lag.bounds)
        for _ in range(2):
            answer = reader.ask(PREDICTION_EVENTS, PREDICTIONS, [OffsetRange(1, 4)])
            assert offsets_of(answer.unknown) == [1, 2, 3, 4]
            assert not answer.missed
            assert not answer.holes
            assert "Kafka does not answer" in answer.reasons[0]
    assert asked == ["predictions"], "a broker that is down is asked once"


def test_reading_ends_with_its_time(systems: Systems) -> None:
    """What was read by then counts, the rest stays unknown."""
    topic = systems.kafka.predictions_topic
    systems.produce(topic, [b"x"] * 50, partition=0)
    systems.loader().run(CAUGHT_UP)
    delete(systems, "offset between 10 and 19")
    with open_gap_reader(systems.kafka, seconds=0.0) as reader:
        report = Verification(systems.client, systems.raw_database, ask=reader.ask).run()
    (found,) = report.partitions
    assert found.answer is not None
    assert offsets_of(found.answer.unknown) == list(range(10, 20))
    assert "could not be read from offset 10 on" in found.answer.reasons[0]


# -- on Apache Kafka ----------------------------------------------------------------------------


def test_holes_missed_and_dropped_messages_are_told_apart(
    kafka: KafkaCluster, systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"predictions-{uuid.uuid4().hex[:8]}"
    kafka.admin.create_topic(topic)
    kafka.admin.create_topic(f"labels-{topic}")
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "DRIFTLINE_PREDICTIONS_TOPIC": topic,
        "DRIFTLINE_LABELS_TOPIC": f"labels-{topic}",
    }.items():
        systems.environment[name] = value
        monkeypatch.setenv(name, value)
    plain = kafka.admin.produce(topic, [b"plain"] * 40)
    aborted = kafka.admin.produce_aborted(topic, [b"aborted"] * 5)
    committed = kafka.admin.produce_transaction(topic, [b"committed"] * 5)
    later = kafka.admin.produce(topic, [b"later"] * 10)
    systems.loader().run(CAUGHT_UP)
    marks = [aborted[-1] + 1, committed[-1] + 1]
    # A loader that is sound has holes all the same.
    report = ask(systems)
    (found,) = report.partitions
    assert found.row_count == 55
    assert found.answer is not None
    assert offsets_of(found.answer.holes) == sorted([*aborted, *marks])
    assert report.is_sound()
    assert verify(systems).unexplained_count == 7
    # Missed ones before, within and after them; then the broker forgets some of those.
    missed = [*plain[10:20], committed[2], later[3]]
    delete(systems, f"offset in ({', '.join(map(str, missed))})")
    kafka.admin.delete_records(topic, plain[15])
    report = ask(systems, repairs=True)
    (found,) = report.partitions
    assert found.answer is not None
    assert offsets_of(found.answer.unknown) == plain[10:15]
    assert offsets_of(found.answer.missed) == [*plain[15:20], committed[2], later[3]]
    assert offsets_of(found.answer.holes) == sorted([*aborted, *marks])
    assert report.landed_count == 7
    assert "has only offsets 15 to" in found.answer.reasons[0]
    assert offsets_of(verify(systems).partitions[0].gaps) == sorted(
        [*plain[10:15], *aborted, *marks]
    )


# -- the command --------------------------------------------------------------------------------


@pytest.fixture
def command_environment(
    systems: Systems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Systems:
    """Give systems that a command of this process finds, and no sandbox beside them."""
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return systems


def run_verify(*arguments: str) -> Result:
    """Run the command in this process; it reads the environment of the fixture."""
    return CliRunner().invoke(app, ["verify", *arguments])


def test_command_names_findings_and_their_remedies(command_environment: Systems) -> None:
    systems = command_environment
    topic = systems.kafka.predictions_topic
    systems.produce(topic, [b"x"] * 50, partition=0)
    systems.loader().run(CAUGHT_UP)
    sound = run_verify()
    assert (sound.exit_code, sound.stderr) == (0, "")
    assert "every offset has landed once" in sound.stdout

    delete(systems, "offset in (10, 11, 30)")
    gaps = run_verify()
    assert gaps.exit_code == 1
    assert f"{topic}[0] gaps: 10-11, 30" in gaps.stdout
    assert "3 offsets between landed ones have no row" in gaps.stderr
    assert "--ask-kafka" in gaps.stderr
    assert run_verify("--allow-gaps").exit_code == 0

    asked = run_verify("--ask-kafka", "--json")
    assert asked.exit_code == 1
    assert "driftline verify --repair" in asked.stderr
    report = json.loads(asked.stdout)
    assert (report["missed"], report["unexplained_gaps"], report["rows"]) == (3, 0, 47)
    assert report["partitions"][0]["kafka"]["missed"]["first_ranges"] == [[10, 11], [30, 30]]

    repaired = run_verify("--repair")
    assert repaired.exit_code == 0, repaired.stderr
    assert "landed 3 messages that had been missed" in repaired.stdout
    assert "next: driftline dbt build" in repaired.stdout
    assert run_verify().exit_code == 0


def test_command_fails_for_duplicates_and_names_missing_tables(
    command_environment: Systems,
) -> None:
    systems = command_environment
    missing = run_verify()
    assert missing.exit_code == 1
    assert "driftline migrate" in missing.stderr
    assert "Traceback" not in missing.stderr
    create_raw_tables(systems.client, systems.raw_database)
    land(systems, [0, 1, 1, 2])
    found = run_verify("--allow-gaps", "--from", "2026-09-30", "--to", "2026-09-30")
    assert found.exit_code == 1
    assert "1 offsets have more than one row" in found.stderr
    assert "predictions[0] duplicates: 1" in found.stdout
    assert run_verify("--since", "2026-10-01").exit_code == 0
