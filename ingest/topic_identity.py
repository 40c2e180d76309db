"""Which incarnation of a topic this is: one deleted and made again starts at offset 0 again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from ingest.broker_errors import BrokerErrors

_MOCK_CLUSTER = "mockCluster"
_ZERO_IDS = ("", "AAAAAAAAAAAAAAAAAAAAAA")
# A question that is open for so long may be waiting for a node that has died.
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class TopicIdentity:
    """The cluster's id and the topic's."""

    cluster: str
    topic_id: str


class TopicIdentities:
    """Asks a broker for the identity of topics.

    Brokers before Kafka 2.8, and librdkafka's mock broker, have no topic ids. There the cluster's
    id stands in: a mock broker that is started anew (at offset 0 again) has a new one.
    """

    def __init__(self, configuration: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        self._errors = BrokerErrors(str(configuration.get("bootstrap.servers")))
        reporting: dict[str, Any] = {"log_level": 0, "error_cb": self._errors.note}
        self._client = AdminClient({**configuration, **reporting})
        self._timeout = timeout
        self._cluster: str | None = None

    def of(self, topic: str) -> TopicIdentity:
        """Give the identity of `topic`; raises KafkaException where the broker does not answer."""
        try:
            return self._ask(topic)
        except KafkaException as error:
            self._client.poll(0)  # lets the client report why
            raise self._errors.explained(error) from error

    def _ask(self, topic: str) -> TopicIdentity:
        if self._cluster is not None:
            # Asked before every insert: about this topic only, not about all of the cluster's.
            return TopicIdentity(self._cluster, self._topic_id(topic) or self._cluster)
        metadata = self._client.list_topics(timeout=self._timeout)
        cluster = metadata.cluster_id or "unknown"
        # The mock broker has no controller, and a request to one would only time out.
        is_mock = cluster.startswith(_MOCK_CLUSTER)
        if metadata.controller_id not in metadata.brokers and not is_mock:
            # A cluster that is electing one. Its topics have ids, though it cannot tell them now.
            raise KafkaException(KafkaError(KafkaError._WAIT_COORD))
        if is_mock or not metadata.cluster_id:
            topic_id = "" if is_mock else self._topic_id(topic)
            return TopicIdentity(cluster, topic_id or metadata.cluster_id or "")
        self._cluster = cluster
        return TopicIdentity(cluster, self._topic_id(topic) or cluster)

    def _topic_id(self, topic: str) -> str:
        try:
            topic_id = self._described_id(topic)
        except KafkaException as error:
            # Only a broker that cannot know: any other error must not change the identity.
            if error.args[0].code() in (
                KafkaError._UNSUPPORTED_FEATURE,
                KafkaError.UNSUPPORTED_VERSION,
            ):
                return ""
            raise
        return "" if topic_id in _ZERO_IDS else topic_id

    def _described_id(self, topic: str) -> str:
        deadline = time.monotonic() + self._timeout
        described = self._client.describe_topics(
            TopicCollection([topic]), request_timeout=self._timeout
        )[topic]
        while True:
            left = deadline - time.monotonic()
            try:
                return str(described.result(min(left, _PATIENCE_SECONDS)).topic_id)
            except TimeoutError:
                # The future's own: its request's comes as KafkaException.
                if left <= _PATIENCE_SECONDS:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
                # librdkafka (2.16) waits for the controller that it has heard of last, although
                # that has died, connecting without a pause. Told of another one it asks that.
                self._client.list_topics(timeout=left)
