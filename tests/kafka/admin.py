"""What tests do to a Kafka cluster from outside: topics, offsets, groups, messages of every kind.

Works on any broker, the mock one included as far as it knows the requests.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from confluent_kafka.cimpl import NewTopic

_SECONDS = 30.0
_COORDINATOR_STARTS = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


@dataclass(frozen=True)
class Committed:
    """What a group has committed for a partition; `metadata` is the client's own text."""

    offset: int
    metadata: str | None = None


class Transaction:
    """A transaction with messages in it, open until it is committed or aborted.

    Left open, it holds readers of committed messages back until its time-out. `offsets` are those
    of the messages, which the broker has already.
    """

    def __init__(self, producer: Any, offsets: Sequence[int]) -> None:
        self._producer = producer
        self.offsets = list(offsets)

    def commit(self) -> None:
        """Make the messages visible."""
        self._producer.commit_transaction(_SECONDS)

    def abort(self) -> None:
        """Discard the messages: they stay in the log and nobody who reads committed ones sees
        them.
        """
        self._producer.abort_transaction(_SECONDS)


class KafkaAdmin:
    """Topics, offsets and messages of the cluster at `bootstrap_servers`.

    Every method waits until what it did holds, and raises KafkaException or TimeoutError otherwise.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "log_level": 0}
        self.client = AdminClient(self._servers)

    def set_password(self, user: str, password: str) -> None:
        """Let a user in by SCRAM-SHA-512."""
        credential = UserScramCredentialUpsertion(
            user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), password.encode()
        )
        self.client.alter_user_scram_credentials([credential])[user].result(_SECONDS)

    # -- topics -------------------------------------------------------------------------------

    def create_topic(
        self,
        topic: str,
        partitions: int = 1,
        *,
        replicas: int = 1,
        config: Mapping[str, str] | None = None,
    ) -> str:
        """Create a topic, wait until its partitions have leaders, and give its id."""
        new = NewTopic(topic, partitions, replicas, config=dict(config or {}))
        self.client.create_topics([new])[topic].result(_SECONDS)
        deadline = time.monotonic() + _SECONDS
        while True:
            found = self.client.list_topics(topic, timeout=_SECONDS).topics[topic]
            if len(found.partitions) == partitions and all(
                each.leader >= 0 for each in found.partitions.values()
            ):
                try:
                    return self.topic_id(topic)
                except KafkaException as error:
                    # Another node answers, which has not heard of it yet.
                    if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise
            if time.monotonic() > deadline:
                raise TimeoutError(f"partitions of topic {topic} have no leaders")
            time.sleep(0.02)

    def topic_id(self, topic: str) -> str:
        """Give the id of a topic: another one for every topic that ever had this name."""
        described = self.client.describe_topics(TopicCollection([topic]))
        return str(described[topic].result(_SECONDS).topic_id)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic, and wait until no broker knows it."""
        self.client.delete_topics([topic])[topic].result(_SECONDS)
        deadline = time.monotonic() + _SECONDS
        while topic in self.client.list_topics(timeout=_SECONDS).topics:
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {topic} is still there")
            time.sleep(0.02)

    def bounds(self, topic: str, partition: int = 0) -> tuple[int, int]:
        """Give the first offset that the log has, and the one after its last."""
        reader = Consumer({**self._servers, "group.id": "bounds"})
        try:
            low, high = reader.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_SECONDS
            )
        finally:
            reader.close()
        return low, high

    def delete_records(self, topic: str, before: int, partition: int = 0) -> int:
        """Drop the messages below offset `before`, as retention does; give the first kept."""
        at = TopicPartition(topic, partition, before)
        return int(self.client.delete_records([at])[at].result(_SECONDS).low_watermark)

    # -- groups -------------------------------------------------------------------------------

    def committed(self, group: str, topic: str) -> dict[int, Committed]:
        """Give what a group has committed, by partition of a topic."""
        request = [ConsumerGroupTopicPartitions(group)]
        found = _of_coordinator(lambda: self.client.list_consumer_group_offsets(request)[group])
        return {
            each.partition: Committed(each.offset, each.metadata)
            for each in found.topic_partitions
            if each.topic == topic and each.offset >= 0
        }

    def alter_committed(
        self, group: str, topic: str, offsets: Mapping[int, int | Committed]
    ) -> None:
        """Set the committed offsets of a group without members, by partition."""
        wanted = []
        for partition, value in offsets.items():
            committed = value if isinstance(value, Committed) else Committed(value)
            wanted.append(
                TopicPartition(topic, partition, committed.offset, committed.metadata or "")
            )
        request = [ConsumerGroupTopicPartitions(group, wanted)]
        altered = _of_coordinator(lambda: self.client.alter_consumer_group_offsets(request)[group])
        for each in altered.topic_partitions:
            if each.error is not None:
                raise KafkaException(each.error)

    def delete_group(self, group: str) -> None:
        """Delete a group without members, and all it has committed."""
        _of_coordinator(lambda: self.client.delete_consumer_groups([group])[group])

    def members(self, group: str) -> dict[str, list[tuple[str, int]]]:
        """Give the (topic, partition)s of each member of a group, by member id."""
        described = _of_coordinator(lambda: self.client.describe_consumer_groups([group])[group])
        return {
            member.member_id: [
                (at.topic, at.partition) for at in member.assignment.topic_partitions
            ]
            for member in described.members
        }

    def wait_for_members(self, group: str, count: int, *, seconds: float = 60.0) -> None:
        """Wait until a group has exactly `count` members."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = len(self.members(group))
            except KafkaException as error:
                # A group that nobody ever joined.
                if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise
                found = 0
            if found == count:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"group {group} has {found} members, not {count}")
            time.sleep(0.05)

    # -- messages -----------------------------------------------------------------------------

    def produce(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        partition: int = 0,
        keys: Sequence[bytes | None] | None = None,
        headers: Sequence[tuple[str, bytes | None]] | None = None,
        **configuration: Any,
    ) -> list[int]:
        """Send messages in order and give their offsets, once every replica in sync has them."""
        producer = Producer({**self._servers, "enable.idempotence": True, **configuration})
        return _send(producer, topic, values, partition, keys, headers)

    def begin_transaction(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        partition: int = 0,
        transactional_id: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> Transaction:
        """Send messages in a transaction that stays open, up to `timeout_seconds`."""
        producer = Producer(
            {
                **self._servers,
                "transactional.id": transactional_id or f"test-{uuid.uuid4()}",
                "transaction.timeout.ms": int(timeout_seconds * 1000),
            }
        )
        producer.init_transactions(_SECONDS)
        producer.begin_transaction()
        return Transaction(producer, _send(producer, topic, values, partition))

    def produce_transaction(
        self, topic: str, values: Sequence[bytes | None], *, partition: int = 0
    ) -> list[int]:
        """Send messages in a transaction and commit it; the offset after them is its mark."""
        transaction = self.begin_transaction(topic, values, partition=partition)
        transaction.commit()
        return transaction.offsets

    def produce_aborted(
        self, topic: str, values: Sequence[bytes | None], *, partition: int = 0
    ) -> list[int]:
        """Send messages in a transaction and abort it; the offset after them is its mark."""
        transaction = self.begin_transaction(topic, values, partition=partition)
        transaction.abort()
        return transaction.offsets

    def messages(
        self, topic: str, partition: int = 0, *, isolation: str = "read_committed"
    ) -> dict[int, bytes | None]:
        """Give the values of a partition by offset, from its beginning to its end."""
        reader = Consumer(
            {
                **self._servers,
                "group.id": "messages",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "fetch.wait.max.ms": 20,
            }
        )
        reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        found: dict[int, bytes | None] = {}
        deadline = time.monotonic() + _SECONDS
        try:
            while time.monotonic() < deadline:
                for message in reader.consume(1000, 0.2):
                    error = message.error()
                    if error is None:
                        found[int(message.offset() or 0)] = message.value()
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return found
                    elif not error.retriable():
                        raise KafkaException(error)
        finally:
            reader.close()
        raise TimeoutError(f"{topic}[{partition}] was not read to its end")


def _of_coordinator(request: Callable[[], Any]) -> Any:
    """Ask a group's coordinator, again where it has just started and does not know its groups."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return request().result(_SECONDS)
        except KafkaException as error:
            if error.args[0].code() not in _COORDINATOR_STARTS or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _send(
    producer: Any,
    topic: str,
    values: Sequence[bytes | None],
    partition: int,
    keys: Sequence[bytes | None] | None = None,
    headers: Sequence[tuple[str, bytes | None]] | None = None,
) -> list[int]:
    offsets: list[int] = []
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: Any) -> None:
        if error is None:
            offsets.append(message.offset())
        else:
            failures.append(error)

    for index, value in enumerate(values):
        options = {} if headers is None else {"headers": list(headers)}
        key = None if keys is None else keys[index]
        while True:
            try:
                producer.produce(
                    topic, value, key, partition=partition, on_delivery=delivered, **options
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(_SECONDS):
        raise TimeoutError(f"messages to {topic}[{partition}] were not acknowledged")
    if failures:
        raise KafkaException(failures[0])
    return offsets
