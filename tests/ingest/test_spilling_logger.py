"""Loggers that spill: what Kafka does not take is on disk, and arrives when it does again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from driftline import LabelLogger, PredictionLogger
from ingest.event_producer import Counters, EventProducer
from ingest.spill import Record, Spill, SpillSettings, read_segment
from tests.ingest.test_prediction_logger import (
    NOWHERE,
    QUIET,
    read_topic,
    run_script,
    topic,
    wait_for,
)

__all__ = ["topic"]

MIB = 1024 * 1024
IMPATIENT = {**QUIET, "message.timeout.ms": 3000}


class Wrapped:
    """A Kafka client of which a test takes over a part."""

    def __init__(self, configuration: dict[str, Any], **options: Any) -> None:
        self.client = Producer(configuration, **options)

    def __len__(self) -> int:
        return len(self.client)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def ended(counters: Counters) -> int:
    """Count the events that the counters say something of."""
    lost = sum(counters.failed.values()) + sum(counters.dropped.values())
    return counters.delivered + lost + counters.spilled + counters.depth


def on_disk(folder: Path) -> list[str]:
    """Give the ids in all segments, in order."""
    found = []
    for path in sorted(folder.glob("topic=*/*.open")) + sorted(folder.glob("topic=*/*.sealed")):
        for record in read_segment(path):
            assert record is not None
            found.append(record.key.decode())
    return found


def arrived(broker: str, topic: str) -> list[str]:
    return [message.key().decode() for message in read_topic(broker, topic)]


def test_full_queue_and_close_leave_everything_on_disk_and_the_next_process_sends_it(
    broker: str, topic: str, tmp_path: Path
) -> None:
    spill = SpillSettings(tmp_path, 64 * MIB)
    logger = PredictionLogger(
        "m",
        "1",
        bootstrap_servers=NOWHERE,
        topic=topic,
        kafka=QUIET,
        spill=spill,
        max_queue_bytes=MIB,
    )
    ids = []
    for number in range(2000):  # 2 MB
        ids.append(logger.log({"x": "y" * 700, "n": number}, score=0.5))
        if number % 90 == 0:  # 131 kB may wait for the disk
            wait_for(lambda: not logger._events._waiting_bytes)
    counters = logger.counters()
    assert ended(counters) == counters.queued == 2000
    assert counters.spilled > 0
    logger.close(0.1)
    counters = logger.counters()
    assert (counters.spilled, counters.depth, ended(counters)) == (2000, 0, 2000)
    assert sorted(on_disk(tmp_path)) == sorted(ids)

    following = PredictionLogger(
        "m", "2", bootstrap_servers=broker, topic=topic, kafka=QUIET, spill=spill
    )
    ids.append(following.log({}))
    wait_for(lambda: following.counters().replayed == 2000)
    wait_for(lambda: not list(tmp_path.glob("topic=*/*.sealed")))
    following.close()
    counters = following.counters()
    assert (counters.delivered, counters.queued, ended(counters)) == (1, 1, 1)
    messages = read_topic(broker, topic)
    assert sorted(message.key().decode() for message in messages) == sorted(ids)
    # A spilled event arrives as it would have: with the headers of the logger that took it.
    sources = Counter(dict(message.headers())["ce_source"] for message in messages)
    assert sources == {b"driftline/m/1": 2000, b"driftline/m/2": 1}
    assert all(dict(message.headers())["ce_id"] == message.key() for message in messages)


def test_spilled_label_arrives_with_its_headers(broker: str, topic: str, tmp_path: Path) -> None:
    spill = SpillSettings(tmp_path)
    with LabelLogger("m", bootstrap_servers=broker, topic=topic) as labels:
        labels.log("one", "late")
    labels = LabelLogger("m", bootstrap_servers=NOWHERE, topic=topic, kafka=QUIET, spill=spill)
    labels.log("two", "late")
    labels.close(0)
    with LabelLogger("m", bootstrap_servers=broker, topic=topic, spill=spill) as following:
        following.log("three", "late")
        wait_for(lambda: following.counters().replayed == 1)
    messages = read_topic(broker, topic)
    assert {message.key() for message in messages} == {b"one", b"two", b"three"}
    for message in messages:
        headers = dict(message.headers())
        observed_at = json.loads(message.value())["observed_at"]
        assert headers["ce_id"] == message.key() + b"/" + observed_at.encode()
        assert headers["ce_type"] == b"driftline.label.v1"


@pytest.fixture
def stoppable_broker() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a mock broker in a process of its own, which can be stopped and continued."""
    script = """
import sys
from confluent_kafka import Producer
owner = Producer({"bootstrap.servers": "127.0.0.1:0", "test.mock.num.brokers": 1, "log_level": 0})
address = next(iter(owner.list_topics(timeout=10).brokers.values()))
print(f"{address.host}:{address.port}", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.send_signal(signal.SIGCONT)
        process.stdin.close()
        process.wait(30)


def test_outage_is_bridged_by_the_disk_and_replayed_when_the_broker_is_back(
    stoppable_broker: tuple[str, subprocess.Popen[str]], topic: str, tmp_path: Path
) -> None:
    address, process = stoppable_broker
    logger = PredictionLogger(
        "m",
        "1",
        bootstrap_servers=address,
        topic=topic,
        kafka=IMPATIENT,
        spill=SpillSettings(tmp_path),
    )
    ids = [logger.log({"n": number}) for number in range(100)]
    wait_for(lambda: logger.counters().delivered == 100)
    process.send_signal(signal.SIGSTOP)
    ids += [logger.log({"n": number}) for number in range(200)]
    wait_for(lambda: logger.counters().spilled == 200)
    assert sorted(on_disk(tmp_path)) == sorted(ids[100:])
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: logger.counters().replayed == 200)
    wait_for(lambda: not on_disk(tmp_path))
    ids.append(logger.log({}))
    logger.close()
    counters = logger.counters()
    assert (counters.delivered, counters.spilled, counters.depth) == (101, 200, 0)
    assert not counters.failed
    assert not counters.dropped
    # What was on its way when the broker stopped may arrive twice, under the same id.
    assert set(arrived(address, topic)) == set(ids)


def test_full_disk_budget_drops_and_counts(tmp_path: Path) -> None:
    logger = PredictionLogger(
        "m",
        "1",
        bootstrap_servers=NOWHERE,
        kafka=QUIET,
        spill=SpillSettings(tmp_path, 4 * MIB),
        max_queue_bytes=8 * MIB,
    )
    for number in range(140):
        logger.log({"x": "y" * 100_000})
        if number % 8 == 0:  # 1 MiB may wait for the disk
            wait_for(lambda: not logger._events._waiting_bytes)
    logger.close(0)
    counters = logger.counters()
    assert counters.spilled == len(on_disk(tmp_path))
    assert 25 <= counters.spilled <= 41
    assert counters.dropped == {"spill_full": 140 - counters.spilled}
    assert ended(counters) == 140
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 4 * MIB


def test_unusable_folder_loses_what_finds_no_room_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    logger = PredictionLogger(
        "m", "1", bootstrap_servers=NOWHERE, kafka=QUIET, spill=SpillSettings(tmp_path / "file")
    )
    logger.log({})
    logger.close(0)
    assert logger.counters().dropped == {"spill_error": 1}


def test_log_does_not_wait_for_a_disk_that_hangs(tmp_path: Path) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    class HangingSpill(Spill):
        def append(self, records: Iterable[Record]) -> Counter[str]:
            hangs.set()
            assert goes_on.wait(30)
            return super().append(records)

    events = EventProducer(
        "t",
        {"bootstrap.servers": NOWHERE, "queue.buffering.max.kbytes": 1, **QUIET},
        headers=[],
        identify=lambda key, _: key.decode(),
        max_queue_bytes=80_000,
        spill=SpillSettings(tmp_path),
        make_spill=HangingSpill,
    )
    for number in range(3):
        events.send(f"{number}", b"x" * 1000, "id")
    assert hangs.wait(30)
    taken = sum(events.send(f"more {number}", b"x" * 1000, "id") for number in range(20))
    # Returned, and bounded: 10,000 bytes may wait for the disk.
    assert 4 <= taken <= 7
    assert events.counters().dropped == {"queue_full": 20 - taken}
    goes_on.set()
    events.close(0)
    counters = events.counters()
    assert counters.spilled == 3 + taken
    assert ended(counters) == 23


def test_full_client_is_not_asked_again_for_each_event(tmp_path: Path) -> None:
    refusals: list[int] = []

    class Full(Wrapped):
        """A client that says when it has no room."""

        def produce(self, *arguments: Any, **options: Any) -> None:
            try:
                self.client.produce(*arguments, **options)
            except BufferError:
                refusals.append(1)
                raise

    events = EventProducer(
        "t",
        {"bootstrap.servers": NOWHERE, "queue.buffering.max.kbytes": 1, **QUIET},
        headers=[],
        identify=lambda key, _: key.decode(),
        max_queue_bytes=64 * MIB,
        spill=SpillSettings(tmp_path),
        make_producer=Full,
    )
    assert events.send("first", b"x" * 1000, "first")
    wait_for(lambda: events._client is not None)
    for number in range(2000):
        assert events.send(f"{number}", b"x" * 1000, "id")
    wait_for(lambda: events.counters().spilled >= 1900)
    # Of each turn of the thread: the event that finds the client full, and the first of those left.
    assert 1 <= len(refusals) <= 200
    events.close(0)
    assert events.counters().spilled == 2001


def test_event_too_large_for_the_client_is_not_spilled(broker: str, tmp_path: Path) -> None:
    logger = PredictionLogger(
        "m",
        "1",
        bootstrap_servers=broker,
        topic="t",
        kafka={"message.max.bytes": 2000},
        spill=SpillSettings(tmp_path),
    )
    for _ in range(2):
        logger.log({"x": "y" * 3000})
        wait_for(lambda: logger.counters().depth == 0)
    logger.close()
    assert logger.counters().dropped == {"MSG_SIZE_TOO_LARGE": 2}
    assert on_disk(tmp_path) == []


def crash(point: str, passes: int, folder: Path, broker: str, topic: str, count: int) -> None:
    """Run a logger until it has killed itself at the point."""
    arguments = [point, str(passes), str(folder), broker, topic, str(count)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.ingest.crashing_logger", *arguments],
        cwd=Path(__file__).parents[2],
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def recover(folder: Path, broker: str, topic: str) -> None:
    """Let another process send what the dead one left."""
    logger = PredictionLogger(
        "m", "1", bootstrap_servers=broker, topic=topic, spill=SpillSettings(folder, 16 * MIB)
    )
    logger.log({}, prediction_id="new")
    wait_for(lambda: logger.counters().delivered == 1)
    wait_for(
        lambda: not list(folder.glob("topic=*/*.open")) + list(folder.glob("topic=*/*.sealed"))
    )
    logger.close()
    assert not list(folder.glob("topic=*/*.lock"))


@pytest.mark.parametrize(
    ("point", "passes", "least", "most"),
    # A segment takes ten of these events, a write up to five; a segment is sealed when the next
    # write has no room, or when replay begins.
    [
        ("after_open", 0, 0, 0),
        ("after_write", 2, 3, 15),
        ("after_open", 1, 1, 10),
        ("after_seal", 0, 1, 10),
    ],
)
def test_what_was_written_survives_kill_9(
    broker: str, topic: str, tmp_path: Path, point: str, passes: int, least: int, most: int
) -> None:
    crash(point, passes, tmp_path, NOWHERE, topic, 20)
    kept = on_disk(tmp_path)
    assert least <= len(kept) == len(set(kept)) <= most
    recover(tmp_path, broker, topic)
    assert sorted(arrived(broker, topic)) == sorted([*kept, "new"])


def three_segments(folder: Path, topic: str) -> list[str]:
    """Leave three segments of ten events behind."""
    spill = Spill(SpillSettings(folder, 16 * MIB), topic)
    for number in range(30):
        identifier = f"old-{number}".encode()
        assert not spill.append([Record(identifier, b"x" * 100_000, [])])
    spill.close()
    return on_disk(folder)


@pytest.mark.faults
def test_adoption_survives_kill_9(broker: str, topic: str, tmp_path: Path) -> None:
    kept = three_segments(tmp_path, topic)
    crash("mid_adoption", 1, tmp_path, NOWHERE, topic, 1)
    assert on_disk(tmp_path) == kept
    recover(tmp_path, broker, topic)
    assert sorted(arrived(broker, topic)) == sorted([*kept, "new"])


@pytest.mark.parametrize(
    ("point", "sent_again"), [("after_acknowledgement", 10), ("after_delete", 0)]
)
def test_replay_survives_kill_9(
    broker: str, topic: str, tmp_path: Path, point: str, sent_again: int
) -> None:
    kept = three_segments(tmp_path, topic)
    crash(point, 1, tmp_path, broker, topic, 1)
    assert on_disk(tmp_path) == kept[20 - sent_again :]
    recover(tmp_path, broker, topic)
    counts = Counter(arrived(broker, topic))
    # id-0 was in the memory of the process that was killed.
    assert set(counts) - {"id-0"} == {*kept, "new"}
    assert {name for name, count in counts.items() if count > 1} == set(kept[10 : 10 + sent_again])


@pytest.mark.faults
def test_workers_share_a_folder_and_every_event_arrives(
    broker: str, topic: str, tmp_path: Path
) -> None:
    script = """
