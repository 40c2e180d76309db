"""Messages as PredictionLogger sends them, 600 bytes each, to fill a topic with."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from ingest.events import PREDICTION_TYPE, cloud_event_headers, encode_prediction

MODEL_NAME, MODEL_VERSION = "flight-delay", "2026-11-22"
VALUE_BYTES = 600

_TEMPLATES = 2_000
_ID = "00000000-0000-7000-8000-000000000000"
_CARRIERS = ("UA", "AA", "DL", "B6", "EV", "MQ", "US", "WN")
_ORIGINS = ("EWR", "JFK", "LGA")


class FillError(Exception):
    """A topic could not be filled. The message says why."""


@dataclass(frozen=True)
class Prediction:
    """What a model server hands to `PredictionLogger.log`."""

    features: Mapping[str, Any]
    score: float
    latency_ms: float
    segments: Mapping[str, str]


def predictions(count: int, seed: int = 1) -> list[Prediction]:
    """Make predictions of a model with 15 features, whose events are about `VALUE_BYTES` long."""
    draw = random.Random(seed)  # noqa: S311 - the same data every time, not a secret
    return [
        Prediction(
            features={
                "carrier": draw.choice(_CARRIERS),
                "origin": draw.choice(_ORIGINS),
                "is_weekend": draw.random() < 2 / 7,
                "departure_hour": draw.randrange(24),
                "distance": float(draw.randrange(80, 5_000)),
                **{f"feature_{number:02d}": round(draw.gauss(0, 1), 6) for number in range(10)},
            },
            score=round(draw.random(), 6),
            latency_ms=round(draw.expovariate(0.2), 3),
            segments={"origin": draw.choice(_ORIGINS), "carrier": draw.choice(_CARRIERS)},
        )
        for _ in range(count)
    ]


@dataclass(frozen=True)
class _Template:
    before_id: bytes
    after_id: bytes


def _templates() -> list[_Template]:
    templates = []
    for prediction in predictions(_TEMPLATES):

        def encoded(padding: int, prediction: Prediction = prediction) -> bytes:
            return encode_prediction(
                model_name=MODEL_NAME,
                model_version=MODEL_VERSION,
                features=prediction.features,
                score=prediction.score,
                prediction_id=_ID,
                latency_ms=prediction.latency_ms,
                segments=prediction.segments,
                metadata={"request": "r" * padding},
            ).value

        padded = encoded(VALUE_BYTES - len(encoded(0)))
        before, _, after = padded.partition(_ID.encode())
        templates.append(_Template(before, after))
    return templates


def _ids(seed: int) -> Iterator[bytes]:
    draw = random.Random(seed)  # noqa: S311 - the same data every time, not a secret
    while True:
        digits = b"%032x" % draw.getrandbits(128)
        yield b"%b-%b-4%b-8%b-%b" % (
            digits[:8],
            digits[8:12],
            digits[13:16],
            digits[17:20],
            digits[20:],
        )


def fill(
    bootstrap_servers: str,
    topic: str,
    count: int,
    *,
    on_progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write `count` predictions, each with an id of its own, over all partitions of a topic.

    Key, headers and compression are those of PredictionLogger. Raises FillError where the broker
    did not acknowledge all of them.
    """
    templates, ids = _templates(), _ids(seed=2)
    common = cloud_event_headers(PREDICTION_TYPE, f"driftline/{MODEL_NAME}/{MODEL_VERSION}")
    configuration = {
        "bootstrap.servers": bootstrap_servers,
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 20,
        "queue.buffering.max.messages": 0,
        "queue.buffering.max.kbytes": 256 * 1024,
        "delivery.report.only.error": True,
    }
    failed = 0

    def on_delivery(error: object, _: object) -> None:
        nonlocal failed
        failed += error is not None

    producer = Producer({**configuration, "on_delivery": on_delivery})
    for number in range(count):
        template, event_id = templates[number % _TEMPLATES], next(ids)
        value = b"%b%b%b" % (template.before_id, event_id, template.after_id)
        while True:
            try:
                producer.produce(topic, value, event_id, headers=[*common, ("ce_id", event_id)])
                break
            except BufferError:
                producer.poll(0.05)
        if number % 10_000 == 0:
            producer.poll(0)
            on_progress(number)
    left = producer.flush(120)
    if left or failed:
        raise FillError(f"{left + failed:,} of {count:,} messages to {topic} were not acknowledged")
    on_progress(count)
