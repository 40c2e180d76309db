"""A loader on the systems that the environment names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer
from prometheus_client import CollectorRegistry

from driftline.settings import ClickHouseSettings, KafkaSettings
from ingest.broker_errors import BrokerErrors
from ingest.lag import LagReader
from ingest.landing import ClickHouseSink, Sink
from ingest.loader import Loader
from ingest.loader_endpoint import HighWatermarkReader, LoaderCollector, served
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS, create_raw_tables
from ingest.topic_identity import TopicIdentities
from ingest.warehouse import connect

_kafka_log = logging.getLogger("driftline.kafka")

COOPERATIVE = "cooperative-sticky"


def consumer_configuration(
    settings: KafkaSettings,
    *,
    assignment_strategy: str = COOPERATIVE,
    session_seconds: float = 10.0,
) -> dict[str, Any]:
    """Give the librdkafka properties that the loader's rules need.

    After `session_seconds` without a heartbeat the group takes a loader's partitions away. (The
    mock broker also lets a group wait that long whenever a member has left.)
    """
    session_ms = int(session_seconds * 1000)
    return {
        **settings.client_configuration(),
        "group.id": settings.consumer_group,
        "client.id": "driftline-loader",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Never jump silently: the loader itself decides where to go on, and records what is lost.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": assignment_strategy,
        "enable.partition.eof": True,
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": min(3000, session_ms // 4),
        "fetch.wait.max.ms": 100,
        # By default a full queue is looked at again after a whole second, in which nothing is
        # fetched: half of the loader's time when it lags.
        "fetch.queue.backoff.ms": 20,
        "queued.max.messages.kbytes": 32 * 1024,
        "queued.min.messages": 50_000,
    }


def topic_tables(settings: KafkaSettings) -> Mapping[str, str]:
    """Give the raw table of each topic that is loaded."""
    return {
        settings.predictions_topic: PREDICTION_EVENTS,
        settings.labels_topic: LABEL_EVENTS,
    }


def open_loader(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    *,
    make_sink: Callable[[ClickHouseSink], Sink] = lambda sink: sink,
    assignment_strategy: str = COOPERATIVE,
    session_seconds: float = 10.0,
    request_seconds: int = 60,
    **options: Any,
) -> Loader:
    """Build a loader of both topics; creates the raw tables where they are missing.

    `make_sink` may wrap the sink (to slow it down, or to fail). A request that ClickHouse does not
    answer in `request_seconds` has failed. `options` are those of Loader.
    Raises the client's error where ClickHouse cannot be reached. The loader closes what was opened.
    """
    client = connect(clickhouse, timeout=request_seconds)
    create_raw_tables(
        client, clickhouse.raw_database, clickhouse.cluster.name if clickhouse.cluster else None
    )
    tables = topic_tables(kafka)
    lag_reader = LagReader(kafka)
    broker_errors = BrokerErrors(kafka.bootstrap_servers)

    def close() -> None:
        lag_reader.close()
        client.close()

    return Loader(
        lambda on_commit: Consumer(
            {
                **consumer_configuration(
                    kafka, assignment_strategy=assignment_strategy, session_seconds=session_seconds
                ),
                "on_commit": on_commit,
                "error_cb": broker_errors.note,
            },
            logger=_kafka_log,
        ),
        make_sink(ClickHouseSink(client, clickhouse.raw_database, tables)),
        topics=tuple(tables),
        identify=TopicIdentities(kafka.client_configuration()).of,
        bounds=lag_reader.bounds,
        complaint=broker_errors.news,
        is_cooperative=assignment_strategy == COOPERATIVE,
        lease_seconds=session_seconds,
        on_close=close,
        **options,
    )


@contextmanager
def watched(loader: Loader, kafka: KafkaSettings, address: tuple[str, int]) -> Iterator[int]:
    """Serve the loader's metrics and health on `address` while the context lasts; gives the port.

    Raises EndpointError where the address cannot be had.
    """
    # A client of its own: one that waits for a silent broker must not hold up locating.
    with LagReader(kafka) as lag_reader:
        watermarks = HighWatermarkReader(
            lag_reader.high_watermarks,
            lambda: [(each.topic, each.partition) for each in loader.status().partitions],
            reach=lag_reader.lag,
        )
        registry = CollectorRegistry()
        registry.register(LoaderCollector(loader.report, loader.status, watermarks))
        with served(address, registry, loader.status) as port:
            watermarks.start()
            try:
                yield port
            finally:
                watermarks.close()
