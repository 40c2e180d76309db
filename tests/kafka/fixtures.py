"""Apache Kafka for tests: one node, or three, that live as long as the session.

Tests share them, so each uses topics and groups of its own names; one that kills or suspends a node
ends with `heal()`. Without Java, or Maven for the first time, such tests are skipped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import JarsUnavailableError


@contextmanager
def _cluster(nodes: int) -> Iterator[KafkaCluster]:
    with tempfile.TemporaryDirectory(prefix="driftline-kafka-", ignore_cleanup_errors=True) as path:
        try:
            cluster = KafkaCluster(Path(path) / "kafka", nodes=nodes)
        except JarsUnavailableError as error:
            pytest.skip(f"Apache Kafka cannot run here: {error}")
        with cluster:
            yield cluster


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaCluster]:
    """Run one node of Apache Kafka."""
    with _cluster(1) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka_trio() -> Iterator[KafkaCluster]:
    """Run three nodes of Apache Kafka, for what needs replicas."""
    with _cluster(3) as cluster:
        yield cluster
