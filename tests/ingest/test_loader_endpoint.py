"""What a loader says of itself over HTTP: as it runs, waits, has halted, or has no broker."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from driftline.settings import KafkaSettings
from ingest.batches import Batch, BatchLimits
from ingest.landing import LandingError, Sink
from ingest.loader import Loader, StopWhen
from ingest.loader_endpoint import (
    EndpointError,
    HighWatermarkReader,
    LoaderCollector,
    health,
    readiness,
    served,
)
from ingest.loader_report import LoaderStatus, LoadReport, PartitionStatus
from ingest.offsets import OffsetRange, PartitionId
from ingest.open_loader import watched
from ingest.raw_tables import PREDICTION_EVENTS, raw_table
from tests.ingest.conftest import PARTITIONS, Systems
from tests.ingest.loading import DEADLINE, wait_for, wrapped

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Response:
    status: int
    content_type: str
    text: str


def get(port: int, path: str, method: str = "GET", host: str = LOOPBACK) -> Response:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return Response(response.status, response.headers["Content-Type"], response.read().decode())
    finally:
        connection.close()


def scraped(port: int) -> Samples:
    response = get(port, "/metrics")
    assert response.status == 200
    return {
        (sample.name.removeprefix("driftline_loader_"), frozenset(sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def sample(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


@contextmanager
def running(loader: Loader, kafka: KafkaSettings, **stop: Any) -> Iterator[int]:
    """Run a loader on a thread and serve its state; gives the port."""
    with watched(loader, kafka, (LOOPBACK, 0)) as port:
        thread = threading.Thread(target=loader.run, args=(StopWhen(**stop),))
        thread.start()
        try:
            yield port
        finally:
            loader.stop()
            thread.join(DEADLINE)
            assert not thread.is_alive()


def test_every_documented_metric_is_there_with_its_value(systems: Systems) -> None:
    topic = systems.kafka.predictions_topic
    values: list[bytes | None] = [b"12345", None, b"1234567890"]
    systems.produce(topic, values, partition=0)
    systems.produce(topic, [b"x"] * 4, partition=1)
    systems.produce(systems.kafka.labels_topic, [b"yy"], partition=2)
    loader, _ = wrapped(systems, insert_second_time, limits=BatchLimits(rows=3, age_seconds=0.1))
    with running(loader, systems.kafka) as port:
        wait_for(lambda: loader.report.rows == 8 and is_settled(port))
        samples = scraped(port)
        text = get(port, "/metrics")
    assert text.content_type.startswith("text/plain; version=")
    assert sample(samples, "rows_total", topic=topic) == 7
    assert sample(samples, "bytes_total", topic=topic) == 15 + 4
    assert sample(samples, "batches_total", topic=topic) == 3
    assert sample(samples, "rows_total", topic=systems.kafka.labels_topic) == 1
    assert sample(samples, "bytes_total", topic=systems.kafka.labels_topic) == 2
    assert sample(samples, "batches_total", topic=systems.kafka.labels_topic) == 1
    assert sample(samples, "insert_seconds_count") == 4
    assert 0 < (sample(samples, "insert_seconds_sum") or 0) < DEADLINE
    assert sample(samples, "retries_total", code="252") == 1
    for state, count in {"locating": 0, "reading": 8, "waiting": 0, "halted": 0}.items():
        assert sample(samples, "partitions", state=state) == count
    for number in range(PARTITIONS):
        labels = {"topic": topic, "partition": str(number)}
        assert sample(samples, "lag_messages", **labels) == 0
        assert sample(samples, "oldest_unlanded_seconds", **labels) == 0
    for name in ("replayed_batches", "repaired_rows", "skipped_messages", "rereads", "pauses"):
        assert sample(samples, f"{name}_total") == 0
    assert sample(samples, "buffered_bytes") == 0
    assert sample(samples, "broker_up") == 1


def insert_second_time(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
    if attempt == 1:
        raise LandingError("too many parts", code=252, is_transient=True)
    sink.insert(batch, token)


def is_settled(port: int) -> bool:
    """Whether the endpoint has heard of every partition's end, and all of it has landed."""
    samples = scraped(port)
    lags = [value for (name, _), value in samples.items() if name == "lag_messages"]
    return len(lags) == 2 * PARTITIONS and not any(lags)


def test_documentation_lists_the_metrics_that_there_are() -> None:
    families = registry(filled_report(), loader_status(partition_status())).collect()
    found = {each.name + ("_total" if each.type == "counter" else "") for each in families}
    text = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text()
    section = text[text.index("## Watching") : text.index("## Verifying")]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `drift")]
    listed = set()
    for row in rows:
        for name in re.findall(r"`([a-z_]+)", row):
            listed.add(name if name.startswith("driftline") else f"driftline_loader{name}")
    assert found == listed


