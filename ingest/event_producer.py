"""Sending events from inside a model server without ever standing in its way.

`send` never blocks, never raises and does no I/O: it hands the event to librdkafka, whose threads
talk to the broker, or leaves it in memory for the one daemon thread of this module. That thread
creates the client, collects what became of the messages, and alone touches the disk (ingest.spill).
What waits is bounded by bytes; what does not fit is spilled or dropped, the newest first, and
counted by reason.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from driftline.settings import KafkaSettings
from ingest.broker_errors import BrokerErrors
from ingest.events import Headers
from ingest.replay import Replay, ReplayingClient
from ingest.spill import Record, Spill, SpillSettings, is_refusal

_log = logging.getLogger("driftline.events")

# A broken configuration is tried again at most this often: creating a client is expensive.
_RECREATE_SECONDS = 10.0
_REPORT_SECONDS = 30.0
_POLL_SECONDS = 0.1
_BUSY_POLL_SECONDS = 0.01
# How full the room for events that wait here may be when the thread comes again. It comes no sooner
# than it must: each time it takes the interpreter from a thread that predicts.
_FILLED_SHARE = 0.25
_LEAST_POLL_SECONDS = 0.001
# How much is taken to the client or the disk at once: its room is free when all of it is there.
_TOGETHER = 1000
_TOGETHER_BYTES = 512 * 1024
# What an event that waits in Python costs beside its bytes.
_EVENT_OVERHEAD = 300
# How long a fork waits for what is under way to be acknowledged, and for the thread to end.
_FORK_FLUSH_SECONDS = 0.5
_FORK_SECONDS = 5.0
# How long what a client was still busy with may take to come back from it.
_PURGE_SECONDS = 1.0
# Twice the interpreter's switch interval: who has just read a name has used it by then.
_HAND_OVER_SECONDS = 0.01
# Forks come in series: the parent makes its next client when no more of them have come for a while.
_RESUME_SECONDS = 1.0

_DEFAULTS: Mapping[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    # The first event of a batch wakes a thread of the client, at its caller's cost: 50 µs and more.
    # Four times a second is too rare to reach the 99th percentile of a server under load.
    "linger.ms": 250,
    # Bounded by bytes alone.
    "queue.buffering.max.messages": 0,
    # To be told of each delivered event, as a message of its own, takes the interpreter from the
    # caller. It is known without: what the client has no more, and has not given back.
    "delivery.report.only.error": True,
    "client.id": "driftline-logger",
}
# What waits in memory dies with its process, what was spilled does not: give up sooner.
_SPILL_DEFAULTS: Mapping[str, Any] = {"message.timeout.ms": 30_000}


@dataclass(frozen=True)
class Counters:
    """What became of the events of one logger since it was created (in this process).

    Each event handed to the logger is in exactly one of `delivered` (acknowledged by the broker),
    `failed` (given up by the Kafka client, by error code), `dropped` (by reason: queue_full,
    unencodable, closed, no_producer, no_thread, spill_full, spill_oversize, spill_error,
    unanswered, error, or the client's code), `spilled` (written to disk) and `depth` (waiting in
    memory). While events come, `delivered` lags a little behind, and `depth` is that much too
    large. `queued` were not dropped at once. `repaired` had a value that is not plain JSON (see
    ingest.events); `truncated` were too large.

    `replayed` were spilled, by this process or one before it, and then acknowledged. `replay_lost`
    were spilled and could not be sent, by reason: spill_damaged, spill_unreadable (a whole
    segment), or the broker's code.
    """

    queued: int
    delivered: int
    failed: Mapping[str, int]
    dropped: Mapping[str, int]
    spilled: int
    repaired: int
    truncated: int
    depth: int
    replayed: int
    replay_lost: Mapping[str, int]


class Event(NamedTuple):
    """One message: its key, its value, and its id among the CloudEvents."""

    key: str
    value: bytes
    event_id: str

    @property
    def cost(self) -> int:
        """How many bytes of memory it takes, about."""
        return len(self.key) + len(self.value) + _EVENT_OVERHEAD


def producer_configuration(
    bootstrap_servers: str | None, *, overrides: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Give librdkafka's properties: KAFKA_* of the environment, then `overrides`.

    Raises SettingsError where neither `bootstrap_servers` nor KAFKA_BOOTSTRAP_SERVERS is given.
    """
    environment = dict(os.environ)
    if bootstrap_servers is not None:
        environment["KAFKA_BOOTSTRAP_SERVERS"] = bootstrap_servers
    return {
        **KafkaSettings.from_environment(environment).client_configuration(),
        **(overrides or {}),
    }


