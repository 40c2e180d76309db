"""PredictionLogger: what a model server calls for each prediction."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from driftline.settings import predictions_topic
from ingest.event_producer import Counters, EventProducer, producer_configuration
from ingest.events import (
    PREDICTION_TYPE,
    cloud_event_headers,
    encode_prediction,
    encode_truncated,
    new_event_id,
)
from ingest.spill import SpillSettings

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class PredictionLogger:
    """Logs the predictions of one model version to Kafka; `log` never blocks and never raises.

    Usable as plain calls, as a context manager (closes at the end) and, by `logged`, as a
    decorator. Safe to share between threads and across a fork (gunicorn --preload). At exit of the
    process it flushes for at most `exit_flush_seconds`; what was not sent is spilled, or counted as
    failed and logged.

    `bootstrap_servers` defaults to KAFKA_BOOTSTRAP_SERVERS and `topic` to
    DRIFTLINE_PREDICTIONS_TOPIC or `predictions`; security settings come from KAFKA_*.
    `max_queue_bytes` bounds what waits in memory. With `spill`, events that find no room there, and
    those that Kafka does not take in time, wait on disk and are sent later. An event above
    `max_event_bytes` is replaced by a marker with its size and SHA-256. `kafka` overrides any
    librdkafka property.
    """

    def __init__(
        self,
        model_name: str,
        model_version: str,
        *,
        bootstrap_servers: str | None = None,
        topic: str | None = None,
        max_queue_bytes: int = 64 * 1024 * 1024,
        max_event_bytes: int = 900_000,
        exit_flush_seconds: float = 5.0,
        spill: SpillSettings | None = None,
        kafka: Mapping[str, Any] | None = None,
    ) -> None:
        self.model_name = str(model_name)
        self.model_version = str(model_version)
        self._max_event_bytes = max_event_bytes
        self._events = EventProducer(
            topic or predictions_topic(),
            producer_configuration(bootstrap_servers, overrides=kafka),
            headers=cloud_event_headers(
                PREDICTION_TYPE, f"driftline/{self.model_name}/{self.model_version}"
            ),
            identify=_prediction_id,
            max_queue_bytes=max_queue_bytes,
            spill=spill,
            exit_flush_seconds=exit_flush_seconds,
        )

    def log(
        self,
        features: Mapping[str, Any],
        *,
        score: float | None = None,
        value: float | None = None,
        label: str | float | bool | None = None,
        scores: Mapping[str, float] | None = None,
        prediction_id: str | None = None,
        predicted_at: datetime | None = None,
        latency_ms: float | None = None,
        status: str = "ok",
        segments: Mapping[str, Any] | None = None,
        entity_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Queue one prediction and give its id, which the label must name later.

        `features` are those the model saw, after preprocessing: scalars, by name. A binary model
        gives `score` (the probability of the positive class), a regression `value`, a multiclass
        one `label` and `scores` by class. `segments` are the populations this row belongs to, e.g.
        {"origin": "EWR"}. `predicted_at` is now unless given (naive means UTC); the id is a UUIDv7
        of it unless given.

        Odd values (NaN, NumPy, Decimal, bytes, …) are converted as ingest.events documents. What
        cannot be encoded or queued is dropped and shows in `counters()`.
        """
        try:
            event = encode_prediction(
                model_name=self.model_name,
                model_version=self.model_version,
                features=features,
                score=score,
                value=value,
                label=label,
                scores=scores,
                prediction_id=prediction_id,
                predicted_at=predicted_at,
                latency_ms=latency_ms,
                status=status,
                segments=segments,
                entity_id=entity_id,
                metadata=metadata,
            )
            encoded, identifier = event.value, event.prediction_id
            is_oversize = len(encoded) > self._max_event_bytes
            if is_oversize:
                encoded = encode_truncated(
                    event, model_name=self.model_name, model_version=self.model_version
                )
        except Exception:  # noqa: BLE001 - whatever a model hands over, its server goes on
            self._events.count_drop("unencodable")
            if isinstance(prediction_id, str):
                return prediction_id
            return new_event_id(time.time_ns() // 1_000_000)
        is_queued = self._events.send(identifier, encoded, identifier)
        if is_queued and (event.was_repaired or is_oversize):
            self._events.count_oddities(was_repaired=event.was_repaired, was_truncated=is_oversize)
        return identifier

    def logged(
        self,
        *,
        features: Callable[..., Mapping[str, Any]] | None = None,
        prediction: Callable[[Any], Mapping[str, Any]] | None = None,
    ) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
        """Decorate a function that predicts one row, so that each call is logged with its latency.

        `features` gets the call's arguments and gives the mapping of features (default: the first
        argument is it). `prediction` gets the result and gives `log`'s keywords (default: a number
        is the score, a text the label, a mapping the keywords themselves). A call that raises is
        logged with status "error", and raises.
        """

        def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
            @functools.wraps(function)
            def predict(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
                started = time.perf_counter()
                try:
                    result = function(*args, **kwargs)
                except Exception:
                    self._log_call(features, args, kwargs, started, {"status": "error"})
                    raise
                try:
                    outcome = dict((prediction or _outcome)(result))
                except Exception:  # noqa: BLE001 - the caller's result is fine, only its log is not
                    self._events.count_drop("unencodable")
                else:
                    self._log_call(features, args, kwargs, started, outcome)
                return result

            return predict

        return decorate

    def _log_call(
        self,
        features: Callable[..., Mapping[str, Any]] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        started: float,
        outcome: Mapping[str, Any],
    ) -> None:
        latency_ms = (time.perf_counter() - started) * 1000
        try:
            seen = features(*args, **kwargs) if features else args[0]
            self.log(seen, **{"latency_ms": latency_ms, **outcome})
        except Exception:  # noqa: BLE001 - a wrong extractor must not fail the prediction
            self._events.count_drop("unencodable")

    def counters(self) -> Counters:
        """Give what became of the events so far."""
        return self._events.counters()

    def flush(self, timeout: float = 10.0) -> int:
        """Wait up to `timeout` seconds until nothing waits in memory; give how many still do."""
        return self._events.flush(timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Flush for up to `timeout` seconds and stop; later calls of `log` are dropped."""
        self._events.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _prediction_id(key: bytes, value: bytes) -> str:  # noqa: ARG001
    return key.decode()


def _outcome(result: Any) -> Mapping[str, Any]:
    if isinstance(result, Mapping):
        return result
    if isinstance(result, str):
        return {"label": result}
    return {"score": result}
