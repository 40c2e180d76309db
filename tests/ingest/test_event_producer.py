"""What a producer counts as delivered, though only failures are called back."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from ingest.event_producer import Counters, EventProducer
from ingest.spill import Record, Spill, SpillSettings
from tests.ingest.test_prediction_logger import NOWHERE, QUIET, topic, wait_for

__all__ = ["topic"]

MIB = 1024 * 1024


OnDelivery = Callable[[KafkaError | None, Any], None]


class _Message:
    def __init__(self, key: str | bytes, value: bytes, on_delivery: OnDelivery) -> None:
        self._key = key.encode() if isinstance(key, str) else key
        self._value = value
        self.on_delivery = on_delivery

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value


class Held:
    """A client that answers when it is told to, as no broker does at will."""

    def __init__(self, configuration: dict[str, Any], **_: Any) -> None:
        self.on_delivery: OnDelivery = configuration.get("on_delivery", lambda *_: None)
        self.messages: deque[_Message] = deque()
        self.is_full = False
        self.keeps_what_is_purged = False
        self.on_flush: Callable[[], object] = lambda: None
        self.seen: list[Counters] = []
        self.look: Callable[[], Counters] | None = None

    def __len__(self) -> int:
        return len(self.messages)

    def produce(self, _topic: str, value: bytes, key: str | bytes, **options: Any) -> None:
        if self.is_full:
            raise BufferError
        on_delivery = options.get("on_delivery", self.on_delivery)
        self.messages.append(_Message(key, value, on_delivery))

    def acknowledge(self, count: int) -> None:
        for _ in range(count):
            self.messages.popleft()

    def give_up(self, count: int) -> None:
        for _ in range(count):
            message = self.messages[0]
            message.on_delivery(KafkaError(KafkaError._MSG_TIMED_OUT), message)
            if self.look is not None:
                self.seen.append(self.look())
            self.messages.popleft()

    def poll(self, _seconds: float = 0) -> int:
        return 0

    def flush(self, _seconds: float) -> int:
        self.on_flush()
        return len(self.messages)

    def purge(self) -> None:
        if not self.keeps_what_is_purged:
            self.give_up(len(self.messages))


def held(**options: Any) -> tuple[EventProducer, Held]:
    """Make a producer whose one client holds the first event."""
    clients: list[Held] = []

    def make(configuration: dict[str, Any], **others: Any) -> Held:
        clients.append(Held(configuration, **others))
        return clients[-1]

    events = EventProducer(
        "t",
        {"bootstrap.servers": NOWHERE},
        headers=[],
        identify=lambda key, _: key.decode(),
        max_queue_bytes=MIB,
        make_producer=make,
        **options,
    )
    assert events.send("0", b"{}", "0")
    wait_for(lambda: events._client is not None)
    return events, clients[0]


def test_delivered_is_what_the_client_neither_has_nor_gave_back() -> None:
    events, client = held()
    for number in range(1, 10):
        assert events.send(f"{number}", b"{}", f"{number}")
    counters = events.counters()
    assert (counters.queued, counters.delivered, counters.depth) == (10, 0, 10)
    client.acknowledge(4)
    counters = events.counters()
    assert (counters.delivered, counters.depth) == (4, 6)
    client.look = events.counters
    client.give_up(2)
    # An event that is being given back is no more delivered than before.
    assert [seen.delivered for seen in client.seen] == [4, 4]
    counters = events.counters()
    assert (counters.delivered, counters.failed, counters.depth) == (4, {"_MSG_TIMED_OUT": 2}, 4)
    client.acknowledge(1)
    # Whoever exports the counters may do so in a callback of the client.
    client.on_flush = events.counters
    events.close(0)
    assert {seen.delivered for seen in client.seen} <= {4, 5}
    counters = events.counters()
    assert (counters.delivered, counters.failed, counters.depth) == (5, {"_MSG_TIMED_OUT": 5}, 0)


def test_events_given_back_to_a_disk_are_never_delivered(tmp_path: Path) -> None:
    events, client = held(spill=SpillSettings(tmp_path))
    for number in range(1, 10):
        assert events.send(f"{number}", b"{}", f"{number}")
    client.acknowledge(3)
    assert events.counters().delivered == 3
    client.look = events.counters
    client.give_up(7)
    assert {seen.delivered for seen in client.seen} == {3}
    wait_for(lambda: events.counters().spilled == 7)
    assert (events.counters().delivered, events.counters().depth) == (3, 0)
    events.close(0)


def test_event_of_which_the_client_says_nothing_more_is_lost_and_not_delivered() -> None:
    events, client = held()
    client.keeps_what_is_purged = True
    events.close(0)
    assert events.counters().delivered == 0
    assert events.counters().dropped == {"unanswered": 1}


def test_client_that_fails_while_it_gives_back_delivers_nothing() -> None:
    events, client = held()

    client.keeps_what_is_purged = True

    def fail() -> None:
        raise RuntimeError("a callback of the user's")

    client.on_flush = fail
    with pytest.raises(RuntimeError):
        events.close(0)
    assert events.counters().delivered == 0
    assert events.counters().dropped == {"unanswered": 1}


def test_events_that_a_failing_spill_was_given_are_lost_and_not_delivered(
    tmp_path: Path,
) -> None:
    class Broken(Spill):
        def append(self, records: Iterable[Record]) -> Counter[str]:
            raise RuntimeError(f"nobody thought of {records}")

    events, client = held(spill=SpillSettings(tmp_path), make_spill=Broken)
    client.is_full = True
    assert events.send("1", b"{}", "1")
    wait_for(lambda: events.counters().dropped == {"error": 1})
    assert (events.counters().delivered, events.counters().depth) == (0, 1)
    client.acknowledge(1)
    events.close(0)
    assert events.counters().delivered == 1


def test_fork_that_did_not_wait_long_enough_leaves_the_parent_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingest.event_producer._FORK_SECONDS", 0.01)
    events, client = held()
    flushes, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        flushes.set()
        assert goes_on.wait(30)

    client.on_flush = hang
    events.ask_to_pause()
    assert flushes.wait(30)
    events.pause()
    events.resume()
    goes_on.set()
    wait_for(lambda: events._client is not None)
    assert events._client is not client
    # The new client has what the old one gave back.
    assert [message.key() for message in events._client.messages] == [b"0"]
    events.close(0)


def test_parent_that_has_spilled_goes_on_after_a_fork_without_being_sent_anything(
    tmp_path: Path,
) -> None:
    events, client = held(spill=SpillSettings(tmp_path))
    client.is_full = True
    assert events.send("1", b"{}", "1")
    wait_for(lambda: events.counters().spilled == 1)
    client.acknowledge(1)
    events.ask_to_pause()
    events.pause()
    assert events._thread is not None
    assert not events._thread.is_alive()
    events.resume()
    assert events._thread is not None
    assert events._thread.is_alive()
    events.close(0)
    assert events._spill is not None
    # What nobody acknowledged is for the next process.
    assert not events._spill.is_empty


def test_nobody_is_called_back_for_what_is_delivered(broker: str, topic: str) -> None:
    calls: list[object] = []

    def make(configuration: dict[str, Any], **options: Any) -> Producer:
        return Producer({**configuration, "on_delivery": lambda *_: calls.append(1)}, **options)

    events = EventProducer(
        topic,
        {"bootstrap.servers": broker, **QUIET},
        headers=[],
        identify=lambda key, _: key.decode(),
        max_queue_bytes=MIB,
        make_producer=make,
    )
    for number in range(100):
        assert events.send(f"{number}", b"{}", f"{number}")
    wait_for(lambda: events.counters().delivered == 100)
    events.close(5)
    assert calls == []


@pytest.mark.parametrize("asks", [False, True])
def test_who_asks_for_all_answers_gets_the_same_counts(broker: str, topic: str, asks: bool) -> None:
    events = EventProducer(
        topic,
        {"bootstrap.servers": broker, **QUIET, "delivery.report.only.error": not asks},
        headers=[],
        identify=lambda key, _: key.decode(),
        max_queue_bytes=MIB,
    )
    assert events.send("1", b"{}", "1")
    wait_for(lambda: events.counters().delivered == 1)
    events.close(5)
    counters = events.counters()
    assert (counters.queued, counters.delivered, counters.failed) == (1, 1, {})
