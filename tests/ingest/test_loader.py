"""The loader on a real protocol: every offset and every id exactly once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from typing import Any

import pytest

from driftline import LabelLogger, PredictionLogger
from ingest.batches import Batch, BatchLimits
from ingest.events import encode_prediction
from ingest.lag import LagReader
from ingest.landing import LandingError, PacedSink, Sink
from ingest.loader import LoaderError, StopWhen
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS
from tests.ingest.conftest import PARTITIONS, SESSION_SECONDS, Systems, systems_on
from tests.ingest.loading import CAUGHT_UP, DEADLINE, committed_by_member, wait_for, wrapped
from tests.warehouse_fixtures import ClickHouseProcess


def log_events(systems: Systems, count: int) -> tuple[list[str], list[str]]:
    """Log predictions and a label for every second one; give both lists of ids."""
    with PredictionLogger("m", "1") as predictions, LabelLogger("m") as labels:
        ids = [predictions.log({"x": number}, score=0.5) for number in range(count)]
        labelled = ids[::2]
        for identifier in labelled:
            labels.log(identifier, "late")
    assert predictions.counters().delivered == count
    assert labels.counters().delivered == len(labelled)
    return ids, labelled


def assert_landed_once(found: list[str], expected: Collection[str]) -> None:
    assert len(found) == len(set(found)), "some landed twice"
    assert set(found) == set(expected)


LOST = LandingError("the answer was lost", code=None, is_transient=True)


def test_every_prediction_and_label_lands_exactly_once(systems: Systems) -> None:
    ids, labelled = log_events(systems, 5000)
    report = systems.loader().run(CAUGHT_UP)
    assert_landed_once(systems.prediction_ids(), ids)
    assert_landed_once(systems.label_ids(), labelled)
    assert report.rows == 7500
    assert report.batches <= 2 * PARTITIONS
    # As they came: key, headers, coordinates and time.
    (row,) = systems.rows(
        f"""select key, mapFromArrays(headers.name, headers.value), cluster like 'mockCluster%',
        topic, topic_id = cluster, batch_date = toDate(now('UTC')),
        abs(dateDiff('second', kafka_timestamp, landed_at)) < 600
        from raw.{PREDICTION_EVENTS} limit 1"""
    )
    assert row[0] in ids
    assert row[1]["ce_id"] == row[0]
    assert row[2:] == (1, systems.kafka.predictions_topic, 1, 1, 1)


def test_loading_again_lands_only_what_is_new(systems: Systems) -> None:
    first, _ = log_events(systems, 300)
    systems.loader().run(CAUGHT_UP)
    second, _ = log_events(systems, 300)
    report = systems.loader().run(CAUGHT_UP)
    assert_landed_once(systems.prediction_ids(), first + second)
    assert report.rows == 450
    with LagReader(systems.kafka) as reader:
        assert set(reader.lag().values()) == {0}


def test_slow_loader_loses_nothing(systems: Systems) -> None:
    """A sink far slower than the logger, and a memory bound that makes the loader pause."""
    paused_at_most = 64 * 1024

    def slowed(sink: Sink) -> Sink:
        return PacedSink(sink, rows_per_second=1500)

    loader = systems.loader(
        make_sink=slowed,
        limits=BatchLimits(rows=100, age_seconds=0.1),
        memory_bytes=paused_at_most,
        pause_after_seconds=0.05,
    )
    thread = threading.Thread(target=loader.run, args=(StopWhen(idle_seconds=2.0),))
    thread.start()
    ids, labelled = log_events(systems, 4000)
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert_landed_once(systems.prediction_ids(), ids)
    assert_landed_once(systems.label_ids(), labelled)
    assert loader.report.batches >= 60
    assert loader.report.pauses > 0


# Again on Apache Kafka in tests/faults; two of the points in test_loader_intents.
@pytest.mark.faults
@pytest.mark.parametrize(
    "crash_point", ["before_intent", "after_intent", "after_insert", "after_commit"]
)
def test_killed_loader_leaves_neither_gap_nor_duplicate(systems: Systems, crash_point: str) -> None:
    ids, labelled = log_events(systems, 2000)
    killed = subprocess.run(
        [sys.executable, "-m", "tests.ingest.crashing_loader", crash_point, "3"],
        env=systems.process_environment(),
        timeout=DEADLINE,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    landed = len(systems.prediction_ids()) + len(systems.label_ids())
    assert landed < 3000
    if crash_point not in ("before_intent", "after_intent"):
        assert landed > 0
    systems.loader().run(CAUGHT_UP)
    assert_landed_once(systems.prediction_ids(), ids)
    assert_landed_once(systems.label_ids(), labelled)


def test_lost_answer_of_an_insert_that_landed_repeats_nothing(systems: Systems) -> None:
    ids, _ = log_events(systems, 400)

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        sink.insert(batch, token)
        if attempt % 2:
            raise LOST

    loader, tokens = wrapped(systems, insert)
    report = loader.run(CAUGHT_UP)
    assert report.retries["connection"] >= 2
    assert len(tokens) == len(set(tokens)), "what the table has was inserted again"
    assert_landed_once(systems.prediction_ids(), ids)


def test_partly_landed_batch_is_repaired(systems: Systems) -> None:
    ids, _ = log_events(systems, 400)

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        if "repair" not in token and len(batch) > 1:
            sink.insert(batch.only(set(batch.offsets[::3])), f"{token}/part")
            raise LOST
        sink.insert(batch, token)

    loader, tokens = wrapped(systems, insert)
    loader.run(CAUGHT_UP)
    assert any("/repair-" in token for token in tokens)
    assert_landed_once(systems.prediction_ids(), ids)


def test_token_that_outlived_its_rows_does_not_swallow_the_next_insert(systems: Systems) -> None:
    """A server killed between remembering a token and keeping the rows acknowledges a repeat."""
    ids, _ = log_events(systems, 400)

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        if "/repair-" in token:
            sink.insert(batch, token)

    loader, tokens = wrapped(systems, insert)
    loader.run(CAUGHT_UP)
    assert any("/repair-" in token for token in tokens)
    assert_landed_once(systems.prediction_ids(), ids)


def test_failed_insert_is_repeated_under_its_token(systems: Systems) -> None:
    ids, _ = log_events(systems, 400)
    busy = LandingError("too many parts", code=252, is_transient=True)

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        if attempt <= 12:
            raise busy
        sink.insert(batch, token)

    loader, tokens = wrapped(systems, insert)
    report = loader.run(CAUGHT_UP)
    assert report.retries == {"252": 12}
    assert len(set(tokens)) == report.batches
    assert_landed_once(systems.prediction_ids(), ids)


def test_clickhouse_that_is_killed_and_comes_back_loses_nothing(
    broker: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ClickHouseProcess(tmp_path / "data").start()
    try:
        systems = systems_on(server, broker)
        for name, value in systems.environment.items():
            monkeypatch.setenv(name, value)
        loader = systems.loader(limits=BatchLimits(rows=50, age_seconds=0.1), draw=lambda: 0.2)
        thread = threading.Thread(target=loader.run, args=(StopWhen(idle_seconds=3.0),))
        thread.start()
        before, _ = log_events(systems, 1000)
        wait_for(lambda: loader.report.rows > 0)
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        after, _ = log_events(systems, 1000)
        wait_for(lambda: loader.report.retries.total() > 0)
        server.arguments = ("--port", str(server.port))
        server.start()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert_landed_once(systems.prediction_ids(), before + after)
    finally:
        server.stop()


POISON: list[bytes | None] = [
    None,
    b"",
    b"{",
    b'{"score": NaN}',
    b"\xff\xfe\x00",
    "lone \ud800".encode("utf-8", "surrogatepass"),
    b"[" * 20_000,
    b'{"a": 1, "a": 2}',
    b"x" * 900_000,
    b"\x00" * 10,
]


def test_poison_lands_byte_for_byte(systems: Systems) -> None:
    systems.produce(systems.kafka.predictions_topic, POISON, partition=2)
    report = systems.loader().run(CAUGHT_UP)
    assert report.rows == len(POISON)
    landed = systems.column(
        f"select if(isNull(value), 'null', hex(value)) from raw.{PREDICTION_EVENTS} order by offset"
    )
    assert landed == ["null" if value is None else value.hex().upper() for value in POISON]


def test_what_the_broker_dropped_before_the_start_is_recorded(systems: Systems) -> None:
    topic = systems.kafka.predictions_topic
    systems.produce(topic, [b"landed"] * 10, partition=1)
    systems.loader().run(CAUGHT_UP)
    systems.produce(topic, [bytes(500_000)] * 20, partition=1)  # above what the broker keeps
    report = systems.loader().run(CAUGHT_UP)
    with LagReader(systems.kafka) as reader:
        low = reader.bounds(topic, 1).low
    assert low > 10
    assert report.lost == low - 10
    assert systems.rows(
        "select partition, first_offset, last_offset, reason from raw.offset_gaps"
    ) == [(1, 10, low - 1, "retention")]
    landed = {offset for partition, offset in systems.coordinates() if partition == 1}
    assert landed == set(range(10)) | set(range(low, 30))


def test_what_the_broker_drops_while_loading_is_recorded(systems: Systems) -> None:
    topic = systems.kafka.predictions_topic
    released = threading.Event()

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        released.wait(DEADLINE)
        sink.insert(batch, token)

    # Little memory and no fetching ahead, so that the reader stands still with the sink.
    loader, _ = wrapped(
        systems,
        insert,
        limits=BatchLimits(rows=5, age_seconds=0.1),
        memory_bytes=100,
        pause_after_seconds=0.05,
    )
    thread = threading.Thread(target=loader.run, args=(StopWhen(idle_seconds=2.0),))
    thread.start()
    systems.produce(topic, [b"first"] * 10, partition=1)
    wait_for(lambda: loader.report.expected >= 0 and loader.is_holding_back)
    systems.produce(topic, [bytes(500_000)] * 40, partition=1)
    released.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    landed = {offset for partition, offset in systems.coordinates() if partition == 1}
    gaps = systems.rows("select first_offset, last_offset from raw.offset_gaps")
    lost = {offset for first, last in gaps for offset in range(first, last + 1)}
    assert lost
    assert not landed & lost
    assert landed | lost == set(range(50))


@pytest.mark.parametrize(
    "committed",
    [40, pytest.param(0, marks=pytest.mark.faults), pytest.param(80, marks=pytest.mark.faults)],
)
def test_table_wins_over_the_committed_offset(systems: Systems, committed: int) -> None:
    topic = systems.kafka.predictions_topic
    systems.produce(topic, [b"1"] * 50, partition=0)
    systems.loader().run(CAUGHT_UP)
    systems.produce(topic, [b"2"] * 50, partition=0)
    committed_by_member(systems, 0, committed)
    report = systems.loader().run(CAUGHT_UP)
    assert report.rows == 50
    assert sorted(systems.coordinates()) == [(0, offset) for offset in range(100)]


def test_empty_table_is_filled_from_the_beginning_whatever_was_committed(systems: Systems) -> None:
    systems.produce(systems.kafka.predictions_topic, [b"1"] * 50, partition=0)
    committed_by_member(systems, 0, 30)
    systems.loader().run(CAUGHT_UP)
    assert sorted(systems.coordinates()) == [(0, offset) for offset in range(50)]


def test_missing_table_halts_and_moves_nothing(systems: Systems) -> None:
    ids, labelled = log_events(systems, 50)
    loader = systems.loader()
    systems.client.command(f"drop table {systems.raw_database}.{PREDICTION_EVENTS} sync")
    with pytest.raises(
        LoaderError, match=rf"{systems.kafka.predictions_topic}\[\d\].*UNKNOWN_TABLE"
    ):
        loader.run(CAUGHT_UP)
    systems.loader().run(CAUGHT_UP)
    assert_landed_once(systems.prediction_ids(), ids)
    assert_landed_once(systems.label_ids(), labelled)


def test_two_loaders_share_the_partitions(systems: Systems) -> None:
    loaders = [systems.loader(limits=BatchLimits(rows=100)) for _ in range(2)]
    threads = [
        threading.Thread(target=loader.run, args=(StopWhen(idle_seconds=6.0),))
        for loader in loaders
    ]
    for thread in threads:
        thread.start()
    ids, labelled = log_events(systems, 2000)
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert_landed_once(systems.prediction_ids(), ids)
    assert_landed_once(systems.label_ids(), labelled)


def test_terminated_loader_lands_what_it_holds(systems: Systems) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            *["-m", "driftline", "load", "--batch-seconds", "600"],
            *["--session-seconds", str(SESSION_SECONDS)],
        ],
        env=systems.process_environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    reading = 0
    while reading < PARTITIONS * 2:
        line = process.stderr.readline()
        assert line, "the loader ended early"
        reading += "reading from offset" in line
    ids, labelled = log_events(systems, 500)
    with LagReader(systems.kafka) as reader:
        # Fetched or not: whatever has not landed at SIGTERM must land afterwards.
        assert sum(reader.lag().values()) == 750
    process.terminate()
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert "landed" in output
    systems.loader().run(CAUGHT_UP)
    assert_landed_once(systems.prediction_ids(), ids)
    assert_landed_once(systems.label_ids(), labelled)


def test_command_loads_until_caught_up(systems: Systems) -> None:
    ids, _ = log_events(systems, 200)
    done = subprocess.run(
        [sys.executable, "-m", "driftline", "load", "--until-caught-up"],
        env=systems.process_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert "landed 300 messages" in done.stdout
    assert "next: driftline dbt build" in done.stdout
    assert_landed_once(systems.prediction_ids(), ids)


def test_command_names_a_server_that_is_down(systems: Systems) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "driftline", "load", "--until-caught-up"],
        env={**systems.process_environment(), "CLICKHOUSE_PORT": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_logger_repairs_is_json_to_clickhouse(systems: Systems) -> None:
    odd: list[Any] = [float("nan"), 10**400, 1e308, 5e-324, "\ud800", b"\xff", 2**64 - 1, -(2**63)]
    for value in odd:
        event = encode_prediction(model_name="m", model_version="1", features={"x": value})
        read = systems.client.query(
            "select isValidJSON({v:String}), JSONType({v:String}, 'features', 'x')",
            parameters={"v": event.value.decode()},
        ).result_rows
        expected = "String" if isinstance(json.loads(event.value)["features"]["x"], str) else ""
        assert read[0][0] == 1, value
        assert (read[0][1] == "String") == bool(expected), value


def test_label_table_takes_the_labels_topic(systems: Systems) -> None:
    systems.produce(systems.kafka.labels_topic, [b"a", b"b"], partition=3)
    systems.loader().run(CAUGHT_UP)
    assert sorted(systems.coordinates(LABEL_EVENTS)) == [(3, 0), (3, 1)]
    assert systems.coordinates(PREDICTION_EVENTS) == []
