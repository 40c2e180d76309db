"""PredictionLogger and LabelLogger: every event once, never in the model server's way."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from driftline import LabelLogger, PredictionLogger
from driftline.settings import SettingsError

NOWHERE = "127.0.0.1:1"
QUIET = {"log_level": 0}
DEADLINE = 30.0


def read_topic(broker: str, topic: str) -> list[Any]:
    """Give all messages of a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": uuid.uuid4().hex,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    partitions = list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    messages: list[Any] = []
    ended: set[int] = set()
    deadline = time.monotonic() + DEADLINE
    while len(ended) < len(partitions):
        assert time.monotonic() < deadline
        for message in consumer.consume(1000, 0.1):
            if message.error() is None:
                messages.append(message)
            else:
                ended.add(int(message.partition() or 0))
    consumer.close()
    return messages


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        threading.Event().wait(0.01)


@pytest.fixture
def topic() -> str:
    return f"topic_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def unreachable() -> PredictionLogger:
    return PredictionLogger("m", "1", bootstrap_servers=NOWHERE, kafka=QUIET, exit_flush_seconds=0)


def test_every_prediction_arrives_once_with_its_headers(broker: str, topic: str) -> None:
    with PredictionLogger("flights delay", "1", bootstrap_servers=broker, topic=topic) as logger:
        ids = [logger.log({"x": number}, score=0.5) for number in range(1000)]
        assert logger.flush() == 0
        assert logger.counters().delivered == 1000
    messages = read_topic(broker, topic)
    assert len(messages) == 1000
    assert {message.key().decode() for message in messages} == set(ids)
    one = messages[0]
    assert json.loads(one.value())["prediction_id"] == one.key().decode()
    assert dict(one.headers()) == {
        "ce_specversion": b"1.0",
        "ce_type": b"driftline.prediction.v1",
        "ce_source": b"driftline/flights%20delay/1",
        "content-type": b"application/json",
        "ce_id": one.key(),
    }


def test_every_label_arrives_once(broker: str, topic: str) -> None:
    with LabelLogger("m", source="batch", bootstrap_servers=broker, topic=topic) as logger:
        assert all(logger.log(f"id-{number}", "late") for number in range(100))
    values = [json.loads(message.value()) for message in read_topic(broker, topic)]
    assert {value["prediction_id"] for value in values} == {f"id-{number}" for number in range(100)}
    assert {value["source"] for value in values} == {"batch"}


def test_events_of_many_threads_all_arrive(broker: str, topic: str) -> None:
    logger = PredictionLogger("m", "1", bootstrap_servers=broker, topic=topic)
    ids: list[list[str]] = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(logger.log({}) for _ in range(500)))
        for mine in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logger.close()
    arrived = [message.key().decode() for message in read_topic(broker, topic)]
    assert sorted(arrived) == sorted(itertools.chain(*ids))


