"""What tests of the loader share: sinks that misbehave, commits of others, waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from ingest.batches import Batch
from ingest.landing import Sink
from ingest.loader import Loader, StopWhen
from ingest.offsets import OffsetRange, PartitionId
from tests.ingest.conftest import SESSION_SECONDS, Systems

CAUGHT_UP = StopWhen(is_caught_up=True)
DEADLINE = 60.0


def wait_for(condition: Callable[[], bool], deadline_seconds: float = DEADLINE) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        threading.Event().wait(0.02)


class WrappedSink:
    """A sink that does something else on some inserts."""

    def __init__(self, sink: Sink, insert: Callable[[Sink, Batch, str, int], None]) -> None:
        self._sink = sink
        self._insert = insert
        self._lock = threading.Lock()
        self.tokens: list[str] = []

    def insert(self, batch: Batch, token: str) -> None:
        with self._lock:
            self.tokens.append(token)
            attempt = len(self.tokens)
        self._insert(self._sink, batch, token, attempt)

    def landed_last(self, partition: PartitionId) -> int | None:
        return self._sink.landed_last(partition)

    def missing(self, partition: PartitionId, offsets: Sequence[int]) -> Collection[int]:
        return self._sink.missing(partition, offsets)

    def record_gap(self, partition: PartitionId, gap: OffsetRange, reason: str) -> None:
        self._sink.record_gap(partition, gap, reason)


def wrapped(
    systems: Systems, insert: Callable[[Sink, Batch, str, int], None], **options: Any
) -> tuple[Loader, list[str]]:
    """Give a loader whose inserts are `insert`'s, and the tokens it has used."""
    sinks: list[WrappedSink] = []

    def make_sink(sink: Sink) -> Sink:
        sinks.append(WrappedSink(sink, insert))
        return sinks[0]

    loader = systems.loader(make_sink=make_sink, draw=lambda: 0.1, **options)
    return loader, sinks[0].tokens


def committed_by_member(systems: Systems, partition: int, offset: int, metadata: str = "") -> None:
    """Commit as a member of the group: the mock broker takes it from nobody else."""
    consumer = Consumer(
        {
            "bootstrap.servers": systems.kafka.bootstrap_servers,
            "group.id": systems.kafka.consumer_group,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(SESSION_SECONDS * 1000),
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([systems.kafka.predictions_topic])

    def is_assigned() -> bool:
        consumer.poll(0.05)
        return bool(consumer.assignment())

    wait_for(is_assigned)
    at = TopicPartition(systems.kafka.predictions_topic, partition, offset, metadata)
    consumer.commit(offsets=[at], asynchronous=False)
    consumer.close()


@contextmanager
def running(*loaders: Loader) -> Iterator[None]:
    """Run loaders while the context lasts; then end them properly, or at once where it failed."""
    threads = [threading.Thread(target=loader.run, daemon=True) for loader in loaders]
    for thread in threads:
        thread.start()
    try:
        yield
    except BaseException:
        for loader in loaders:
            loader.stop()
            loader.stop()
        raise
    for loader in loaders:
        loader.stop()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