class EventProducer:
    """A Kafka producer, created on the first event, that survives a fork and counts its losses.

    `headers` are those that all its events share; `identify` gives an event's id from its key and
    value, as the Kafka client does not give headers back. With `spill`, what the client has no room
    for or gives up goes to disk and is sent later.
    """

    def __init__(
        self,
        topic: str,
        configuration: Mapping[str, Any],
        *,
        headers: Headers,
        identify: Callable[[bytes, bytes], str],
        max_queue_bytes: int,
        spill: SpillSettings | None = None,
        exit_flush_seconds: float = 5.0,
        make_producer: Callable[..., Any] = Producer,
        make_spill: Callable[[SpillSettings, str], Spill] = Spill,
    ) -> None:
        self._topic = topic
        self._headers = headers
        self._identify = identify
        self._exit_flush_seconds = exit_flush_seconds
        self._make_producer = make_producer
        self._make_spill = make_spill
        self._spill_settings = spill
        # Beside a full client, events on their way to the disk need room; without a spill, nothing
        # waits here but before there is a client.
        self._max_waiting_bytes = max_queue_bytes if spill is None else max_queue_bytes // 8
        client_bytes = max_queue_bytes - (0 if spill is None else self._max_waiting_bytes)
        self._configuration = {
            **_DEFAULTS,
            **({} if spill is None else _SPILL_DEFAULTS),
            "queue.buffering.max.kbytes": max(1, -(-client_bytes // 1024)),
            **configuration,
        }
        self._broker_errors = BrokerErrors(str(configuration.get("bootstrap.servers")))
        self._start_empty()
        _living.add(self)

    def _start_empty(self) -> None:
        # Touched by `send`, and therefore only under the lock, which is never held for long.
        self._lock = threading.Lock()
        self._waiting: deque[Event] = deque()
        self._waiting_bytes = 0
        # Taken from there by the thread, and on their way to the client or to the disk.
        self._in_hand = 0
        self._queued = 0
        self._repaired = 0
        self._truncated = 0
        self._dropped: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        # The client for `send`: only while it takes events and none of them waits here.
        self._client: Any = None
        self._delivered = 0
        # Odd while a client gives back its events: they are on their way against the order in which
        # they are counted.
        self._emptying = 0
        # Written by the thread alone (by `close` when that has ended).
        self._kafka: Any = None
        self._next_creation = 0.0
        self._is_creation_refused = False
        self._taken_at = time.monotonic()
        self._undelivered: deque[tuple[Record, KafkaError]] = deque()
        self._failed: Counter[str] = Counter()
        self._lost_later: Counter[str] = Counter()
        self._spilled = 0
        self._replayed = 0
        self._replay_lost: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._next_report = time.monotonic()
        self._next_refusal_report = time.monotonic()
        self._spill: Spill | None = None
        self._replaying: ReplayingClient | None = None
        self._stopped = threading.Event()
        self._is_flushing = False
        self._is_pausing = False
        self._has_paused = False
        self._resume_at = 0.0
        self._is_taking_back = False
        self._turned = threading.Condition()

    def send(self, key: str, value: bytes, event_id: str) -> bool:
        """Queue one message; False where it was dropped (and counted). Never raises or blocks."""
        client = self._client
        if client is None:
            return self._leave(Event(key, value, event_id))
        try:
            client.produce(self._topic, value, key, headers=[*self._headers, ("ce_id", event_id)])
        except BufferError:
            if self._spill_settings is not None:
                return self._leave(Event(key, value, event_id))
            self.count_drop("queue_full")
            return False
        except KafkaException as error:
            code = error.args[0]
            if code.fatal() or (self._spill_settings is not None and not is_refusal(code)):
                return self._leave(Event(key, value, event_id))
            self.count_drop(code.name())
            return False
        except Exception as error:  # noqa: BLE001 - nothing may reach the model server
            self.count_drop(type(error).__name__)
            return False
        with self._lock:
            self._queued += 1
        return True

    def count_drop(self, reason: str) -> None:
        """Count an event that is not sent."""
        with self._lock:
            self._dropped[reason] += 1

    def count_oddities(self, *, was_repaired: bool, was_truncated: bool = False) -> None:
        """Count an event that is sent, but not quite as it was given."""
        with self._lock:
            self._repaired += was_repaired
            self._truncated += was_truncated

    def counters(self) -> Counters:
        """Give the counts of this process so far."""
        emptying = self._emptying
        # In the order in which events move on, so that none is missed: one that is seen twice is
        # counted as delivered a moment later.
        with self._lock:
            queued = self._queued
            dropped = self._dropped.copy()
            repaired, truncated = self._repaired, self._truncated
            here = len(self._waiting) + self._in_hand
            # Whoever lets a client go last destroys it, so it is not held beyond the lock.
            here += 0 if self._kafka is None else len(self._kafka)
        here += len(self._undelivered)
        failed = self._failed.copy()
        lost_later = self._lost_later.copy()
        spilled = self._spilled
        ended = failed.total() + lost_later.total() + spilled
        with self._lock:
            if emptying % 2 == 0 and emptying == self._emptying:
                self._delivered = max(self._delivered, queued - here - ended)
            delivered = self._delivered
        return Counters(
            queued=queued,
            delivered=delivered,
            failed=dict(failed),
            dropped=dict(dropped + lost_later),
            spilled=spilled,
            repaired=repaired,
            truncated=truncated,
            depth=max(queued - ended - delivered, 0),
            replayed=self._replayed,
            replay_lost=dict(self._replay_lost),
        )

    def flush(self, timeout: float) -> int:
        """Wait up to `timeout` seconds until no event waits in memory; give how many still do."""
        deadline = time.monotonic() + timeout
        self._is_flushing = True
        try:
            while depth := self.counters().depth:
                seconds = deadline - time.monotonic()
                thread = self._thread
                if seconds <= 0 or thread is None or not thread.is_alive():
                    return depth
                with self._turned:
                    self._turned.wait(min(seconds, _POLL_SECONDS))
        finally:
            self._is_flushing = False
        return 0

    def close(self, timeout: float) -> None:
        """Flush for up to `timeout` seconds, then stop; what still waits is spilled or given up."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._client = None
            thread = self._thread
        self.flush(timeout)
        self._stopped.set()
        if thread is not None:
            thread.join(5.0)
        if thread is not None and thread.is_alive():
            _log.error("topic %s: the disk does not answer; events are left behind", self._topic)
            return
        self._end()

    def close_at_exit(self) -> None:
        """Close with the time that the process grants at its exit."""
        self.close(self._exit_flush_seconds)

    def _leave(self, event: Event) -> bool:
        """Leave an event to the thread, which is started for the first one."""
        with self._lock:
            if self._is_closed:
                self._dropped["closed"] += 1
                return False
            if self._waiting_bytes + event.cost > self._max_waiting_bytes:
                self._dropped["queue_full"] += 1
                return False
            self._waiting.append(event)
            self._waiting_bytes += event.cost
            self._queued += 1
            # What comes after it waits, too: to find the client full costs more than to leave it.
            self._client = None
            if self._thread is not None:
                return True
            thread = self._thread = self._new_thread()
        return self._start(thread)

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name=f"driftline-{self._topic}", daemon=True)

    def _start(self, thread: threading.Thread) -> bool:
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            with self._lock:
                self._thread = None
                self._lost_later["no_thread"] += len(self._waiting)
                self._waiting.clear()
                self._waiting_bytes = 0
            return False
        return True

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._is_pausing:
                    if self._pause():
                        return
                    self._retry_creation_at_once()
                self._turn()
            except Exception:  # noqa: BLE001
                # A dead thread would lose all that comes; this may lose what it stumbled over.
                _log.exception("topic %s: sending goes on after an error", self._topic)
                self._stopped.wait(1.0)
            with self._turned:
                self._turned.notify_all()

    def _pause(self) -> bool:
        """Let the clients go; False where whoever forks did not wait for that, and has gone on."""
        if self._replaying is not None:
            self._replaying.release()
        self._release_client(_FORK_FLUSH_SECONDS)
        self._keep_undelivered()
        with self._lock:
            has_paused = self._has_paused = self._is_pausing
        return has_paused

    def _turn(self) -> None:
        if time.monotonic() < self._resume_at and not self._is_flushing:
            self._stopped.wait(_BUSY_POLL_SECONDS)
            return
        if self._spill is None and self._spill_settings is not None:
            self._spill = self._make_spill(self._spill_settings, self._topic)
            replay = Replay(
                self._spill, self._topic, on_replayed=self._on_replayed, on_lost=self._on_lost
            )
            self._replaying = ReplayingClient(replay, self._topic, self._new_client)
        if self._kafka is None:
            self._create()
        seconds = self._seconds_to_rest(self._take_waiting())
        self._keep_undelivered()
        if self._spill is not None:
            self._spill.tend()
        if self._replaying is not None and self._kafka is not None and not self._is_closed:
            self._replaying.turn()
            if self._replaying.is_busy:
                seconds = min(seconds, _BUSY_POLL_SECONDS)
        self._report_refusal()
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + _REPORT_SECONDS
            self._report_losses()
        if self._kafka is None:
            self._stopped.wait(_POLL_SECONDS)
        elif self._is_flushing and seconds == _POLL_SECONDS:
            self._kafka.flush(seconds)
        else:
            self._kafka.poll(seconds)

    def _seconds_to_rest(self, taken_bytes: int) -> float:
        """Give when to come again: before too much waits, if events come as they came just now."""
        now = time.monotonic()
        passed, self._taken_at = now - self._taken_at, now
        if self._is_flushing and taken_bytes:
            return _BUSY_POLL_SECONDS
        room = _FILLED_SHARE * self._max_waiting_bytes
        return min(_POLL_SECONDS, max(_LEAST_POLL_SECONDS, passed * room / max(taken_bytes, 1)))

    def _create(self) -> None:
        now = time.monotonic()
        if now < self._next_creation:
            return
        self._next_creation = now + _RECREATE_SECONDS
        self._is_creation_refused = False
        try:
            self._kafka = self._new_client({"on_delivery": self._on_failure})
        except (KafkaException, ValueError, TypeError) as error:
            self._is_creation_refused = True
            _log.error("no events are sent to topic %s: %s", self._topic, error)

    def _retry_creation_at_once(self) -> None:
        self._next_creation = 0.0
        if self._replaying is not None:
            self._replaying.retry_at_once()

    def _new_client(self, properties: Mapping[str, Any]) -> Any:
        return self._make_producer(
            {"error_cb": self._broker_errors.note, **self._configuration, **properties},
            logger=_log,
        )

    def _take_waiting(self) -> int:
        """Hand what was left here to the client, or to the disk; then open the client to `send`.

        Give how many bytes that was.
        """
        taken_bytes = 0
        while True:
            with self._lock:
                if not self._waiting:
                    if not self._is_closed:
                        self._client = self._kafka
                    return taken_bytes
                is_hopeless = self._is_creation_refused or self._stopped.is_set()
                if self._kafka is None and not is_hopeless:
                    return taken_bytes  # the next turn makes a client
                events: list[Event] = []
                size = 0
                while self._waiting and len(events) < _TOGETHER and size < _TOGETHER_BYTES:
                    events.append(self._waiting.popleft())
                    size += events[-1].cost
                self._in_hand = len(events)
            taken_bytes += size
            try:
                self._take(events)
            finally:
                if self._in_hand:  # something was raised
                    self._lost_later["error"] += self._in_hand
                with self._lock:
                    self._waiting_bytes -= size
                    self._in_hand = 0

    def _take(self, events: Sequence[Event]) -> None:
        refused: list[Record] = []
        reason = "no_producer"
        is_full = False
        for number, event in enumerate(events):
            headers = [*self._headers, ("ce_id", event.event_id.encode())]
            is_worth_keeping = True
            try:
                if self._kafka is not None and not is_full:
                    self._kafka.produce(self._topic, event.value, event.key, headers=headers)
                    self._in_hand -= 1
                    continue
            except BufferError:
                reason = "queue_full"
                # The disk has room for what follows.
                is_full = self._spill is not None
            except KafkaException as error:
                reason = error.args[0].name()
                is_worth_keeping = not is_refusal(error.args[0])
                if error.args[0].fatal() and not self._stopped.is_set():
                    self._put_back(events[number:])
                    self._in_hand -= len(events) - number
                    self._retire(error)
                    break
            except Exception as error:  # noqa: BLE001 - as in `send`
                reason = type(error).__name__
                is_worth_keeping = False
            if self._spill is None or not is_worth_keeping:
                self._lost_later[reason] += 1
                self._in_hand -= 1
            else:
                refused.append(Record(event.key.encode(), event.value, headers))
        if self._spill is not None:
            self._keep(self._spill, refused)
            self._in_hand -= len(refused)

    def _put_back(self, events: Sequence[Event]) -> None:
        with self._lock:
            self._waiting.extendleft(reversed(events))
            self._waiting_bytes += sum(event.cost for event in events)

    def _keep(self, spill: Spill, records: Sequence[Record]) -> None:
        if not records:
            return
        lost = spill.append(records)
        self._spilled += len(records) - lost.total()
        self._lost_later.update(lost)

    def _keep_undelivered(self) -> None:
        while self._spill is not None and self._undelivered:
            together = list(islice(self._undelivered, _TOGETHER))
            records = []
            for record, error in together:
                if is_refusal(error):
                    self._failed[error.name()] += 1
                else:
                    event_id = self._identify(record.key, record.value).encode()
                    headers = [*self._headers, ("ce_id", event_id)]
                    records.append(Record(record.key, record.value, headers))
            self._keep(self._spill, records)
            for _ in together:
                self._undelivered.popleft()

    def _retire(self, error: KafkaException) -> None:
        # An idempotent producer that has met a fatal error sends nothing more: begin a new one.
        _log.error("topic %s: the client starts anew after %s", self._topic, error)
        self._release_client(0.0)

    def _release_client(self, seconds: float) -> None:
        """Destroy the client; what it has not sent within `seconds` is left to the next one."""
        with self._lock:
            self._client = None
        # A `send` that has the client already hands over its event.
        self._stopped.wait(_HAND_OVER_SECONDS)
        self._is_taking_back = True
        try:
            self._empty_client(seconds)
        finally:
            self._is_taking_back = False

    def _empty_client(self, seconds: float) -> None:
        """Have the client give back what it has not sent within `seconds`, and let it go."""
        self._emptying += 1
        with self._lock:
            kafka, self._kafka = self._kafka, None
        try:
            if kafka is not None and len(kafka):
                try:
                    kafka.flush(seconds)
                finally:  # a callback of the user's may raise
                    kafka.purge()
                    kafka.flush(_PURGE_SECONDS)
        finally:
            if kafka is not None and len(kafka):
                self._lost_later["unanswered"] += len(kafka)
            self._emptying += 1

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return  # `delivery.report.only.error` is overridden
        if self._is_taking_back:
            record = Record(message.key() or b"", message.value() or b"", [])
            event_id = self._identify(record.key, record.value)
            event = Event(record.key.decode(), record.value, event_id)
            with self._lock:
                self._waiting.append(event)
                self._waiting_bytes += event.cost
        elif self._spill_settings is None:
            self._failed[error.name()] += 1
        else:
            # Here only noted: writing it to disk would hold up the other answers.
            record = Record(message.key() or b"", message.value() or b"", [])
            self._undelivered.append((record, error))

    def _on_replayed(self) -> None:
        self._replayed += 1

    def _on_lost(self, reason: str) -> None:
        self._replay_lost[reason] += 1

    def _end(self) -> None:
        """Give up, or keep on disk, what was not sent (the thread has ended)."""
        try:
            self._take_waiting()
            self._empty_client(0.0)
            if self._replaying is not None:
                self._replaying.release()
        finally:
            self._keep_undelivered()
            if self._spill is not None:
                self._spill.close()
            self._report_losses()

    def _report_refusal(self) -> None:
        complaint = self._broker_errors.news()
        if complaint is None or not complaint.is_refusal:
            return
        if time.monotonic() >= self._next_refusal_report:
            self._next_refusal_report = time.monotonic() + _REPORT_SECONDS
            _log.error("no events are sent to topic %s: %s", self._topic, complaint.text)

    def _report_losses(self) -> None:
        with self._lock:
            dropped = self._dropped.copy()
        lost = dropped + self._lost_later + self._failed + self._replay_lost
        news = lost - self._reported
        self._reported = lost
        if news:
            _log.warning(
                "topic %s: %d events were lost (%s)",
                self._topic,
                news.total(),
                ", ".join(f"{reason}: {count}" for reason, count in sorted(news.items())),
            )

    def ask_to_pause(self) -> None:
        """Before a fork: let the thread destroy its client and end, as soon as it can."""
        self._is_pausing = self._thread is not None and not self._stopped.is_set()

    def pause(self) -> None:
        """Before a fork: wait for the thread to end.

        A child inherits the locks of librdkafka and of the C library (that of getaddrinfo, say) as
        they are at that moment; one that a thread holds is locked for ever in the child.
        """
        thread = self._thread
        if thread is not None and self._is_pausing and thread is not threading.current_thread():
            thread.join(_FORK_SECONDS)

    def resume(self) -> None:
        """In the parent of a forked child: go on."""
        if not self._is_pausing:
            return
        with self._lock:
            self._is_pausing = False
            if not self._has_paused:
                return  # the thread goes on by itself
            self._has_paused = False
            self._retry_creation_at_once()
            self._resume_at = time.monotonic() + _RESUME_SECONDS
            has_spilled = self._spill is not None and not self._spill.is_empty
            has_work = (self._waiting or has_spilled) and not self._is_closed
            thread = self._thread = self._new_thread() if has_work else None
        if thread is not None:
            self._start(thread)

    def forget_parent(self) -> None:
        """In a forked child: begin anew."""
        replaying = None if self._replaying is None else self._replaying.client
        for inherited in (self._kafka, replaying):
            if inherited is not None:
                # It did not end in time. Destroying it would wait for ever for threads that live in
                # the parent only, so it must outlive the process.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        if self._spill is not None:
            self._spill.forget()
        was_closed = self._is_closed
        self._start_empty()
        self._is_closed = was_closed


_living: weakref.WeakSet[EventProducer] = weakref.WeakSet()


def _before_fork() -> None:
    # Together, as each may need a moment.
    living = list(_living)
    for events in living:
        events.ask_to_pause()
    for events in living:
        events.pause()


def _after_fork_in_parent() -> None:
    for events in list(_living):
        events.resume()


def _after_fork_in_child() -> None:
    for events in list(_living):
        events.forget_parent()


def _at_exit() -> None:
    for events in list(_living):
        try:
            events.close_at_exit()
        except Exception:  # noqa: BLE001 - a callback of the user's; the others are closed, too
            _log.exception("a logger was not closed as it should be")


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
atexit.register(_at_exit)
