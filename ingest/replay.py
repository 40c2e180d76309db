"""What was spilled (ingest.spill) is sent later, by a Kafka client of its own.

Its client calls back for what is delivered, too, which the logger's own does not: a segment may be
deleted only when the broker has acknowledged all of it. Like the spill it belongs on one thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from ingest.spill import Record, Spill, is_refusal, read_segment

_log = logging.getLogger("driftline.events")

# Replay shares the interpreter with a model server, which is why it does not go at full speed.
_BURST = 100
_IN_FLIGHT = 1000
_BACKOFF_SECONDS = (1.0, 30.0)

# A segment at a time is replayed, and waits for its acknowledgements.
_PROPERTIES: Mapping[str, Any] = {
    "delivery.report.only.error": False,
    "queue.buffering.max.kbytes": 16 * 1024,
    "linger.ms": 5,
}
# A broken configuration is tried again at most this often: creating a client is expensive.
_RECREATE_SECONDS = 10.0
# And where little is spilled now and then, there is soon more.
_IDLE_SECONDS = 30.0
# How long what a client was still busy with may take to come back from it.
_PURGE_SECONDS = 1.0


class Replay:
    """Sends what was spilled, oldest segment first, and deletes a segment once all is acknowledged.

    After a start or a failure one record goes ahead alone: its acknowledgement says that the broker
    is back. A record that the broker refuses for itself, alone, is given up and counted.
    """

    def __init__(
        self,
        spill: Spill,
        topic: str,
        *,
        on_replayed: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._spill = spill
        self._topic = topic
        self._on_replayed = on_replayed
        self._on_lost = on_lost
        self._segment: Path | None = None
        self._records: Iterator[tuple[int, Record | None]] = iter(())
        self._next: tuple[int, Record] | None = None
        self._is_read = False
        # Numbers of records within the segment.
        self._settled: set[int] = set()
        self._in_flight: set[int] = set()
        self._has_failed = False
        self._is_answered = False
        self._is_cautious = False
        self._resume_at = 0.0
        self._backoff = _BACKOFF_SECONDS[0]

    @property
    def is_busy(self) -> bool:
        """Whether more can be sent at once."""
        return self._segment is not None and self._is_answered

    def begin(self) -> bool:
        """Take up the oldest segment, unless one is under way; say whether there is one."""
        if self._segment is None:
            self._segment = self._spill.oldest()
            if self._segment is not None:
                self._settled.clear()
                self._is_cautious = False
                self._start_reading(self._segment)
        return self._segment is not None

    def step(self, client: Any) -> None:
        """Send some records of a segment, or end it; answers come with the client's next poll.

        The client must call back for what is delivered, too. Raises KafkaException where it has met
        a fatal error and sends nothing more.
        """
        self.begin()
        if self._segment is None:
            return
        if self._has_failed:
            if not self._in_flight and self._spill.clock() >= self._resume_at:
                self._start_reading(self._segment)
            return
        try:
            self._send(client, self._segment)
        except (OSError, ValueError) as error:
            self._spill.set_aside(self._segment, error)
            self._on_lost("spill_unreadable")
            self._segment = None
            return
        if self._is_read and not self._in_flight and not self._has_failed:
            self._spill.crash_point("after_acknowledgement")
            self._spill.delete(self._segment)
            self._segment = None

    def restart(self) -> None:
        """Send again what has no answer: the client that had it is gone."""
        if self._in_flight:
            self._in_flight.clear()
            self._fail()

    def _start_reading(self, segment: Path) -> None:
        self._in_flight.clear()
        self._records = enumerate(read_segment(segment))
        self._next = None
        self._is_read = False
        self._has_failed = False

    def _send(self, client: Any, segment: Path) -> None:
        for _ in range(_BURST):
            is_alone = self._is_cautious or not self._is_answered
            if self._has_failed or len(self._in_flight) >= (1 if is_alone else _IN_FLIGHT):
                return
            if self._next is None:
                self._next = self._next_record()
            if self._next is None:
                self._is_read = True
                return
            number, record = self._next
            answered = partial(self._answered, segment, number, is_alone)
            try:
                client.produce(
                    self._topic,
                    record.value,
                    record.key,
                    headers=record.headers,
                    on_delivery=answered,
                )
            except BufferError:
                return
            except KafkaException as error:
                if error.args[0].fatal():
                    raise
                answered(error.args[0], None)
            else:
                self._in_flight.add(number)
            self._next = None

    def _next_record(self) -> tuple[int, Record] | None:
        for number, record in self._records:
            if number in self._settled:
                continue
            if record is not None:
                return number, record
            self._settled.add(number)
            self._on_lost("spill_damaged")
        return None

    def _answered(
        self,
        segment: Path,
        number: int,
        is_alone: bool,
        error: KafkaError | None,
        message: Any,  # noqa: ARG002
    ) -> None:
        if segment != self._segment:
            return  # set aside meanwhile
        self._in_flight.discard(number)
        if error is None:
            self._settled.add(number)
            self._is_answered = True
            self._backoff = _BACKOFF_SECONDS[0]
            self._on_replayed()
        elif is_refusal(error) and is_alone:
            self._settled.add(number)
            self._on_lost(error.name())
        else:
            # A batch is refused as a whole, so each of its records must be tried by itself.
            self._is_cautious = self._is_cautious or is_refusal(error)
            self._fail()

    def _fail(self) -> None:
        self._is_answered = False
        if not self._has_failed:
            self._has_failed = True
            self._resume_at = self._spill.clock() + self._backoff
            self._backoff = min(self._backoff * 2, _BACKOFF_SECONDS[1])


class ReplayingClient:
    """The Kafka client of a replay: made when there is something to send, let go some time after.

    `make_client` gives a client with the logger's properties and those that it is called with.
    """

    def __init__(
        self,
        replay: Replay,
        topic: str,
        make_client: Callable[[Mapping[str, Any]], Any],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._replay = replay
        self._topic = topic
        self._make_client = make_client
        self._client: Any = None
        self._next_creation = 0.0
        self._idle_at = 0.0

    @property
    def client(self) -> Any:
        """The client, or None while there is none."""
        return self._client

    @property
    def is_busy(self) -> bool:
        """Whether more can be sent at once."""
        return self._client is not None and self._replay.is_busy

    def turn(self) -> None:
        """Take the answers to what was sent, and send some more."""
        now = self._clock()
        if self._client is not None:
            self._client.poll(0)
        if not self._replay.begin():
            if now >= self._idle_at:
                self.release()
            return
        self._idle_at = now + _IDLE_SECONDS
        if self._client is None:
            self._create(now)
        if self._client is None:
            return
        try:
            self._replay.step(self._client)
        except KafkaException as error:
            _log.error("topic %s: replay starts anew after %s", self._topic, error)
            self.release()

    def release(self) -> None:
        """Let the client go; what it has no answer for is sent again by the next one."""
        client, self._client = self._client, None
        try:
            if client is not None:
                client.purge()
                client.flush(_PURGE_SECONDS)
        finally:
            self._replay.restart()

    def retry_at_once(self) -> None:
        """Make the next client as soon as it is wanted, however the last one went."""
        self._next_creation = 0.0

    def _create(self, now: float) -> None:
        if now < self._next_creation:
            return
        self._next_creation = now + _RECREATE_SECONDS
        try:
            self._client = self._make_client(_PROPERTIES)
        except (KafkaException, ValueError, TypeError) as error:
            _log.error("topic %s: what was spilled is not sent: %s", self._topic, error)
