"""One way to log from a model server, called at a given rate; each call is timed.

`python -m bench.logger_contender CONTENDER SERVERS RATE SECONDS FOLDER MEANWHILE TIMED` prints what
it saw as JSON. It runs under the interpreter that has the contender's client, so it imports nothing
else. MEANWHILE is what the process does between two calls:

- `predicting`: the calling thread predicts, as a server does that answers so many requests.
- `sleeping`: it sleeps, so that the core does, too.
- `other-thread`: it sleeps, while another thread computes without a pause.

TIMED is what is timed: the `call` that logs, or a `request`, which predicts for 100 µs, always the
same, and then logs.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import accumulate
from math import exp
from operator import mul
from pathlib import Path
from typing import Any

Log = Callable[[Mapping[str, Any]], object]
Finish = Callable[[], Mapping[str, int]]

TOPIC = "logger-latency"
_WARM_UP_SECONDS = 1.0
_FLUSH_SECONDS = 10.0
_WEIGHTS = [0.1 * number - 1 for number in range(20)]
_VALUES = [0.5 + 0.01 * number for number in range(20)]
# As many predictions take about 100 µs. A time would swallow what interrupts them.
_PREDICTIONS_OF_A_REQUEST = 115


def feature_rows(count: int) -> list[dict[str, Any]]:
    """Make rows of 20 features: 14 numbers, 4 texts, 2 integers; the event has 800 bytes."""
    draw = random.Random(1)  # noqa: S311 - the same rows every time
    return [
        {
            **{f"feature_{number:02d}": draw.random() * 1000 for number in range(14)},
            **{
                f"feature_{number:02d}": draw.choice(("UA", "AA", "DL")) for number in range(14, 18)
            },
            **{f"feature_{number:02d}": draw.randrange(1000) for number in range(18, 20)},
        }
        for _ in range(count)
    ]


def nothing(servers: str, folder: Path) -> tuple[Log, Finish]:  # noqa: ARG001
    """Give a call that does nothing: what the machine itself adds."""
    return lambda _: None, dict


def fixed_loop(servers: str, folder: Path) -> tuple[Log, Finish]:  # noqa: ARG001
    """Give the same few instructions every time: how unevenly the machine itself runs."""

    def log(_: Mapping[str, Any]) -> object:
        total = 0
        for number in range(150):
            total += number
        return total

    return log, dict


def driftline(servers: str, folder: Path) -> tuple[Log, Finish]:  # noqa: ARG001
    """Give PredictionLogger as it comes."""
    return _driftline(servers)


def driftline_spilling(servers: str, folder: Path) -> tuple[Log, Finish]:
    """Give PredictionLogger with a queue that is full after two seconds, and a spill."""
    from ingest.spill import SpillSettings

    return _driftline(servers, max_queue_bytes=8 * 1024 * 1024, spill=SpillSettings(folder))


def _driftline(servers: str, **options: Any) -> tuple[Log, Finish]:
    from ingest.prediction_logger import PredictionLogger

    logger = PredictionLogger(
        "m", "1", bootstrap_servers=servers, topic=TOPIC, kafka={"log_level": 0}, **options
    )

    def log(features: Mapping[str, Any]) -> object:
        return logger.log(features, score=0.83, segments={"origin": "EWR"}, latency_ms=4.2)

    def finish() -> Mapping[str, int]:
        logger.flush(_FLUSH_SECONDS if logger.counters().delivered else 0)
        counters = dataclasses.asdict(logger.counters())
        logger.close(0)
        return {
            "delivered": counters["delivered"],
            "dropped": sum(counters["dropped"].values()),
            "spilled": counters["spilled"],
        }

    return log, finish


def _event(features: Mapping[str, Any]) -> tuple[str, bytes]:
    identifier = str(uuid.uuid4())
    event = {
        "schema_version": 1,
        "prediction_id": identifier,
        "model_name": "m",
        "model_version": "1",
        "predicted_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "features": features,
        "prediction": {"score": 0.83},
        "status": "ok",
        "latency_ms": 4.2,
        "segments": {"origin": "EWR"},
    }
    return identifier, json.dumps(event).encode()


def json_confluent_kafka(servers: str, folder: Path) -> tuple[Log, Finish]:  # noqa: ARG001
    """Give json.dumps and confluent-kafka's produce, then poll, as its documentation does."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "log_level": 0,
        }
    )
    counts = {"delivered": 0, "dropped": 0}

    def on_delivery(error: object, _: object) -> None:
        counts["dropped" if error else "delivered"] += 1

    def log(features: Mapping[str, Any]) -> object:
        identifier, value = _event(features)
        try:
            producer.produce(TOPIC, value, identifier, on_delivery=on_delivery)
        except BufferError:
            counts["dropped"] += 1
        return producer.poll(0)

    def finish() -> Mapping[str, int]:
        producer.flush(_FLUSH_SECONDS if counts["delivered"] else 0)
        found = dict(counts)
        producer.purge()
        return found

    return log, finish


