"""How far the loader is behind: messages in Kafka that its group has not committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from driftline.settings import KafkaSettings
from ingest.broker_errors import BrokerErrors

_BROKER_SECONDS = 10.0
_MOVE_SECONDS = 0.1
# A group's coordinator is elsewhere now, or is still reading what it had: soon one will answer.
_COORDINATOR_MOVES = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


@dataclass(frozen=True)
class Bounds:
    """What the broker knows of a partition.

    `low` is its first offset, `high` the one after its last, `committed` the group's (None: none)
    and `metadata` what was committed with it.
    """

    low: int
    high: int
    committed: int | None
    metadata: str = ""

    @property
    def lag(self) -> int:
        """Messages not yet committed; those that the broker has dropped count no more."""
        return self.high - max(self.committed or 0, self.low)


class LagReader:
    """Reads offsets and lag of the loader's consumer group without joining it."""

    def __init__(self, settings: KafkaSettings, topics: tuple[str, ...] = ()) -> None:
        self._topics = topics or (settings.predictions_topic, settings.labels_topic)
        # A client of its own, asked one thing at a time: librdkafka (2.16) now and then never
        # answers a watermark query on a consumer that is fetching, whatever the timeout.
        self._lock = threading.Lock()
        self._configuration = {
            **settings.client_configuration(),
            "group.id": settings.consumer_group,
            "enable.auto.commit": False,
            # Failures come as exceptions; librdkafka need not print them too.
            "log_level": 0,
        }
        self._servers = settings.bootstrap_servers
        self._connect()

    def _connect(self) -> None:
        self._errors = BrokerErrors(self._servers)
        self._consumer = Consumer({**self._configuration, "error_cb": self._errors.note})

    def bounds(self, topic: str, partition: int) -> Bounds:
        """Give the offsets of one partition; raises KafkaException where the broker is silent."""
        at = TopicPartition(topic, partition)
        with self._asking():
            self._learn_leaders([topic])
            low, high = self._consumer.get_watermark_offsets(at, timeout=_BROKER_SECONDS)
            found = self._committed(at)
        # An error of the partition is in its place, not raised.
        if found.error is not None:
            raise KafkaException(found.error)
        if found.offset < 0:
            return Bounds(low, high, None)
        return Bounds(low, high, found.offset, found.metadata or "")

    def _committed(self, at: TopicPartition) -> TopicPartition:
        """Ask for what the group has committed, again while its coordinator moves."""
        deadline = time.monotonic() + _BROKER_SECONDS
        while True:
            try:
                return self._consumer.committed([at], timeout=_BROKER_SECONDS)[0]
            except KafkaException as error:
                moves = error.args[0].code() in _COORDINATOR_MOVES
                if not moves or time.monotonic() >= deadline:
                    raise
                self._consumer.poll(_MOVE_SECONDS)  # lets the client look for the new one

    def high_watermarks(
        self, partitions: Iterable[tuple[str, int]]
    ) -> Mapping[tuple[str, int], int]:
        """Give the offset after the last one of each (topic, partition).

        Raises KafkaException where the broker does not answer.
        """
        asked = list(partitions)
        with self._asking():
            self._learn_leaders({topic for topic, _ in asked})
            return {
                (topic, number): self._consumer.get_watermark_offsets(
                    TopicPartition(topic, number), timeout=_BROKER_SECONDS
                )[1]
                for topic, number in asked
            }

    def lag(self) -> Mapping[tuple[str, int], int]:
        """Give messages not yet committed by (topic, partition).

        Raises KafkaException where the broker does not answer.
        """
        with self._asking():
            partitions = [
                (topic, partition)
                for topic in self._topics
                for partition in self._consumer.list_topics(topic, timeout=_BROKER_SECONDS)
                .topics[topic]
                .partitions
            ]
        return {(topic, number): self.bounds(topic, number).lag for topic, number in partitions}

    def _learn_leaders(self, topics: Iterable[str]) -> None:
        """Ask who leads the partitions now.

        librdkafka (2.16) asks the leader that it has heard of last for offsets. Where that died
        since, it waits for it alone, although every other broker knows the new one.
        """
        for topic in topics:
            self._consumer.list_topics(topic, timeout=_BROKER_SECONDS)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except KafkaException as error:
                self._consumer.poll(0)  # lets the client report why
                explained = self._errors.explained(error)
                # librdkafka (2.16) goes on asking a leader that has died; a new client does not.
                self._consumer.close()
                self._connect()
                raise explained from error

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
