"""The loader: messages from Kafka into raw tables, byte for byte, each offset once.

A thin shell around `ingest.offsets` (decisions) and a sink (`ingest.landing`). One thread polls
Kafka; inserts run on worker threads (`ingest.partition_work`), at most one at a time per partition
and in order. The protocol and its reasons are in docs/ingest.md; in short:

- Reading starts after the greatest landed offset: the table wins over Kafka's committed offset.
- Before an insert, what is in it is committed as an intent beside the offset committed before.
- An offset is committed only after its row was seen in the table.
- A failed insert is declared and repeated for the same offsets under the same token, after asking
  the table which of them are there, for as long as the failure passes by itself. Meanwhile the
  partition is paused and polling goes on, so that the loader keeps its place in the group.
- Any other failure halts that partition loudly: nothing moves until a person has mended it.
- Offsets that the broker no longer has are recorded in the gaps table and logged as errors.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ingest.admission import Admission
from ingest.assigned_partition import Assigned, Doing, Landed, Located
from ingest.batches import Batch, BatchBuilder, BatchLimits
from ingest.broker_errors import Complaint
from ingest.lag import Bounds
from ingest.landing import LandingError, Sink
from ingest.loader_report import LoaderStatus, LoadReport
from ingest.messages import received_block
from ingest.offsets import (
    OffsetError,
    OffsetRange,
    PartitionId,
    StartPolicy,
    full_jitter,
)
from ingest.partition_work import LeaseExpiredError, PartitionWork, TopicChangedError
from ingest.topic_identity import TopicIdentity

_log = logging.getLogger("driftline.loader")

CRASH_POINTS = ("before_intent", "after_intent", "after_insert", "after_commit")

_MESSAGES_PER_TURN = 10_000
_POLL_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 30.0
_LAST_COMMIT_SECONDS = 5.0
_LEAVE_SECONDS = 15.0
# A server that was silent for so long may be another one, or on older data, since.
_DOUBT_SECONDS = 10.0
# Above this share of the memory batches go as they are, before reading must pause.
_PRESSED = 0.75

CommitCallback = Callable[[KafkaError | None, list[TopicPartition]], None]
RebalanceCallback = Callable[[Any, list[TopicPartition]], None]


class LoaderError(Exception):
    """The loader cannot go on. The message names partition, cause and remedy."""


@dataclass(frozen=True)
class StopWhen:
    """When `run` ends by itself; by default never.

    `is_caught_up`: once every assigned partition was read to its end and all of it has landed.
    `idle_seconds`: once that is so and no message came for so many seconds.
    """

    is_caught_up: bool = False
    idle_seconds: float | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether the run has an end, so that a halted partition must fail it."""
        return self.is_caught_up or self.idle_seconds is not None