def kafka_python(servers: str, folder: Path) -> tuple[Log, Finish]:  # noqa: ARG001
    """Give kafka-python's producer with json.dumps."""
    import logging

    from kafka import KafkaProducer  # type: ignore[import-not-found]
    from kafka.errors import KafkaError  # type: ignore[import-not-found]

    logging.disable()
    counts = {"delivered": 0, "dropped": 0}
    try:
        producer = KafkaProducer(
            bootstrap_servers=servers,
            acks="all",
            linger_ms=20,
            compression_type="lz4",
            # Its default lets `send` block for a minute while the broker is away.
            max_block_ms=1000,
        )
    except KafkaError:
        # Without a broker there is not even a producer.
        return lambda _: counts.update(dropped=counts["dropped"] + 1), lambda: counts

    def on_success(_: object) -> None:
        counts["delivered"] += 1

    def log(features: Mapping[str, Any]) -> object:
        identifier, value = _event(features)
        try:
            return producer.send(TOPIC, value, identifier.encode()).add_callback(on_success)
        except KafkaError:
            counts["dropped"] += 1
            return None

    def finish() -> Mapping[str, int]:
        if counts["delivered"]:
            with suppress(KafkaError):  # what it did not flush in time shows in the count
                producer.flush(_FLUSH_SECONDS)
        found = dict(counts)
        with suppress(KafkaError):
            producer.close(timeout=0)
        return found

    return log, finish


def json_file(servers: str, folder: Path) -> tuple[Log, Finish]:  # noqa: ARG001
    """Give a line of JSON in a file, flushed: what a log shipper would read."""
    file = (folder / "predictions.jsonl").open("ab")

    def log(features: Mapping[str, Any]) -> object:
        written = file.write(_event(features)[1] + b"\n")
        file.flush()
        return written

    return log, dict


CONTENDERS: Mapping[str, Callable[[str, Path], tuple[Log, Finish]]] = {
    "nothing": nothing,
    "fixed-loop": fixed_loop,
    "driftline": driftline,
    "driftline-spilling": driftline_spilling,
    "json-confluent-kafka": json_confluent_kafka,
    "kafka-python": kafka_python,
    "json-file": json_file,
}


def _sleep_until(due: int) -> None:
    time.sleep(max(0, due - time.perf_counter_ns()) / 1e9)


def _predict() -> float:
    """Compute one prediction of a logistic regression of 20 features."""
    return 1 / (1 + exp(-sum(map(mul, _WEIGHTS, _VALUES))))


def _predict_until(due: int) -> None:
    while time.perf_counter_ns() < due:
        _predict()


def _request(log: Log) -> Log:
    """Give a request that predicts, and then logs."""

    def answer(features: Mapping[str, Any]) -> object:
        for _ in range(_PREDICTIONS_OF_A_REQUEST):
            _predict()
        return log(features)

    return answer


def measure(
    log: Log, rate: float, seconds: float, wait_until: Callable[[int], None]
) -> dict[str, float]:
    """Call `log` at the given mean rate; give percentiles of its duration in microseconds.

    The calls come at random (a Poisson process, the same in every row): a fixed period would be a
    multiple of the kernel's own, whose interrupts then meet either every twentieth call or none. A
    call that comes late is made at once, so a slow contender is offered everything. What it could
    not be offered in twice the time shows in the achieved rate.
    """
    rows = feature_rows(1000)
    started = time.perf_counter_ns()
    log(rows[0])
    first = time.perf_counter_ns() - started
    warm = time.monotonic() + _WARM_UP_SECONDS
    while time.monotonic() < warm:
        log(rows[0])
        time.sleep(0.005)
    draw = random.Random(2)  # noqa: S311
    gaps = (draw.expovariate(rate) * 1e9 for _ in range(int(rate * seconds)))
    due_times = [int(due) for due in accumulate(gaps)]
    took: list[int] = []
    cpu = time.process_time()
    begun = time.perf_counter_ns()
    give_up = begun + int(2e9 * seconds)
    for number, due_time in enumerate(due_times):
        due = begun + due_time
        now = time.perf_counter_ns()
        if now < due:
            wait_until(due)
        elif now > give_up:
            break
        features = rows[number % len(rows)]
        before = time.perf_counter_ns()
        log(features)
        after = time.perf_counter_ns()
        took.append(after - before)
    elapsed = (time.perf_counter_ns() - begun) / 1e9
    took.sort()
    return {
        "first": first / 1e3,
        **{
            name: took[min(len(took) - 1, int(len(took) * share))] / 1e3
            for name, share in (
                ("p10", 0.1),
                ("p50", 0.5),
                ("p90", 0.9),
                ("p99", 0.99),
                ("p99.9", 0.999),
            )
        },
        "max": took[-1] / 1e3,
        "offered": rate,
        "achieved": len(took) / elapsed,
        "cpu_share": (time.process_time() - cpu) / elapsed,
    }


def main() -> None:
    """Measure one contender."""
    name, servers, rate, seconds, folder, meanwhile, timed = sys.argv[1:]
    if meanwhile == "other-thread":
        threading.Thread(target=_compute, daemon=True).start()
    log, finish = CONTENDERS[name](servers, Path(folder))
    wait_until = _predict_until if meanwhile == "predicting" else _sleep_until
    if timed == "request":
        log = _request(log)
    found = measure(log, float(rate), float(seconds), wait_until)
    sys.stdout.write(json.dumps({**found, **finish()}) + "\n")


def _compute() -> None:
    number = 0
    while True:
        number = (number * 31 + 7) % 1_000_003


if __name__ == "__main__":
    main()
