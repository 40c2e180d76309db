"""What was spilled is sent later: all of it, in order, whatever the broker and the disk do."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ingest.replay import Replay, ReplayingClient
from tests.ingest.spilled import Clock, files, key, record, spill


class Broker:
    """A client whose broker can be away, or refuse batches for the sake of one message.

    For faults that no real broker shows at will.
    """

    def __init__(self) -> None:
        self.delivered: list[bytes] = []
        self.poison: set[bytes] = set()
        self.is_away = False
        self.attempts = 0
        self._batch: deque[tuple[bytes, Callable[[KafkaError | None, Any], None]]] = deque()

    def produce(self, _topic: str, _value: bytes, key: bytes, **options: Any) -> None:
        if len(self._batch) >= 50:
            raise BufferError
        self.attempts += 1
        self._batch.append((key, options["on_delivery"]))

    def poll(self) -> None:
        batch, self._batch = self._batch, deque()
        error = None
        if self.is_away:
            error = KafkaError(KafkaError._MSG_TIMED_OUT)
        elif self.poison & {key for key, _ in batch}:
            error = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
        for key_, answered in batch:
            if error is None:
                self.delivered.append(key_)
            answered(error, None)


class Replayed:
    """A replay with its spill, broker, clock and counts."""

    def __init__(self, folder: Path, count: int) -> None:
        self.clock = Clock()
        self.store = spill(folder, clock=self.clock)
        for number in range(count):
            assert not self.store.append([record(number)])
        self.broker = Broker()
        self.replayed = 0
        self.lost: Counter[str] = Counter()
        self.replay = Replay(
            self.store, "predictions", on_replayed=self._on_replayed, on_lost=self._on_lost
        )

    def _on_replayed(self) -> None:
        self.replayed += 1

    def _on_lost(self, reason: str) -> None:
        self.lost[reason] += 1

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.replay.step(self.broker)
            self.broker.poll()
            self.clock.now += 1.0


def test_replay_sends_all_in_order_and_deletes_the_segment(tmp_path: Path) -> None:
    run = Replayed(tmp_path, 500)
    run.steps(30)
    assert run.broker.delivered == [key(number) for number in range(500)]
    assert (run.replayed, run.lost) == (500, {})
    assert run.store.oldest() is None
    assert not files(tmp_path, "sealed")
    run.store.close()


def test_one_record_asks_whether_the_broker_is_back(tmp_path: Path) -> None:
    run = Replayed(tmp_path, 500)
    run.broker.is_away = True
    run.steps(100)
    # Alone, and ever more rarely: at 0, 2, 5, 10, 19, 36 s, then every 30 s.
    assert 5 <= run.broker.attempts <= 9
    assert run.replayed == 0
    assert len(files(tmp_path, "sealed")) == 1
    run.broker.is_away = False
    run.steps(60)
    assert run.broker.delivered == [key(number) for number in range(500)]


def test_broker_that_leaves_midway_gets_the_rest_only(tmp_path: Path) -> None:
    run = Replayed(tmp_path, 300)
    run.steps(3)
    run.broker.is_away = True
    run.steps(5)
    seen = len(run.broker.delivered)
    assert 0 < seen < 300
    run.broker.is_away = False
    run.steps(60)
    assert run.broker.delivered == [key(number) for number in range(300)]
    assert run.replayed == 300


def test_what_a_client_that_is_gone_had_is_sent_by_the_next(tmp_path: Path) -> None:
    run = Replayed(tmp_path, 300)
    run.steps(1)
    run.replay.step(run.broker)
    seen = len(run.broker.delivered)
    run.broker = Broker()  # the other one never answers
    run.replay.restart()
    run.steps(30)
    assert run.broker.delivered == [key(number) for number in range(seen, 300)]
    assert run.replayed == 300
    assert run.store.oldest() is None
    run.store.close()


def test_message_that_the_broker_refuses_holds_nobody_up(tmp_path: Path) -> None:
    run = Replayed(tmp_path, 60)
    run.broker.poison = {key(30), key(31)}
    run.steps(200)
    assert run.broker.delivered == [key(number) for number in range(60) if number not in (30, 31)]
    assert run.lost == {"MSG_SIZE_TOO_LARGE": 2}
    assert run.store.oldest() is None
    run.store.close()


def test_damaged_records_and_segments_hold_nobody_up(tmp_path: Path) -> None:
    run = Replayed(tmp_path, 3)
    torn = run.store.oldest()
    assert torn is not None
    torn.write_bytes(torn.read_bytes()[:-1])
    run.steps(5)
    run.store.append([record(7)])
    foreign = run.store.oldest()
    assert foreign is not None
    foreign.write_bytes(b"driftl99")
    run.store.append([record(8)])
    run.steps(20)
    assert run.broker.delivered == [key(0), key(1), key(8)]
    assert run.lost == {"spill_damaged": 1, "spill_unreadable": 1}
    assert len(files(tmp_path, "unreadable")) == 1
    run.store.close()


def test_fatal_error_of_the_client_is_handed_on(tmp_path: Path) -> None:
    run = Replayed(tmp_path, 1)

    class Dead:
        def produce(self, *_: Any, **__: Any) -> None:
            raise KafkaException(KafkaError(KafkaError._FATAL, "dead", True))

    with pytest.raises(KafkaException):
        run.replay.step(Dead())
    run.steps(3)  # with a new client
    assert run.broker.delivered == [key(0)]
    run.store.close()


class Clients:
    """Makes the clients of a replay, or refuses to."""

    def __init__(self) -> None:
        self.made: list[Client] = []
        self.is_refused = False
        self.attempts = 0

    def __call__(self, properties: Mapping[str, Any]) -> Client:
        self.attempts += 1
        if self.is_refused:
            raise ValueError("no such property")
        # Without this no segment would ever be deleted.
        assert properties["delivery.report.only.error"] is False
        self.made.append(Client())
        return self.made[-1]


class Client(Broker):
    """A client that answers at a poll, and knows whether it was let go."""

    def __init__(self) -> None:
        super().__init__()
        self.is_purged = False

    def poll(self, _seconds: float = 0) -> None:
        super().poll()

    def purge(self) -> None:
        self.is_purged = True

    def flush(self, _seconds: float) -> None:
        assert self.is_purged


def replaying(run: Replayed, clients: Clients) -> ReplayingClient:
    return ReplayingClient(run.replay, "predictions", clients, clock=run.clock)


def turns(client: ReplayingClient, run: Replayed, count: int) -> None:
    for _ in range(count):
        client.turn()
        run.clock.now += 1.0


def test_client_is_there_while_something_is_spilled_and_some_time_after(tmp_path: Path) -> None:
    run, clients = Replayed(tmp_path, 0), Clients()
    client = replaying(run, clients)
    turns(client, run, 3)
    assert (clients.attempts, client.client) == (0, None)

    run.store.append([record(0)])
    turns(client, run, 5)
    assert clients.made[0].delivered == [key(0)]
    assert not client.is_busy
    run.store.append([record(1)])
    turns(client, run, 25)
    assert clients.made[0].delivered == [key(0), key(1)]
    assert client.client is clients.made[0]

    turns(client, run, 10)
    assert client.client is None
    assert clients.made[0].is_purged
    assert len(clients.made) == 1
    run.store.close()


def test_client_that_cannot_be_made_is_tried_again_from_time_to_time(tmp_path: Path) -> None:
    run, clients = Replayed(tmp_path, 1), Clients()
    clients.is_refused = True
    client = replaying(run, clients)
    turns(client, run, 25)
    assert clients.attempts == 3
    clients.is_refused = False
    client.retry_at_once()
    turns(client, run, 3)
    assert clients.made[0].delivered == [key(0)]
    run.store.close()


def test_client_with_a_fatal_error_is_replaced(tmp_path: Path) -> None:
    run, clients = Replayed(tmp_path, 200), Clients()
    client = replaying(run, clients)
    turns(client, run, 2)
    first = clients.made[0]

    def produce(*_: Any, **__: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL, "dead", True))

    first.produce = produce  # type: ignore[method-assign]
    turns(client, run, 30)
    assert first.is_purged
    assert first.delivered + clients.made[1].delivered == [key(number) for number in range(200)]
    run.store.close()