class Loader:
    """Loads the topics of `topics` through `sink` until told to stop.

    `open_consumer` gives a confluent-kafka Consumer of `consumer_configuration` that calls back
    what became of commits; the loader closes each that it opens. `identify` gives a topic's
    identity, `bounds` the broker's offsets of a partition; both are called on worker threads and
    must not use that consumer. `complaint` gives what has newly kept that consumer from its
    brokers. `memory_bytes` bounds what is buffered. `lease_seconds` is the session's time-out: for
    so long after it was sent, an intent that Kafka took holds. A partition of which nothing is
    heard, neither a message nor its end, for `silent_seconds` after it was assigned is fetched
    anew, in the end by a new consumer. `crash_point` is called with each name of CRASH_POINTS, so
    that tests can stop a loader exactly there.
    """

    def __init__(
        self,
        open_consumer: Callable[[CommitCallback], Consumer],
        sink: Sink,
        *,
        topics: tuple[str, ...],
        identify: Callable[[str], TopicIdentity],
        bounds: Callable[[str, int], Bounds],
        complaint: Callable[[], Complaint | None] = lambda: None,
        limits: BatchLimits = BatchLimits(),  # noqa: B008 - immutable
        memory_bytes: int = 256 * 1024 * 1024,
        lease_seconds: float = 10.0,
        pause_after_seconds: float = 5.0,
        drain_seconds: float = 30.0,
        silent_seconds: float = 30.0,
        workers: int = 2,
        is_cooperative: bool = True,
        clock: Callable[[], float] = time.monotonic,
        start: StartPolicy = StartPolicy.EARLIEST,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        draw: Callable[[], float] = random.random,
        crash_point: Callable[[str], None] = lambda _: None,
        on_progress: Callable[[LoadReport], None] = lambda _: None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_consumer = open_consumer
        self._consumer = open_consumer(self._on_commit)
        self._sink = sink
        self._topics = topics
        self._work = PartitionWork(
            sink,
            identify=identify,
            bounds=bounds,
            start=start,
            lease_seconds=lease_seconds,
            clock=clock,
            crash_point=crash_point,
        )
        self._admission = Admission(complaint, now=clock())
        self._limits = limits
        self._memory_bytes = memory_bytes
        self._pause_after_seconds = pause_after_seconds
        self._drain_seconds = drain_seconds
        self._silent_seconds = silent_seconds
        self._is_cooperative = is_cooperative
        self._clock = clock
        self._today = today
        self._draw = draw
        self._crash_point = crash_point
        self._on_progress = on_progress
        self._on_close = on_close
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="driftline-landing")
        self._assigned: dict[tuple[str, int], Assigned] = {}
        self._has_assignment = False
        self._must_rejoin = False
        self._membership = 0
        self._has_drained = False
        self._stop_when = StopWhen()
        self._stops = 0
        self._last_message_at = clock()
        self._turned_at = clock()
        self._contact_at = clock()
        self._unknown_topics: set[str] = set()
        self.report = LoadReport()

    def run(self, stop_when: StopWhen = StopWhen()) -> LoadReport:
        """Load until `stop_when` or `stop`; then drain, commit and leave the group.

        Raises LoaderError where Kafka has ended the client, and in a bounded run where no broker
        lets it in or a partition halts.
        """
        self._stop_when = stop_when
        self._last_message_at = self._clock()
        self._join_group()
        try:
            while not self._stops and not self._is_done():
                self._turn()
            self._drain()
        finally:
            self._workers.shutdown(wait=self._stops < 2, cancel_futures=True)
            self._leave_group()
            self._on_close()
        return self.report

    def stop(self) -> None:
        """End the run after draining; called a second time, end it without. Signal-safe."""
        self._stops += 1

    @property
    def is_aborted(self) -> bool:
        """Whether it was told twice to stop: then inserts may still be under way."""
        return self._stops >= 2

    @property
    def is_holding_back(self) -> bool:
        """Whether reading is paused because inserts cannot keep up, or fail."""
        return any(each.is_reading and each.is_paused for each in list(self._assigned.values()))

    def status(self) -> LoaderStatus:
        """Give how the loader stands; may be called on any thread."""
        return LoaderStatus(
            has_assignment=self._has_assignment,
            seconds_since_turn=self._clock() - self._turned_at,
            partitions=tuple(each.status() for each in list(self._assigned.values())),
            broker_problem=self._admission.problem,
        )

    # -- one turn of the loop -----------------------------------------------------------------

    def _turn(self) -> None:
        self._turned_at = self._clock()
        if self._must_rejoin:
            self._rejoin_group()
        self._collect_finished()
        self._begin_work()
        self._hold_back()
        messages = self._consumer.consume(_MESSAGES_PER_TURN, _POLL_SECONDS)
        now = self._clock()
        is_vain = self._admission.look(now, is_member=self._has_assignment)
        if is_vain and self._stop_when.is_bounded:
            raise LoaderError(f"Kafka: {self._admission.problem}")
        # In the order in which they came: the end of a partition is told among its messages.
        for (topic, partition, is_error), group in groupby(messages, _kind_of):
            assigned = self._assigned.get((topic, partition))
            if is_error:
                for message in group:
                    self._receive_error(message, assigned)
            else:
                self._receive(list(group), assigned, now)
        self._on_progress(self.report)

    def _receive(self, messages: list[Any], assigned: Assigned | None, now: float) -> None:
        if assigned is None or not assigned.is_reading or assigned.builder is None:
            return  # read before its start was known; it is read again from there
        if messages[0].offset() < assigned.position:
            first_new = bisect_left(messages, assigned.position, key=_offset_of)
            self.report.skipped += first_new
            messages = messages[first_new:]
        if not messages:
            return
        end = messages[-1].offset() + 1
        self.report.holes += end - assigned.position - len(messages)
        assigned.position = end
        assigned.hear()
        assigned.is_at_end = False
        self._last_message_at = now
        assigned.ready += assigned.builder.add(received_block(messages), now, self._today())

    def _receive_error(self, message: Any, assigned: Assigned | None) -> None:
        error: KafkaError = message.error()
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            if assigned is not None and assigned.is_reading:
                assigned.is_at_end = True
                assigned.hear()
                # Up to here there are no messages but those received: transactions leave holes.
                self.report.holes += max(0, message.offset() - assigned.position)
                assigned.position = max(assigned.position, message.offset())
        elif code == KafkaError._AUTO_OFFSET_RESET:
            if assigned is not None and assigned.is_reading:
                assigned.is_out_of_range = True
        elif code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            if message.topic() not in self._unknown_topics:
                self._unknown_topics.add(message.topic())
                _log.warning("topic %s does not exist yet; waiting for it", message.topic())
        elif error.fatal():
            raise LoaderError(f"Kafka has ended this consumer: {error.str()}")
        else:
            _log.warning("Kafka: %s", error.str())

    def _collect_finished(self) -> None:
        for assigned in list(self._assigned.values()):
            if assigned.task is None or not assigned.task.done():
                continue
            task, assigned.task = assigned.task, None
            doing, assigned.doing = assigned.doing, Doing.NOTHING
            match doing:
                case Doing.LOCATING:
                    self._finish_locating(assigned, task)
                case Doing.LOOKING_AGAIN:
                    self._finish_looking_again(assigned, task)
                case Doing.LANDING:
                    self._finish_insert(assigned, task)

    def _begin_work(self) -> None:
        now = self._clock()
        for assigned in self._assigned.values():
            if assigned.task is not None or now < assigned.retry_at:
                continue
            if assigned.located is None:
                self._submit(
                    assigned, Doing.LOCATING, self._work.locate, assigned.topic, assigned.partition
                )
                continue
            if not assigned.is_reading:
                self._start_reading(assigned, assigned.located)
            elif assigned.is_out_of_range and not assigned.has_work():
                # What is held has landed by now, so that only what was never read counts as lost.
                assigned.forget()
                continue
            self._begin_anew_where_silent(assigned, now)
            if not assigned.is_reading:
                continue
            if assigned.is_in_doubt and assigned.declared is None:
                self._submit(
                    assigned,
                    Doing.LOOKING_AGAIN,
                    self._sink.landed_last,
                    assigned.located.partition,
                )
                continue
            if assigned.batch is None:
                assigned.batch = self._next_batch(assigned, now)
            if assigned.batch is not None:
                if assigned.declared is None and not self._doubt(now):
                    self._declare(assigned, assigned.batch)
            elif assigned.is_at_end and assigned.landed_end is not None and not assigned.has_work():
                self._commit_position(assigned, assigned.landed_end)

    def _doubt(self, now: float) -> bool:
        """Whether ClickHouse was silent for so long that it may have become another one since."""
        if now - self._contact_at < _DOUBT_SECONDS:
            return False
        self._contact_at = now
        for assigned in self._assigned.values():
            assigned.is_in_doubt = assigned.is_reading
        return True

    def _submit(
        self, assigned: Assigned, doing: Doing, work: Callable[..., Any], *arguments: Any
    ) -> None:
        assigned.doing = doing
        assigned.task = self._workers.submit(work, *arguments)

    def _next_batch(self, assigned: Assigned, now: float) -> Batch | None:
        if assigned.ready:
            return assigned.ready.popleft()
        builder = assigned.builder
        if builder is None or not len(builder):
            return None
        # Nothing more is coming: waiting for company would only delay the end.
        is_last = self._stop_when.is_caught_up and assigned.is_at_end
        if is_last or builder.is_due(
            now,
            is_at_end=assigned.is_at_end,
            behind=self._behind(assigned),
            is_pressed=self._held_bytes() >= _PRESSED * self._memory_bytes,
        ):
            return builder.take(self._today())
        return None

    def _behind(self, assigned: Assigned) -> int:
        """Say how many offsets the log had after the position when the broker last sent any."""
        # From memory: it asks nobody.
        _, high = self._consumer.get_watermark_offsets(assigned.at(0), cached=True)
        return int(high) - assigned.position

    def _held_bytes(self) -> int:
        return sum(assigned.buffered_bytes() for assigned in self._assigned.values())

    def _hold_back(self) -> None:
        """Keep the buffered bytes bounded: wait a moment for an insert, then pause reading."""
        held = self._held_bytes()
        if held >= self._memory_bytes:
            tasks = [assigned.task for assigned in self._assigned.values() if assigned.task]
            # A pause makes librdkafka throw away what it has fetched ahead: only when it lasts.
            # Once paused, waiting would but hold up answers about other partitions' intents.
            is_paused = all(each.is_paused for each in self._assigned.values())
            if (
                not is_paused
                and tasks
                and wait(tasks, self._pause_after_seconds, FIRST_COMPLETED).done
            ):
                return
            self.report.pauses += not self.is_holding_back
            for assigned in self._assigned.values():
                self._pause(assigned)
        elif held < self._memory_bytes // 2:
            for assigned in self._assigned.values():
                if assigned.is_reading and not assigned.attempts:
                    self._resume(assigned)

    def _pause(self, assigned: Assigned) -> None:
        if not assigned.is_paused:
            assigned.is_paused = True
            self._consumer.pause([assigned.at(assigned.position)])

    def _resume(self, assigned: Assigned) -> None:
        if assigned.is_paused:
            assigned.is_paused = False
            self._consumer.resume([assigned.at(assigned.position)])

    # -- where to begin -----------------------------------------------------------------------

    def _finish_locating(self, assigned: Assigned, task: Future[Located]) -> None:
        try:
            located = task.result()
        except OffsetError as error:
            self._retry_later(assigned, str(error), "offsets", is_transient=False)
            return
        except LandingError as error:
            self._fail(assigned, error)
            return
        except KafkaException as error:
            broker_error = error.args[0]
            self._retry_later(assigned, broker_error.str(), broker_error.name(), is_transient=True)
            return
        self._recover(assigned)
        self._contact_at = self._clock()
        assigned.located = located
        start, committed = located.start, located.bounds.committed
        self.report.expected += located.bounds.high - start.offset
        if located.unread_metadata is not None:
            _log.warning(
                "%s: what was committed with offset %s is ignored: %s",
                assigned,
                committed,
                located.unread_metadata,
            )
        if start.gap is not None:
            self._notice_gap(located.partition, start.gap)
        elif committed is not None and committed > start.offset:
            _log.warning(
                "%s: %d was committed but only offsets below %d have landed; reading again from "
                "there",
                assigned,
                committed,
                start.offset,
            )
        elif committed is not None and committed < start.offset:
            _log.info(
                "%s: offsets %d to %d have landed though they were not committed; not read again",
                assigned,
                committed,
                start.offset - 1,
            )

    def _finish_looking_again(self, assigned: Assigned, task: Future[int | None]) -> None:
        """Go on after a broken connection, or go back where the table has lost rows."""
        try:
            landed_last = task.result()
        except LandingError as error:
            self._fail(assigned, error)
            return
        self._contact_at = self._clock()
        assigned.is_in_doubt = False
        expected = assigned.landed_last
        if expected is not None and (landed_last is None or landed_last < expected):
            _log.error(
                "%s: the table has lost rows: %d had landed, now the last one is %s; reading again "
                "from there",
                assigned,
                expected,
                landed_last,
            )
            self.report.rereads += 1
            self._pause(assigned)
            assigned.forget()
        elif assigned.batch is None:
            self._recover(assigned)

    def _start_reading(self, assigned: Assigned, located: Located) -> None:
        start = located.start.offset
        try:
            self._fetch_from(assigned, start)
        except KafkaException as error:
            # The group may be changing just now.
            _log.info("%s: %s", assigned, error.args[0].str())
            assigned.retry_at = self._clock() + _POLL_SECONDS
            return
        assigned.position = start
        assigned.committed = located.bounds.committed
        assigned.landed_end = start
        assigned.landed_last = located.landed_last
        assigned.builder = BatchBuilder(
            located.partition, self._limits, start, located.start.intent
        )
        assigned.is_reading = True
        assigned.is_out_of_range = False
        assigned.unheard_since = self._clock()
        self._resume(assigned)
        _log.info("%s: reading from offset %d", assigned, start)

    def _begin_anew_where_silent(self, assigned: Assigned, now: float) -> None:
        """Try again, harder each time, where since its start a partition gave not even its end.

        librdkafka tells the end of a partition that has nothing. Where it says nothing at all, it
        has been seen to fetch all other partitions of that broker and never this one, also after it
        was assigned anew. Before all partitions are given up for a new client, the broker has to
        answer: while it is down, that would help nobody.
        """
        since = assigned.unheard_since
        if since is None or assigned.is_paused or now - since < self._silent_seconds:
            return
        assigned.silences += 1
        assigned.unheard_since = now
        measure = ("fetching anew", "locating its start anew", "joining the group anew")[
            min(assigned.silences, 3) - 1
        ]
        _log.warning(
            "%s: nothing came in %.0f s, not even its end; %s, from offset %d",
            assigned,
            now - since,
            measure,
            assigned.position,
        )
        if assigned.silences == 1:
            try:
                self._fetch_from(assigned, assigned.position)
            except KafkaException as error:
                _log.info("%s: %s", assigned, error.args[0].str())
        elif assigned.silences == 2:
            self._pause(assigned)
            assigned.forget()
        else:
            self._must_rejoin = True

    def _fetch_from(self, assigned: Assigned, offset: int) -> None:
        """Let librdkafka fetch a partition from `offset`, whatever it did with it before.

        By assigning it anew, not by a seek: out of range, it has given the partition up for good.
        """
        if self._is_cooperative:
            try:
                self._consumer.incremental_unassign([assigned.at(offset)])
            except KafkaException as error:
                # It is not assigned: a try before this one got no further than here.
                if error.args[0].code() != KafkaError._INVALID_ARG:
                    raise
            self._consumer.incremental_assign([assigned.at(offset)])
            return
        others = [each for each in self._assigned.values() if each is not assigned]
        self._consumer.assign(
            [assigned.at(offset)]
            + [each.at(each.position if each.is_reading else 0) for each in others]
        )
        for each in others:
            if each.is_paused:
                self._consumer.pause([each.at(each.position)])

    def _notice_gap(self, partition: PartitionId, gap: OffsetRange) -> None:
        self.report.gaps.append((partition, gap))
        _log.error(
            "%s: the broker no longer had offsets %s (%d messages are lost); recorded in the gaps "
            "table. Raise the topic's retention, or run the loader more often",
            partition,
            gap,
            len(gap),
        )

    # -- landing ------------------------------------------------------------------------------

    def _declare(self, assigned: Assigned, batch: Batch) -> None:
        """Write the batch's intent beside the committed offset; landing waits for the answer.

        Only a member of the group's current generation can: one that was taken for dead inserts
        nothing new when it wakes up.
        """
        self._crash_point("before_intent")
        intent = batch.intent
        assigned.declared = intent.metadata()
        assigned.declared_at = self._clock()
        assigned.retry_at = 0.0
        self._send_commit([assigned.at(intent.first, assigned.declared)])

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        for at in partitions:
            assigned = self._assigned.get((at.topic, at.partition))
            if assigned is None:
                continue
            failure = at.error or error
            if not failure:
                assigned.committed = at.offset
            if assigned.declared is None or at.metadata != assigned.declared:
                if failure:
                    # The table knows what has landed: a lost commit costs nothing but this line.
                    _log.warning("%s: offset not committed: %s", assigned, failure.str())
            elif failure:
                self._retry_later(assigned, failure.str(), failure.name(), is_transient=True)
            elif assigned.is_in_doubt:
                assigned.declared = None
            elif assigned.batch is not None and assigned.task is None:
                self._crash_point("after_intent")
                is_known = assigned.attempts > 0 or assigned.batch.is_replayed
                self._submit(
                    assigned,
                    Doing.LANDING,
                    self._work.land,
                    assigned.batch,
                    is_known,
                    assigned.declared_at,
                )

    def _finish_insert(self, assigned: Assigned, task: Future[Landed]) -> None:
        batch = assigned.batch
        if batch is None:
            return
        try:
            landed = task.result()
        except LandingError as error:
            self._fail(assigned, error)
            return
        except KafkaException as error:
            self._retry_later(
                assigned, error.args[0].str(), error.args[0].name(), is_transient=True
            )
            return
        except LeaseExpiredError:
            assigned.declared = None
            return
        except TopicChangedError as error:
            _log.error("%s: %s; beginning again with the new one", assigned, error)
            self._pause(assigned)
            assigned.forget()
            return
        self._contact_at = self._clock()
        self._recover(assigned)
        self._count(assigned, batch, landed)
        # The commit of what has landed carries the intent of what comes next, where it is there.
        assigned.batch = assigned.ready.popleft() if assigned.ready else None
        if assigned.batch is not None and not assigned.is_in_doubt:
            self._declare(assigned, assigned.batch)
        else:
            self._send_commit([assigned.at(batch.range.end)])
        self._crash_point("after_commit")

    def _count(self, assigned: Assigned, batch: Batch, landed: Landed) -> None:
        assigned.batch = None
        assigned.declared = None
        assigned.landed_end = batch.range.end
        assigned.landed_last = batch.range.last
        assigned.landed_timestamp = batch.newest_timestamp
        report = self.report
        report.rows += len(batch)
        report.bytes += batch.payload_bytes
        report.batches += 1
        for what, amount in (("rows", len(batch)), ("bytes", batch.payload_bytes), ("batches", 1)):
            report.landed[batch.partition.topic, what] += amount
        report.insert_seconds += landed.seconds
        report.repaired += landed.repaired
        report.replayed += batch.is_replayed

    def _commit_position(self, assigned: Assigned, landed_end: int) -> None:
        """Commit past what holds no message for us, so that no lag is left at the end of the log.

        With a start at the latest offset it also makes that choice durable.
        """
        if assigned.position > landed_end:
            assigned.landed_end = landed_end = assigned.position
            if assigned.builder is not None:
                assigned.builder.start_at(landed_end)
        if assigned.committed != landed_end:
            assigned.committed = landed_end
            self._send_commit([assigned.at(landed_end)])

    def _send_commit(self, offsets: list[TopicPartition]) -> None:
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _fail(self, assigned: Assigned, error: LandingError) -> None:
        if error.code is None:
            # The server that comes back may be one that has lost rows, of any partition.
            for each in self._assigned.values():
                each.is_in_doubt = each.is_reading
        self._retry_later(assigned, str(error), _name_of(error), is_transient=error.is_transient)

    def _retry_later(
        self, assigned: Assigned, message: str, code: str, *, is_transient: bool
    ) -> None:
        assigned.attempts += 1
        assigned.declared = None
        assigned.problem = message
        assigned.is_halted = not is_transient
        self.report.retries[code] += 1
        if assigned.is_reading:
            self._pause(assigned)
        seconds = full_jitter(assigned.attempts, self._draw(), longest=_LONGEST_BACKOFF_SECONDS)
        if is_transient:
            _log.warning("%s: %s; trying again in %.1f s", assigned, message, seconds)
        else:
            if self._stop_when.is_bounded:
                raise LoaderError(f"{assigned}: {message}")
            _log.error(
                "%s HALTED, nothing of it is loaded until this is mended: %s", assigned, message
            )
        assigned.retry_at = self._clock() + seconds

    def _recover(self, assigned: Assigned) -> None:
        if assigned.attempts:
            _log.warning("%s: going on after %d failures", assigned, assigned.attempts)
        assigned.attempts = 0
        assigned.problem = None
        assigned.is_halted = False

    # -- the group ----------------------------------------------------------------------------

    def _join_group(self) -> None:
        self._membership += 1
        membership = self._membership

        def of_this_membership(callback: RebalanceCallback) -> RebalanceCallback:
            # A consumer that could not be closed in time may still call.
            def called(consumer: Any, partitions: list[TopicPartition]) -> None:
                if self._membership == membership:
                    callback(consumer, partitions)

            return called

        self._consumer.subscribe(
            list(self._topics),
            on_assign=of_this_membership(self._on_assign),
            on_revoke=of_this_membership(self._on_revoke),
            on_lost=of_this_membership(self._on_lost),
        )

    def _rejoin_group(self) -> None:
        """Leave the group, and join it with a new consumer."""
        self._must_rejoin = False
        self._leave_group()
        self._assigned.clear()
        self._has_assignment = False
        self._consumer = self._open_consumer(self._on_commit)
        self._join_group()

    def _on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._has_assignment = True
        self._admission.grant()
        # Paused until the table has said where to begin; nothing is read from the offset here. It
        # is a number, not the log's end or beginning: librdkafka asks the broker for those, and an
        # answer that comes after the seek makes it go there, over all messages between.
        for at in partitions:
            at.offset = 0
            assigned = Assigned(at.topic, at.partition)
            assigned.is_paused = True
            self._assigned[at.topic, at.partition] = assigned
        if self._is_cooperative:
            consumer.incremental_assign(partitions)
        else:
            consumer.assign(partitions)
        if partitions:
            consumer.pause(partitions)

    def _on_revoke(self, consumer: Any, partitions: list[TopicPartition]) -> None:  # noqa: ARG002
        revoked = list(self._pop(partitions))
        tasks = [each.task for each in revoked if each.task and each.doing is Doing.LANDING]
        if tasks:
            wait(tasks, self._drain_seconds if self._stops < 2 else 0)
        for assigned in revoked:
            task, batch = assigned.task, assigned.batch
            if task is None or batch is None or assigned.doing is not Doing.LANDING:
                continue
            if not task.done():
                _log.error(
                    "%s was revoked while offsets %s were still being inserted; their intent stays",
                    assigned,
                    batch.range,
                )
            elif not task.cancelled() and task.exception() is None:
                self._count(assigned, batch, task.result())
        # When it leaves, that is done; waiting for a broker that is down would never end.
        if not self._has_drained:
            self._commit_settled(revoked, asynchronous=False)

    def _on_lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:  # noqa: ARG002
        for assigned in self._pop(partitions):
            _log.warning("%s was lost: this loader was too slow to answer the group", assigned)

    def _pop(self, partitions: list[TopicPartition]) -> Iterator[Assigned]:
        for at in partitions:
            assigned = self._assigned.pop((at.topic, at.partition), None)
            if assigned is not None:
                yield assigned

    # -- the end ------------------------------------------------------------------------------

    def _is_done(self) -> bool:
        if not self._stop_when.is_bounded or not self._has_assignment:
            return False
        if any(
            not assigned.is_at_end or assigned.has_work() for assigned in self._assigned.values()
        ):
            return False
        if self._stop_when.idle_seconds is None:
            return True
        return self._clock() - self._last_message_at >= self._stop_when.idle_seconds

    def _drain(self) -> None:
        """Land what is buffered, for a bounded time, and commit it."""
        deadline = self._clock() + self._drain_seconds
        for assigned in self._assigned.values():
            if assigned.is_reading:
                self._pause(assigned)
            if assigned.builder is not None and len(assigned.builder):
                assigned.ready.append(assigned.builder.take(self._today()))
        while self._stops < 2 and self._clock() < deadline:
            self._turned_at = self._clock()
            self._collect_finished()
            if not any(each.held_batches() for each in self._assigned.values()):
                break
            self._begin_work()
            self._consumer.consume(1, _POLL_SECONDS)  # paused: only to stay in the group
        self._has_drained = True
        sent = self._commit_settled(list(self._assigned.values()), asynchronous=True)
        deadline = min(deadline, self._clock() + _LAST_COMMIT_SECONDS)
        while self._stops < 2 and self._clock() < deadline:
            if all(assigned.committed == offset for assigned, offset in sent):
                break
            self._consumer.consume(1, _POLL_SECONDS)

    def _leave_group(self) -> None:
        """Close the consumer.

        On a thread of its own: with its broker down, it may wait for ever for the answer to a
        commit. A group that is not told takes the partitions away when the session has ended, and
        the table knows what has landed.
        """
        closing = threading.Thread(
            target=self._consumer.close, name="driftline-leaving", daemon=True
        )
        closing.start()
        closing.join(_LEAVE_SECONDS)
        if closing.is_alive():
            _log.warning("no broker answers; leaving without telling the group")

    def _commit_settled(
        self, partitions: list[Assigned], *, asynchronous: bool
    ) -> list[tuple[Assigned, int]]:
        """Commit what has landed, but where an intent is open: it is its next owner's."""
        settled = [
            (assigned, assigned.landed_end)
            for assigned in partitions
            if assigned.landed_end is not None
            and assigned.batch is None
            and assigned.committed != assigned.landed_end
        ]
        if settled:
            try:
                offsets = [assigned.at(offset) for assigned, offset in settled]
                if asynchronous:
                    self._consumer.commit(offsets=offsets, asynchronous=True)
                else:
                    self._consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as error:
                _log.warning("offsets were not committed: %s", error.args[0].str())
        return settled


def _kind_of(message: Any) -> tuple[str, int, bool]:
    return message.topic(), message.partition(), message.error() is not None


def _offset_of(message: Any) -> int:
    return int(message.offset())


def _name_of(error: LandingError) -> str:
    return "connection" if error.code is None else str(error.code)
