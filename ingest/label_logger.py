"""LabelLogger: sends the observed truth of predictions to the labels topic."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import orjson

from driftline.settings import labels_topic
from ingest.event_producer import Counters, EventProducer, producer_configuration
from ingest.events import LABEL_TYPE, cloud_event_headers, encode_label
from ingest.spill import SpillSettings


class LabelLogger:
    """Logs labels of one model's predictions to Kafka, with the guarantees of PredictionLogger.

    `source` names where the labels come from; of several labels of one prediction the one with the
    greatest (observed_at, source) counts.
    """

    def __init__(
        self,
        model_name: str,
        *,
        source: str = "online",
        bootstrap_servers: str | None = None,
        topic: str | None = None,
        max_queue_bytes: int = 16 * 1024 * 1024,
        exit_flush_seconds: float = 5.0,
        spill: SpillSettings | None = None,
        kafka: Mapping[str, Any] | None = None,
    ) -> None:
        self.model_name = str(model_name)
        self.source = source
        self._events = EventProducer(
            topic or labels_topic(),
            producer_configuration(bootstrap_servers, overrides=kafka),
            headers=cloud_event_headers(LABEL_TYPE, f"driftline/{self.model_name}/labels"),
            identify=_label_id,
            max_queue_bytes=max_queue_bytes,
            spill=spill,
            exit_flush_seconds=exit_flush_seconds,
        )

    def log(
        self,
        prediction_id: str,
        label: str | float | bool,
        *,
        observed_at: datetime | None = None,
        source: str | None = None,
    ) -> bool:
        """Queue the label of one prediction; False where it was dropped, which `counters()` shows.

        `observed_at` is when the truth became known: now unless given (naive means UTC).
        """
        try:
            event = encode_label(
                model_name=self.model_name,
                prediction_id=prediction_id,
                label=label,
                observed_at=observed_at,
                source=self.source if source is None else source,
            )
        except Exception:  # noqa: BLE001 - whatever is handed over, the server goes on
            self._events.count_drop("unencodable")
            return False
        # No id of its own: the prediction, the time and the source identify the event.
        event_id = f"{event.prediction_id}/{event.occurred_at}"
        is_queued = self._events.send(event.prediction_id, event.value, event_id)
        if is_queued and event.was_repaired:
            self._events.count_oddities(was_repaired=True)
        return is_queued

    def counters(self) -> Counters:
        """Give what became of the labels so far."""
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


def _label_id(key: bytes, value: bytes) -> str:
    return f"{key.decode()}/{orjson.loads(value)['observed_at']}"