import os, sys
from driftline import PredictionLogger
from ingest.spill import SpillSettings
logger = PredictionLogger(
    "m", "1", bootstrap_servers="127.0.0.1:1", topic=sys.argv[1], exit_flush_seconds=0.2,
    spill=SpillSettings(sys.argv[2]), kafka={"message.timeout.ms": 200, "log_level": 0},
)
print(logger.log({"who": "parent"}), flush=True)
logger.flush(0.4)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        ids = [logger.log({"who": "child"}) for _ in range(50)]
        os.write(1, "".join(f"{one}\\n" for one in ids).encode())
        sys.exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""
    ids = run_script(script, topic, str(tmp_path)).split()
    assert len(ids) == 151
    assert sorted(on_disk(tmp_path)) == sorted(ids)
    recover(tmp_path, broker, topic)
    assert sorted(arrived(broker, topic)) == sorted([*ids, "new"])


def test_client_with_a_fatal_error_is_replaced_and_loses_nothing(
    broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.event_producer._RECREATE_SECONDS", 0.01)
    threads: set[int] = set()
    clients: list[Any] = []

    class Dying(Wrapped):
        """A client whose first two messages get nowhere and whose third meets a fatal error.

        No mock broker provokes one.
        """

        def __init__(self, configuration: dict[str, Any], **options: Any) -> None:
            threads.add(threading.get_ident())
            self.is_mortal = not clients
            if self.is_mortal:
                configuration = {**configuration, "bootstrap.servers": NOWHERE}
            super().__init__(configuration, **options)
            clients.append(self)
            self.count = 0

        def produce(self, *arguments: Any, **options: Any) -> None:
            self.count += 1
            if self.is_mortal and self.count > 2:
                raise KafkaException(KafkaError(KafkaError._FATAL, "fenced", True))
            self.client.produce(*arguments, **options)

    events = EventProducer(
        topic,
        {"bootstrap.servers": broker, "log_level": 0},
        headers=[],
        identify=lambda key, _: key.decode(),
        max_queue_bytes=MIB,
        make_producer=Dying,
    )
    assert events.send("0", b"{}", "0")
    wait_for(lambda: events._client is not None)
    for number in range(1, 5):
        assert events.send(str(number), b"{}", str(number))
    wait_for(lambda: events.counters().delivered == 5)
    events.close(5)
    assert sorted(arrived(broker, topic)) == ["0", "1", "2", "3", "4"]
    assert len(clients) == 2
    # Making a client may read certificates: not in the thread of a prediction.
    assert threading.get_ident() not in threads


def test_no_thread_or_client_lives_across_a_fork(broker: str, topic: str) -> None:
    script = """
import os, sys
# Runs in the child before the logger's own hook, which was registered later.
seen = []
os.register_at_fork(
    after_in_child=lambda: seen.extend(one._events._kafka for one in (logger, lost))
)
from driftline import PredictionLogger
logger = PredictionLogger("m", "1", bootstrap_servers=sys.argv[1], topic=sys.argv[2])
lost = PredictionLogger("m", "1", bootstrap_servers="127.0.0.1:1", kafka={"log_level": 0})
ids = [logger.log({"who": "parent"}) for _ in range(20)]
lost.log({})
for number in range(3):
    ids.append(logger.log({"who": "parent"}))
    child = os.fork()
    if child == 0:
        print(logger.log({"who": "child"}), flush=True)
        assert logger.counters().queued == 1
        logger.close()
        lost.close(0)
        os._exit(0 if lost.counters().queued == 0 and seen == [None, None] else 1)
    assert os.waitpid(child, 0)[1] == 0
print("\\n".join(ids))
assert lost.counters().depth == 1
lost.close(0)
counters = lost.counters()
assert sum(counters.failed.values()) + sum(counters.dropped.values()) == 1, counters
assert (counters.queued, counters.depth) == (1, 0), counters
logger.close()
assert logger.counters().delivered == 23, logger.counters()
"""
    ids = run_script(script, broker, topic).split()
    assert len(ids) == 26
    assert sorted(arrived(broker, topic)) == sorted(ids)


def test_child_that_lives_on_does_not_keep_its_dead_parents_segments(tmp_path: Path) -> None:
    script = """
import os, signal, sys, time
from driftline import PredictionLogger
from ingest.spill import SpillSettings
logger = PredictionLogger(
    "m", "1", bootstrap_servers="127.0.0.1:1", topic="t", spill=SpillSettings(sys.argv[1]),
    kafka={"message.timeout.ms": 200, "log_level": 0},
)
logger.log({}, prediction_id="of the parent")
while not logger.counters().spilled:
    time.sleep(0.01)
if os.fork() == 0:
    os.write(1, b"forked\\n")
    os.read(0, 1)
    os._exit(0)
os.read(0, 1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == b"forked\n"
        other = Spill(SpillSettings(tmp_path), "t")
        other.tend()
        assert other.oldest() is None, "the parent lives"
        process.kill()
        process.wait(30)
        other = Spill(SpillSettings(tmp_path), "t")
        other.tend()
        left = other.oldest()
        assert left is not None, "the child lives, but the segment is not its own"
        assert [found and found.key for found in read_segment(left)] == [b"of the parent"]
        other.close()