# -- values, of reports and states that are given -----------------------------------------------


def partition_status(**other: Any) -> PartitionStatus:
    return replace(
        PartitionStatus(
            topic="predictions",
            partition=3,
            state="reading",
            problem=None,
            landed_end=100,
            buffered_bytes=0,
            oldest_buffered=None,
            last_landed=None,
        ),
        **other,
    )


def loader_status(*partitions: PartitionStatus, **other: Any) -> LoaderStatus:
    return replace(LoaderStatus(True, 0.5, partitions), **other)


def filled_report() -> LoadReport:
    report = LoadReport(batches=4, insert_seconds=2.5, replayed=1, repaired=30, skipped=5)
    report.rereads, report.pauses = 2, 6
    report.retries.update({"252": 3, "connection": 1})
    report.landed.update({("predictions", "rows"): 7})
    lost = PartitionId("cluster", "predictions", "id", 0)
    report.gaps += [(lost, OffsetRange(10, 19)), (lost, OffsetRange(30, 30))]
    return report


def registry(
    report: LoadReport, status: LoaderStatus, high: int | None = 100, now: float = 1000.0
) -> CollectorRegistry:
    asked = threading.Event()

    def read(partitions: Any) -> dict[tuple[str, int], int]:
        asked.set()
        return {} if high is None else {("predictions", 3): high}

    watermarks = HighWatermarkReader(read, lambda: [("predictions", 3)], every_seconds=600)
    watermarks.start()
    assert asked.wait(DEADLINE)
    watermarks.close()
    found = CollectorRegistry()
    found.register(LoaderCollector(report, lambda: status, watermarks, lambda: now))
    return found


def test_totals_are_those_of_the_report() -> None:
    found = registry(filled_report(), loader_status())
    for name, labels, value in [
        ("lost_messages_total", {"topic": "predictions"}, 11),
        ("retries_total", {"code": "252"}, 3),
        ("retries_total", {"code": "connection"}, 1),
        ("replayed_batches_total", {}, 1),
        ("repaired_rows_total", {}, 30),
        ("skipped_messages_total", {}, 5),
        ("rereads_total", {}, 2),
        ("pauses_total", {}, 6),
        ("insert_seconds_sum", {}, 2.5),
        ("insert_seconds_count", {}, 4),
        ("rows_total", {"topic": "predictions"}, 7),
    ]:
        assert found.get_sample_value(f"driftline_loader_{name}", labels) == value


@pytest.mark.parametrize(
    ("status", "high", "lag", "age"),
    [
        (partition_status(), 100, 0, 0),
        # The broker was asked before the newest landed.
        (partition_status(), 90, 0, 0),
        (partition_status(oldest_buffered=940_000), 130, 30, 60),
        # Nothing is held: what comes next is at most as old as what landed last.
        (partition_status(last_landed=900_000), 130, 30, 100),
        (partition_status(last_landed=900_000), 100, 0, 0),
        # A producer's clock that is ahead.
        (partition_status(oldest_buffered=1_200_000), 130, 30, 0),
        (partition_status(landed_end=None), 130, None, None),
        (partition_status(), None, None, None),
    ],
)
def test_lag_and_age_of_a_partition(
    status: PartitionStatus, high: int | None, lag: int | None, age: float | None
) -> None:
    found = registry(LoadReport(), loader_status(status), high)
    labels = {"topic": "predictions", "partition": "3"}
    assert found.get_sample_value("driftline_loader_lag_messages", labels) == lag
    assert found.get_sample_value("driftline_loader_oldest_unlanded_seconds", labels) == age


def test_memory_and_states_are_of_all_partitions() -> None:
    partitions = [
        partition_status(buffered_bytes=10),
        partition_status(buffered_bytes=5, state="halted"),
        partition_status(state="halted"),
    ]
    found = registry(LoadReport(), loader_status(*partitions))
    assert found.get_sample_value("driftline_loader_buffered_bytes") == 15
    counts = {
        state: found.get_sample_value("driftline_loader_partitions", {"state": state})
        for state in ("locating", "reading", "waiting", "halted")
    }
    assert counts == {"locating": 0, "reading": 1, "waiting": 0, "halted": 2}


def test_health_is_lost_once_the_loop_stands_still() -> None:
    turned_at, now = 100.0, 100.0

    def status() -> LoaderStatus:
        return LoaderStatus(True, now - turned_at, ())

    with served((LOOPBACK, 0), CollectorRegistry(), status) as port:
        for seconds, code in [(100.0, 200), (220.0, 200), (221.0, 503), (100.5, 200)]:
            now = seconds
            response = get(port, "/healthz")
            assert response.status == code
            assert response.text == (
                "ok\n" if code == 200 else "the loop has stood still for 121 s\n"
            )
            # One that stands still lands nothing.
            assert get(port, "/readyz").status == code


