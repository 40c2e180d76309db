"""A partition is read from where its landed rows end, however slowly Kafka answers meanwhile."""

from __future__ import annotations

import uuid
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, TopicPartition

from driftline.settings import KafkaSettings
from ingest.lag import Bounds
from ingest.landing import ClickHouseSink
from ingest.loader import Loader, StopWhen
from ingest.open_loader import consumer_configuration
from ingest.raw_tables import PREDICTION_EVENTS, create_raw_tables
from ingest.topic_identity import TopicIdentities
from tests.ingest.conftest import Systems
from tests.ingest.loading import CAUGHT_UP
from tests.kafka.cluster import KafkaCluster
from tests.warehouse_fixtures import ClickHouseProcess

_MESSAGES = 1_000


def test_no_message_is_skipped_where_kafka_is_silent_while_a_partition_is_assigned(
    kafka: KafkaCluster, clickhouse_server: ClickHouseProcess
) -> None:
    # librdkafka asks the broker where a partition ends that is assigned at its end. An answer that
    # comes after a seek sends it to that end half a second later, over all that lies between.
    name = uuid.uuid4().hex[:8]
    topic, database = f"predictions_{name}", f"raw_{name}"
    kafka.admin.create_topic(topic)
    values = [b"%d" % number for number in range(_MESSAGES)]
    # As many fetches as messages: the first would otherwise bring all before they are skipped.
    one_by_one: dict[str, Any] = {"batch.num.messages": 1}
    kafka.admin.produce(topic, values, **one_by_one)
    settings = KafkaSettings.from_environment(
        {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "DRIFTLINE_PREDICTIONS_TOPIC": topic,
            "DRIFTLINE_CONSUMER_GROUP": f"loader_{name}",
        }
    )
    client = clickhouse_server.client(autogenerate_session_id=False)
    create_raw_tables(client, database)
    identity = TopicIdentities(settings.client_configuration()).of(topic)
    is_silent = False

    class SilentBroker(Consumer):
        def incremental_assign(self, partitions: list[TopicPartition]) -> None:
            nonlocal is_silent
            if not is_silent:
                kafka.suspend()
                is_silent = True
            super().incremental_assign(partitions)

    def speak(_: object) -> None:
        if any(each.state == "reading" for each in loader.status().partitions):
            kafka.resume()

    loader = Loader(
        lambda on_commit: SilentBroker(
            {
                **consumer_configuration(settings),
                "fetch.message.max.bytes": 1_000,
                "on_commit": on_commit,
            }
        ),
        ClickHouseSink(client, database, {topic: PREDICTION_EVENTS}),
        topics=(topic,),
        identify=lambda _: identity,
        bounds=lambda _topic, _partition: Bounds(0, _MESSAGES, None),
        on_progress=speak,
    )
    try:
        loader.run(StopWhen(is_caught_up=True))
    finally:
        kafka.heal()
    landed = client.query(f"select `offset` from {database}.{PREDICTION_EVENTS} order by `offset`")
    assert [row[0] for row in landed.result_rows] == list(range(_MESSAGES))
    client.command(f"drop database {database} sync")
    client.close()


class ForgetfulConsumer:
    """A consumer that does not fetch a partition, the first times it is assigned above offset 0."""

    def __init__(self, consumer: Consumer, partition: int, times: int) -> None:
        self._consumer = consumer
        self._partition = partition
        self._times = times
        self.forgot = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        (at,) = partitions
        if (at.partition, at.offset > 0) == (self._partition, True) and self.forgot < self._times:
            self.forgot += 1
            return
        self._consumer.incremental_assign(partitions)


# Assigned anew; located anew; and with a client that never fetches it, however often it is told.
@pytest.mark.parametrize(("times", "forgot"), [(1, 1), (2, 2), (1000, 3)])
def test_partition_that_is_never_fetched_is_read_in_the_end(
    systems: Systems, times: int, forgot: int
) -> None:
    topic = systems.kafka.predictions_topic
    for partition in (1, 2):
        systems.produce(topic, [b"before"] * 5, partition=partition)
    systems.loader().run(CAUGHT_UP)
    for partition in (1, 2):
        systems.produce(topic, [b"after"] * 5, partition=partition)
    loader = systems.loader(silent_seconds=0.5)
    forgetful = ForgetfulConsumer(loader._consumer, 1, times)
    loader._consumer = cast("Consumer", forgetful)
    loader.run(CAUGHT_UP)
    assert forgetful.forgot == forgot
    assert (loader._consumer is cast("Consumer", forgetful)) == (times < 1000)
    expected = [(partition, offset) for partition in (1, 2) for offset in range(10)]
    assert sorted(systems.coordinates()) == expected
