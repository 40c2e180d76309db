"""What the broker says of gaps: no message there, a message that was missed, or nothing any more.

Read by a consumer of its own that joins no group and commits nothing, in a bounded time. Only
committed messages count, as for the loader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from driftline.settings import KafkaSettings
from ingest.batches import Batch
from ingest.lag import Bounds, LagReader
from ingest.landing import Sink, land_exactly_once
from ingest.messages import received_block
from ingest.offsets import OffsetRange, PartitionId
from ingest.topic_identity import TopicIdentities, TopicIdentity
from ingest.verification.findings import Answer, Finding, joined, within, without

_MESSAGES_PER_TURN = 1000
_POLL_SECONDS = 0.5
# A broker that gives nothing for so long is not asked any more.
_SILENT_SECONDS = 30.0
# Gaps that are nearer to each other are read in one go: a jump costs a fetch.
_NEAR_OFFSETS = 5000
# How many missed messages, and how many bytes of their values, are landed at once.
_LANDED_ROWS, _LANDED_BYTES = 10_000, 8 * 1024 * 1024

Progress = Callable[[int, int, str], None]


def reader_configuration(settings: KafkaSettings) -> Mapping[str, Any]:
    """Give the librdkafka properties of a consumer that only looks."""
    return {
        **settings.client_configuration(),
        # Named, as librdkafka wants one, and never joined.
        "group.id": settings.consumer_group,
        "client.id": "driftline-verify",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 100,
        "queued.min.messages": 10_000,
        "queued.max.messages.kbytes": 16 * 1024,
        "log_level": 0,
    }


class MissedMessages:
    """Lands messages that were missed, each once, in batches; only what the table still lacks.

    `sink` gives the sink of a raw table's topic. Raises LandingError.
    """

    def __init__(
        self,
        sink: Callable[[str, str], Sink],
        *,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        self._sink = sink
        self._today = today

    def land(self, raw_table: str, batch: Batch) -> None:
        """Land those messages of a batch that are missing still."""
        sink = self._sink(raw_table, batch.partition.topic)
        land_exactly_once(
            batch.offsets,
            # A token of its own: the loader's may be used up though the rows are gone.
            f"{batch.token}/missed",
            missing=lambda: sink.missing(batch.partition, batch.offsets),
            insert=lambda offsets, token: sink.insert(
                batch if len(offsets) == len(batch) else batch.only(offsets), token
            ),
        )

    def today(self) -> date:
        """Give the day of landing (UTC)."""
        return self._today()


class _Missed:
    """Missed messages of one partition: their offsets, and how many have been landed."""

    def __init__(
        self, raw_table: str, partition: PartitionId, missed: MissedMessages | None
    ) -> None:
        self._raw_table = raw_table
        self._missed = missed
        self._partition = partition
        self._held: list[Any] = []
        self._held_bytes = 0
        self.ranges: list[OffsetRange] = []
        self.landed_count = 0

    def add(self, message: Any) -> None:
        """Take one, of a greater offset than those before."""
        offset = int(message.offset())
        if self.ranges and self.ranges[-1].end == offset:
            self.ranges[-1] = OffsetRange(self.ranges[-1].first, offset)
        else:
            self.ranges.append(OffsetRange(offset, offset))
        if self._missed is None:
            return
        self._held.append(message)
        self._held_bytes += len(message)
        if len(self._held) >= _LANDED_ROWS or self._held_bytes >= _LANDED_BYTES:
            self.land()

    def land(self) -> None:
        """Land what has been taken since the last time, where that is wanted."""
        if self._missed is not None and self._held:
            blocks = (received_block(self._held),)
            self._held, self._held_bytes = [], 0
            batch = Batch(self._partition, self._missed.today(), blocks)
            self._missed.land(self._raw_table, batch)
            self.landed_count += len(batch)


class GapReader(AbstractContextManager["GapReader"]):
    """Reads gaps from the broker for at most `seconds` in all, and lands what was missed.

    `open_consumer` gives a consumer of `reader_configuration`, `identify` a topic's identity and
    `bounds` the broker's offsets of a partition. With `missed`, messages that were missed are
    landed. Where the broker cannot be asked the answer says so; nothing is raised for it.
    """

    def __init__(
        self,
        open_consumer: Callable[[], Consumer],
        *,
        identify: Callable[[str], TopicIdentity],
        bounds: Callable[[str, int], Bounds],
        missed: MissedMessages | None = None,
        seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        on_progress: Progress = lambda done, total, doing: None,  # noqa: ARG005
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_consumer = open_consumer
        self._identify = identify
        self._bounds = bounds
        self._missed = missed
        self._seconds = seconds
        self._clock = clock
        self._on_progress = on_progress
        self._on_close = on_close
        self._consumer: Consumer | None = None
        self._deadline: float | None = None
        self._failure: str | None = None

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._consumer is not None:
            self._consumer.close()
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def ask(self, raw_table: str, partition: PartitionId, gaps: Sequence[OffsetRange]) -> Answer:
        """Say of ascending gaps of a raw table's partition what the broker has there."""
        if self._deadline is None:
            self._deadline = self._clock() + self._seconds
        if self._failure is not None:
            return _unknown(gaps, self._failure)
        try:
            refusal, log = self._log(partition)
            if log is None:
                return _unknown(gaps, refusal)
            readable = within(gaps, log)
            answer = _unknown(without(gaps, [log]), refusal)
            return answer + self._read(raw_table, partition, readable)
        except KafkaException as error:
            self._failure = f"Kafka does not answer: {error.args[0].str()}"
            return _unknown(gaps, self._failure)

    def _log(self, partition: PartitionId) -> tuple[str, OffsetRange | None]:
        """Give the offsets that the broker has of a partition, and why it has no others."""
        identity = self._identify(partition.topic)
        if identity != TopicIdentity(partition.cluster, partition.topic_id):
            return (
                f"the broker's {partition.topic} is another topic (cluster {identity.cluster}, id "
                f"{identity.topic_id}) than the one that has landed",
                None,
            )
        bounds = self._bounds(partition.topic, partition.partition)
        if bounds.low >= bounds.high:
            return f"the broker has nothing of {partition} any more", None
        refusal = f"the broker has only offsets {bounds.low} to {bounds.high - 1} of {partition}"
        return refusal, OffsetRange(bounds.low, bounds.high - 1)

    def _read(self, raw_table: str, partition: PartitionId, gaps: Sequence[OffsetRange]) -> Answer:
        found = _Missed(raw_table, partition, self._missed)
        read: list[OffsetRange] = []
        reasons = []
        upcoming = iter(gaps)
        gap = next(upcoming, None)
        for span in _spans(gaps):
            end = span.first
            for read_end, message in self._messages(partition, span):
                end = read_end
                offset = end - 1
                while gap is not None and gap.last < offset:
                    gap = next(upcoming, None)
                if message is not None and gap is not None and gap.first <= offset:
                    found.add(message)
            if end > span.first:
                read.append(OffsetRange(span.first, end - 1))
            if end <= span.last:
                reasons.append(
                    f"{partition} could not be read from offset {end} on: the time was over, the "
                    "broker fell silent, or a transaction is open there"
                )
        found.land()
        unread = without(gaps, read)
        answer = Answer(
            holes=Finding.of(without(without(gaps, unread), found.ranges)),
            missed=Finding.of(found.ranges),
            landed_count=found.landed_count,
        )
        return answer + _unknown(unread, *reasons)

    def _messages(self, partition: PartitionId, span: OffsetRange) -> Iterator[tuple[int, Any]]:
        """Give the messages of a span, each with the offset after it: up to there all is read.

        Ends with the span, or before where nothing more can be read. Where it ends behind the
        last message, None stands for one.
        """
        if self._consumer is None:
            self._consumer = self._open_consumer()
        self._consumer.assign([TopicPartition(partition.topic, partition.partition, span.first)])
        heard_at = self._clock()
        offset = span.first
        while (now := self._clock()) < (self._deadline or 0.0):
            if now - heard_at > _SILENT_SECONDS:
                return
            done = max(0, offset - span.first)
            self._on_progress(done, len(span), f"asking Kafka for {partition}")
            for message in self._consumer.consume(_MESSAGES_PER_TURN, _POLL_SECONDS):
                heard_at = self._clock()
                error = message.error()
                offset = int(message.offset() or 0)
                if error is None:
                    if offset > span.last:
                        yield span.last + 1, None
                        return
                    yield offset + 1, message
                    if offset == span.last:
                        return
                elif error.code() == KafkaError._PARTITION_EOF:
                    if offset > span.first:
                        yield min(offset, span.last + 1), None
                    return
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    return


def open_gap_reader(
    settings: KafkaSettings,
    *,
    missed: MissedMessages | None = None,
    seconds: float = 300.0,
    on_progress: Progress = lambda done, total, doing: None,  # noqa: ARG005
) -> GapReader:
    """Give a reader of gaps on the broker that `settings` name; close it, or use it as a context.

    Connects when it is first asked.
    """
    lag_reader = LagReader(settings)
    return GapReader(
        lambda: Consumer(dict(reader_configuration(settings))),
        identify=TopicIdentities(settings.client_configuration()).of,
        bounds=lag_reader.bounds,
        missed=missed,
        seconds=seconds,
        on_progress=on_progress,
        on_close=lag_reader.close,
    )


def _unknown(gaps: Sequence[OffsetRange], *reasons: str) -> Answer:
    return Answer(unknown=Finding.of(gaps), reasons=reasons) if gaps else Answer()


def _spans(gaps: Sequence[OffsetRange]) -> Iterator[OffsetRange]:
    """Give what to read in one go each: gaps, and what lies between near ones."""
    near = joined(OffsetRange(each.first, each.last + _NEAR_OFFSETS) for each in gaps)
    for each in near:
        yield OffsetRange(each.first, each.last - _NEAR_OFFSETS)