class Hostile(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no items")

    def __iter__(self) -> Any:
        raise RuntimeError("no keys")

    def __len__(self) -> int:
        raise RuntimeError("no length")


@pytest.mark.parametrize("features", [None, 7, "text", [1, 2], Hostile(), object()])
def test_features_that_are_none_are_counted_and_never_raise(
    unreachable: PredictionLogger, features: Any
) -> None:
    assert unreachable.log(features, prediction_id="mine") == "mine"
    assert uuid.UUID(unreachable.log(features)).version == 7
    assert unreachable.counters().dropped == {"unencodable": 2}


def test_odd_arguments_never_raise(unreachable: PredictionLogger) -> None:
    odd: Any = Hostile()
    unreachable.log({"x": odd}, score=odd, segments=odd, metadata=odd, predicted_at=odd)
    unreachable.log({}, status=odd, entity_id=odd, latency_ms=odd, prediction_id=odd)
    counters = unreachable.counters()
    assert counters.queued + sum(counters.dropped.values()) == 2


def test_repaired_events_are_counted(unreachable: PredictionLogger) -> None:
    unreachable.log({"x": float("nan")})
    unreachable.log({"x": 1.0})
    assert unreachable.counters().repaired == 1


def test_full_queue_drops_the_newest_and_counts_them() -> None:
    logger = PredictionLogger(
        "m",
        "1",
        bootstrap_servers=NOWHERE,
        kafka=QUIET,
        max_queue_bytes=64 * 1024,
        exit_flush_seconds=0,
    )
    for _ in range(300):
        logger.log({"x": "y" * 1000})
    counters = logger.counters()
    assert counters.queued + counters.dropped["queue_full"] == 300
    assert 40 <= counters.queued <= 64
    assert counters.depth == counters.queued
    assert counters.delivered == 0


def test_close_counts_what_was_never_sent_as_failed(unreachable: PredictionLogger) -> None:
    for _ in range(10):
        unreachable.log({})
    started = time.monotonic()
    unreachable.close(timeout=0.2)
    assert time.monotonic() - started < 5
    counters = unreachable.counters()
    assert (counters.queued, counters.delivered, sum(counters.failed.values())) == (10, 0, 10)


def test_event_after_close_is_dropped(broker: str, topic: str) -> None:
    logger = PredictionLogger("m", "1", bootstrap_servers=broker, topic=topic)
    logger.close()
    logger.log({})
    assert logger.counters().dropped == {"closed": 1}


def test_oversize_event_becomes_a_marker(broker: str, topic: str) -> None:
    with PredictionLogger(
        "m", "1", bootstrap_servers=broker, topic=topic, max_event_bytes=10_000
    ) as logger:
        identifier = logger.log({"x": "y" * 20_000})
        assert logger.counters().truncated == 1
    (message,) = read_topic(broker, topic)
    marker = json.loads(message.value())
    assert marker["prediction_id"] == identifier
    assert marker["is_truncated"] is True
    assert marker["original_bytes"] > 20_000


def test_wrong_kafka_property_is_counted_and_never_raises() -> None:
    logger = PredictionLogger(
        "m", "1", bootstrap_servers=NOWHERE, kafka={"no.such.property": "1", **QUIET}
    )
    logger.log({})
    logger.log({})
    wait_for(lambda: logger.counters().dropped == {"no_producer": 2})
    assert logger.counters().depth == 0


def test_missing_address_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    with pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP_SERVERS"):
        PredictionLogger("m", "1")


def test_decorated_function_is_logged_with_latency_and_errors(broker: str, topic: str) -> None:
    logger = PredictionLogger("m", "1", bootstrap_servers=broker, topic=topic)

    @logger.logged()
    def predict(features: Mapping[str, float]) -> float:
        if features["x"] < 0:
            raise ValueError("negative")
        return features["x"] / 10

    @logger.logged(features=lambda x: {"x": x}, prediction=lambda result: {"label": result[0]})
    def classify(x: float) -> list[str]:
        return ["late"]

    assert predict({"x": 5.0}) == 0.5
    assert classify(6.0) == ["late"]
    with pytest.raises(ValueError, match="negative"):
        predict({"x": -1.0})
    logger.close()
    events = {
        event["features"]["x"]: event
        for event in (json.loads(message.value()) for message in read_topic(broker, topic))
    }
    assert events[5.0]["prediction"] == {"score": 0.5}
    assert events[6.0]["prediction"] == {"label": "late"}
    assert events[-1.0]["status"] == "error"
    assert all(event["latency_ms"] >= 0 for event in events.values())


def test_wrong_extractors_never_fail_the_prediction(unreachable: PredictionLogger) -> None:
    @unreachable.logged(prediction=lambda result: result["missing"])
    def predict(features: Mapping[str, float]) -> dict[str, float]:
        return {}

    @unreachable.logged(features=lambda: {"x": 1})
    def other(features: Mapping[str, float]) -> float:
        return 1.0

    assert predict({}) == {}
    assert other({}) == 1.0
    assert unreachable.counters().dropped == {"unencodable": 2}


def run_script(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return done.stdout


def test_events_are_flushed_at_exit(broker: str, topic: str) -> None:
    script = """
import sys
from driftline import PredictionLogger
logger = PredictionLogger("m", "1", bootstrap_servers=sys.argv[1], topic=sys.argv[2])
for _ in range(500):
    print(logger.log({"x": 1}))
"""
    ids = run_script(script, broker, topic).split()
    assert {message.key().decode() for message in read_topic(broker, topic)} == set(ids)
    assert len(ids) == 500


def test_exit_is_bounded_while_the_broker_is_down_and_says_what_was_lost() -> None:
    script = """
from driftline import PredictionLogger
logger = PredictionLogger(
    "m", "1", bootstrap_servers="127.0.0.1:1", exit_flush_seconds=0.5, kafka={"log_level": 0}
)
for _ in range(7):
    logger.log({"x": 1})
"""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert time.monotonic() - started < 15
    assert "topic predictions: 7 events were lost (_PURGE_QUEUE: 7)" in done.stderr


def test_forked_workers_log_beside_their_parent(broker: str, topic: str) -> None:
    script = """
import os, sys
from driftline import PredictionLogger
logger = PredictionLogger("m", "1", bootstrap_servers=sys.argv[1], topic=sys.argv[2])
print(logger.log({"who": "parent before"}), flush=True)
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        ids = [logger.log({"who": "child"}) for _ in range(50)]
        assert logger.counters().queued == 50
        os.write(1, "".join(f"{one}\\n" for one in ids).encode())
        sys.exit(0)
    children.append(child)
os.write(1, (logger.log({"who": "parent after"}) + "\\n").encode())
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""
    ids = run_script(script, broker, topic).split()
    assert len(set(ids)) == 102
    arrived = [message.key().decode() for message in read_topic(broker, topic)]
    assert sorted(arrived) == sorted(ids)


def test_logging_needs_kafka_client_only() -> None:
    script = """
import sys
from driftline import LabelLogger, PredictionLogger
PredictionLogger("m", "1", bootstrap_servers="127.0.0.1:1")
heavy = {"numpy", "pandas", "pyarrow", "clickhouse_connect", "typer", "rich", "dbt"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run_script(script).strip() == "[]"