def test_readiness_names_each_reason_in_a_line() -> None:
    assert readiness(loader_status(partition_status(), partition_status())) == []
    assert readiness(loader_status(has_assignment=False)) == [
        "the group has not given this loader its partitions yet"
    ]
    waiting = partition_status(state="waiting", problem="Code: 252.\n  Too many\nparts")
    halted = partition_status(partition=1, state="halted", problem="no table")
    locating = partition_status(partition=2, state="locating")
    status = loader_status(waiting, partition_status(), halted, locating)
    assert readiness(status) == [
        "predictions[3] is waiting: Code: 252. Too many parts",
        "predictions[1] is halted: no table",
        "predictions[2] is locating",
    ]
    assert health(status) == [], "waiting is no reason for a restart"


def test_other_paths_are_not_found_and_head_has_no_body() -> None:
    with served((LOOPBACK, 0), CollectorRegistry(), loader_status) as port:
        for path in ("/", "/metrics/", "/healthz/x", "/../etc/passwd"):
            response = get(port, path)
            assert response.status == 404
            assert "/metrics, /healthz, /readyz" in response.text
        assert get(port, "/healthz?verbose").status == 200
        head = get(port, "/metrics", "HEAD")
        assert (head.status, head.text) == (200, "")
        assert get(port, "/metrics", "POST").status == 501


def test_endpoint_listens_where_it_is_told_and_nowhere_afterwards() -> None:
    with served((LOOPBACK, 0), CollectorRegistry(), loader_status) as port:
        assert get(port, "/healthz").status == 200
        with (
            pytest.raises(EndpointError, match=rf"{LOOPBACK} port {port}.*--listen"),
            served((LOOPBACK, port), CollectorRegistry(), loader_status),
        ):
            pass
        # Bound to this address of loopback and to no other.
        with pytest.raises(ConnectionRefusedError):
            get(port, "/healthz", host="127.0.0.2")
    with pytest.raises(ConnectionRefusedError):
        get(port, "/healthz")
    names = {thread.name for thread in threading.enumerate()}
    assert "driftline-endpoint" not in names
    with (
        pytest.raises(EndpointError, match=r"nowhere\.invalid"),
        served(("nowhere.invalid", 0), CollectorRegistry(), loader_status),
    ):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_endpoint_listens_on_ipv6() -> None:
    try:
        with served(("::1", 0), CollectorRegistry(), loader_status) as port:
            assert get(port, "/healthz", host="::1").status == 200
    except EndpointError as error:
        pytest.skip(f"no IPv6 on loopback: {error}")


def test_scrape_that_fails_leaves_the_endpoint_alive(caplog: pytest.LogCaptureFixture) -> None:
    """And a client that goes away in the middle is no news."""
    fails = True

    def status() -> LoaderStatus:
        if fails:
            raise LookupError("a bug")
        return loader_status()

    with served((LOOPBACK, 0), CollectorRegistry(), status) as port:
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            get(port, "/healthz")
        wait_for(lambda: "a request for metrics or health failed" in caplog.text)
        fails = False
        with socket.create_connection((LOOPBACK, port)) as half:
            half.sendall(b"GET /healthz HT")
        assert get(port, "/healthz").status == 200


# -- a loader in trouble ------------------------------------------------------------------------


def test_readiness_is_lost_while_a_partition_waits_and_comes_back(systems: Systems) -> None:
    topic = systems.kafka.predictions_topic
    is_busy = threading.Event()
    is_busy.set()

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        if is_busy.is_set():
            raise LandingError("too many parts", code=252, is_transient=True)
        sink.insert(batch, token)

    loader, _ = wrapped(systems, insert, limits=BatchLimits(age_seconds=0.1))
    with running(loader, systems.kafka) as port:
        assert get(port, "/readyz").status == 503
        wait_for(lambda: get(port, "/readyz").status == 200)
        systems.produce(topic, [b"x" * 100] * 10, partition=1)
        wait_for(lambda: get(port, "/readyz").status == 503)
        response = get(port, "/readyz")
        assert response.text == f"{topic}[1] is waiting: too many parts\n"
        assert get(port, "/healthz").status == 200
        wait_for(lambda: sample(scraped(port), "lag_messages", topic=topic, partition="1") == 10)
        samples = scraped(port)
        age = sample(samples, "oldest_unlanded_seconds", topic=topic, partition="1")
        assert age is not None
        assert 0 < age < DEADLINE
        assert (sample(samples, "buffered_bytes") or 0) >= 1000
        assert sample(samples, "partitions", state="waiting") == 1
        is_busy.clear()
        wait_for(lambda: get(port, "/readyz").status == 200)
        wait_for(lambda: sample(scraped(port), "lag_messages", topic=topic, partition="1") == 0)


