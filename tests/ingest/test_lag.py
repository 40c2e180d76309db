"""What the lag reader makes of a broker that cannot answer yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from ingest.lag import LagReader
from tests.ingest.conftest import Systems


class Moving:
    """A consumer whose first questions for committed offsets end with an error."""

    def __init__(self, consumer: Any, code: int, failures: int) -> None:
        self._consumer = consumer
        self._error = KafkaError(code)
        self.failures = failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def committed(
        self, partitions: Sequence[TopicPartition], *, timeout: float
    ) -> Sequence[TopicPartition]:
        if self.failures:
            self.failures -= 1
            raise KafkaException(self._error)
        found: Sequence[TopicPartition] = self._consumer.committed(partitions, timeout=timeout)
        return found


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    ],
)
def test_lag_waits_for_a_coordinator_that_moves(
    systems: Systems, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    systems.produce(systems.kafka.predictions_topic, [b"event"] * 7, partition=0)
    with LagReader(systems.kafka) as reader:
        moving = Moving(reader._consumer, code, failures=2)
        monkeypatch.setattr(reader, "_consumer", moving)
        assert sum(reader.lag().values()) == 7
    assert moving.failures == 0


def test_any_other_error_is_raised_at_once(
    systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LagReader(systems.kafka) as reader:
        moving = Moving(reader._consumer, KafkaError.GROUP_AUTHORIZATION_FAILED, failures=2)
        monkeypatch.setattr(reader, "_consumer", moving)
        with pytest.raises(KafkaException, match="GROUP_AUTHORIZATION_FAILED"):
            reader.lag()
        assert moving.failures == 1
