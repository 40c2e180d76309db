"""The order in which the replay sends, and what reaches the topics, without a warehouse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from ingest.label_logger import LabelLogger
from ingest.prediction_logger import PredictionLogger
from sandbox import flights_data, flights_replay, flights_training
from sandbox.kafka_broker import start_mock_broker

ROWS = 3_000


@pytest.fixture(scope="module")
def replayed(flights: pd.DataFrame) -> pd.DataFrame:
    """Give some days of April, moved as the demo moves them."""
    return flights_data.replay_rows(flights_data.move(flights, 600)).head(ROWS)


@pytest.fixture
def broker() -> Iterator[str]:
    owner, _, port = start_mock_broker(["predictions", "labels"], set())
    yield f"127.0.0.1:{port}"
    del owner


def nothing(count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.zeros(count, dtype=bool)


def test_schedule_has_every_prediction_and_every_known_label_in_time_order(
    replayed: pd.DataFrame,
) -> None:
    events = flights_replay.schedule(replayed, nothing(ROWS), nothing(ROWS))
    assert sorted(events.rows[~events.is_label]) == list(range(ROWS))
    arrived = np.flatnonzero(replayed["arrived_at"].notna())
    assert 0 < len(arrived) < ROWS
    assert sorted(events.rows[events.is_label]) == arrived.tolist()
    at = np.where(
        events.is_label,
        replayed["arrived_at"].astype("int64").to_numpy()[events.rows],
        replayed["predicted_at"].astype("int64").to_numpy()[events.rows],
    )
    assert (np.diff(at) >= 0).all()


def test_schedule_leaves_out_what_has_landed(replayed: pd.DataFrame) -> None:
    landed = np.arange(ROWS) < 1_000
    events = flights_replay.schedule(replayed, landed, ~landed)
    assert events.rows[~events.is_label].min() == 1_000
    assert events.rows[events.is_label].max() < 1_000
    assert len(flights_replay.schedule(replayed, ~nothing(ROWS), ~nothing(ROWS))) == 0


def test_replay_sends_each_event_once_as_the_model_saw_it(
    replayed: pd.DataFrame, model: flights_training.TrainedModel, broker: str
) -> None:
    ids = flights_data.prediction_ids(replayed)
    events = flights_replay.schedule(replayed, nothing(ROWS), nothing(ROWS))
    waits: list[int] = []
    progress: list[tuple[int, int]] = []
    with (
        PredictionLogger("flights_delay", "1", bootstrap_servers=broker) as predictions,
        LabelLogger("flights_delay", bootstrap_servers=broker, source="arrivals") as labels,
    ):
        flights_replay.replay(
            replayed,
            ids,
            events,
            model,
            weeks=600,
            predictions=predictions,
            labels=labels,
            wait_for_loader=lambda: waits.append(1),
            on_progress=lambda done, of: progress.append((done, of)),
        )
    assert len(waits) == -(-len(events) // flights_replay.EVENTS_PER_TURN)
    assert progress[-1] == (len(events), len(events))

    sent = read(broker, "predictions", ROWS)
    assert sorted(key for key, _ in sent) == sorted(ids)
    of_id = dict(sent)
    scores = model.scores(replayed)
    for row in (0, 1_234, ROWS - 1):
        event = of_id[ids[row]]
        flight = replayed.iloc[row]
        assert event["prediction"]["score"] == scores[row]
        expected = "late" if scores[row] >= model.threshold else "on_time"
        assert event["prediction"]["label"] == expected
        assert event["predicted_at"] == flight["predicted_at"].strftime("%Y-%m-%dT%H:%M:%S.000Z")
        assert event["segments"] == {"origin": flight["origin"], "carrier": flight["carrier"]}
        assert event["features"].keys() == set(flights_data.FEATURES)
        assert event["features"]["distance"] == flight["distance"]
        assert event["metadata"] == {"flight": flight["flight_key"], "weeks_moved": 600}
        assert event["latency_ms"] > 0
    no_gust = int(np.flatnonzero(replayed["wind_gust"].isna())[0])
    assert of_id[ids[no_gust]]["features"]["wind_gust"] is None

    arrived = replayed["arrived_at"].notna()
    truths = read(broker, "labels", int(arrived.sum()))
    assert sorted(key for key, _ in truths) == sorted(np.array(ids)[arrived.to_numpy()])
    of_label = dict(truths)
    first = int(np.flatnonzero(arrived)[0])
    assert of_label[ids[first]]["label"] == replayed["label"].iloc[first]
    assert of_label[ids[first]]["observed_at"] == replayed["arrived_at"].iloc[first].strftime(
        "%Y-%m-%dT%H:%M:%S.000Z"
    )


def test_replay_says_what_was_lost_when_the_queue_is_too_small(
    replayed: pd.DataFrame, model: flights_training.TrainedModel, broker: str
) -> None:
    ids = flights_data.prediction_ids(replayed)
    events = flights_replay.schedule(replayed, nothing(ROWS), nothing(ROWS))
    with (
        PredictionLogger(
            "flights_delay",
            "1",
            bootstrap_servers=broker,
            max_queue_bytes=1,
            kafka={"linger.ms": 500},
        ) as predictions,
        LabelLogger("flights_delay", bootstrap_servers=broker) as labels,
        pytest.raises(flights_replay.ReplayError, match="queue_full"),
    ):
        flights_replay.replay(
            replayed,
            ids,
            events,
            model,
            weeks=600,
            predictions=predictions,
            labels=labels,
            wait_for_loader=lambda: None,
        )


def read(broker: str, topic: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Read `count` messages of a topic from its beginning, and see that there are no more."""
    consumer = Consumer(
        {"bootstrap.servers": broker, "group.id": "reader", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(4)])
    found: list[tuple[str, dict[str, Any]]] = []
    ends: set[int | None] = set()
    while len(ends) < 4:
        message = consumer.poll(30)
        assert message is not None, f"only {len(found)} of {count} messages came"
        if message.error() is not None:
            ends.add(message.partition())
        else:
            found.append(((message.key() or b"").decode(), json.loads(message.value() or b"")))
    consumer.close()
    assert len(found) == count
    return found