def test_readiness_names_a_halted_partition_until_it_is_mended(systems: Systems) -> None:
    topic = systems.kafka.predictions_topic
    loader = systems.loader(limits=BatchLimits(age_seconds=0.1), draw=lambda: 0.01)
    table = raw_table(systems.raw_database, PREDICTION_EVENTS)
    with running(loader, systems.kafka) as port:
        wait_for(lambda: get(port, "/readyz").status == 200)
        systems.client.command(f"rename table {table} to {systems.raw_database}.elsewhere")
        systems.produce(topic, [b"x"] * 10, partition=1)
        wait_for(lambda: "halted" in get(port, "/readyz").text)
        response = get(port, "/readyz")
        assert response.status == 503
        [line] = response.text.splitlines()
        assert line.startswith(f"{topic}[1] is halted: ")
        assert "UNKNOWN_TABLE" in line
        assert sample(scraped(port), "partitions", state="halted") == 1
        systems.client.command(f"rename table {systems.raw_database}.elsewhere to {table}")
        wait_for(lambda: get(port, "/readyz").status == 200)
        wait_for(lambda: loader.report.rows == 10)
    assert len(systems.coordinates()) == 10


def test_scrape_does_not_wait_for_a_silent_broker() -> None:
    is_asked, answers = threading.Event(), threading.Event()

    def read(_: Any) -> dict[tuple[str, int], int]:
        is_asked.set()
        assert answers.wait(DEADLINE)
        return {}

    watermarks = HighWatermarkReader(read, lambda: [("predictions", 3)], every_seconds=600)
    found = CollectorRegistry()
    found.register(LoaderCollector(LoadReport(), loader_status, watermarks))
    watermarks.start()
    try:
        assert is_asked.wait(DEADLINE)
        with served((LOOPBACK, 0), found, loader_status) as port:
            assert sample(scraped(port), "broker_up") == 0
        assert not answers.is_set()
    finally:
        answers.set()
        watermarks.close()


def test_broker_that_falls_silent_is_reported_and_its_last_word_kept() -> None:
    is_down = threading.Event()
    asked: list[int] = []

    def read(partitions: Any) -> dict[tuple[str, int], int]:
        asked.append(len(list(partitions)))
        if is_down.is_set():
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return {("predictions", 3): 130}

    watermarks = HighWatermarkReader(read, lambda: [("predictions", 3)], every_seconds=0.01)
    found = CollectorRegistry()
    status = loader_status(partition_status())
    found.register(LoaderCollector(LoadReport(), lambda: status, watermarks, lambda: 1000.0))
    labels = {"topic": "predictions", "partition": "3"}

    def values() -> tuple[float | None, float | None]:
        return (
            found.get_sample_value("driftline_loader_broker_up"),
            found.get_sample_value("driftline_loader_lag_messages", labels),
        )

    assert values() == (0, None)
    watermarks.start()
    try:
        wait_for(lambda: values() == (1, 30))
        is_down.set()
        wait_for(lambda: values() == (0, 30))
        is_down.clear()
        wait_for(lambda: values() == (1, 30))
    finally:
        watermarks.close()
    assert set(asked) == {1}


def test_broker_is_reached_for_where_there_is_no_partition() -> None:
    reached = threading.Event()

    def reach() -> None:
        reached.set()
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    watermarks = HighWatermarkReader(lambda _: {}, list, reach=reach, every_seconds=600)
    watermarks.start()
    assert reached.wait(DEADLINE)
    watermarks.close()
    assert not watermarks.is_answered


# -- the command --------------------------------------------------------------------------------


def load(systems: Systems, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "driftline", "load", "--session-seconds", "4", *arguments],
        env=systems.process_environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_command_serves_until_it_is_terminated(systems: Systems) -> None:
    process = load(systems, "--listen", f"{LOOPBACK}:0")
    assert process.stderr is not None
    try:
        while "metrics on" not in (line := process.stderr.readline()):
            assert line, "the loader ended early"
        [port] = re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", line)
        wait_for(lambda: get(int(port), "/readyz").status == 200)
        assert sample(scraped(int(port)), "partitions", state="reading") == 2 * PARTITIONS
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        get(int(port), "/healthz")


def test_command_names_an_address_that_is_taken(systems: Systems) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        process = load(systems, "--listen", f"{LOOPBACK}:{port}")
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert f"error: cannot listen on {LOOPBACK} port {port}: Address already in use" in said
    assert "Traceback" not in said
