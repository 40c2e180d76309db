"""Replaying the flights: predictions and labels, in the order in which they would have come.

What happens is what happens at a model server: `PredictionLogger` and `LabelLogger` send to Kafka,
`driftline load` lands it. Only the clock is missing, so the replay must not outrun the loader: the
sandbox's broker keeps some 5 MB a partition and drops the oldest beyond that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ingest.event_producer import Counters
from ingest.label_logger import LabelLogger
from ingest.prediction_logger import PredictionLogger
from sandbox.flights_data import FEATURES, NEGATIVE_LABEL, POSITIVE_LABEL, SEGMENTS
from sandbox.flights_training import TrainedModel
from sandbox.problems import MendableError

EVENTS_PER_TURN = 8_000
LABEL_SOURCE = "arrivals"
_FLUSH_SECONDS = 60.0


class ReplayError(MendableError):
    """The replay lost events or cannot go on. The message says what was lost and what to do."""


@dataclass(frozen=True)
class Schedule:
    """Which events to send, in time order.

    `rows[i]` is the row of the flights that event i is about, `is_label[i]` whether it is the
    flight's label or else its prediction.
    """

    rows: npt.NDArray[np.intp]
    is_label: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)


def schedule(
    flights: pd.DataFrame,
    has_prediction: npt.NDArray[np.bool_],
    has_label: npt.NDArray[np.bool_],
) -> Schedule:
    """Put in time order what the warehouse has not: the predictions and labels not marked here.

    A flight that never arrived has no label to send.
    """
    predicted = np.flatnonzero(~has_prediction)
    arrived = np.flatnonzero(flights["arrived_at"].notna().to_numpy() & ~has_label)
    at = np.concatenate(
        [
            flights["predicted_at"].astype("int64").to_numpy()[predicted],
            flights["arrived_at"].iloc[arrived].astype("int64").to_numpy(),
        ]
    )
    rows = np.concatenate([predicted, arrived])
    is_label = np.concatenate([np.zeros(len(predicted), bool), np.ones(len(arrived), bool)])
    # Of one moment: predictions first, then by row, so that every run sends in the same order.
    order = np.lexsort((rows, is_label, at))
    return Schedule(rows[order], is_label[order])


def replay(
    flights: pd.DataFrame,
    ids: list[str],
    events: Schedule,
    model: TrainedModel,
    *,
    weeks: int,
    predictions: PredictionLogger,
    labels: LabelLogger,
    wait_for_loader: Callable[[], None],
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Send `events` about `flights` (whose prediction ids are `ids`) and flush both loggers.

    Each turn scores its predictions as one batch; their `latency_ms` is that batch's time divided
    by its rows. `wait_for_loader` is called between turns and returns once there is room. Raises
    ReplayError when a logger has dropped an event.
    """
    known_at = flights["arrived_at"].dt.to_pydatetime()
    true_labels = flights["label"].tolist()
    for begin in range(0, len(events), EVENTS_PER_TURN):
        wait_for_loader()
        rows = events.rows[begin : begin + EVENTS_PER_TURN]
        is_label = events.is_label[begin : begin + EVENTS_PER_TURN]
        calls = _prediction_calls(flights, ids, rows[~is_label], model, weeks, clock)
        for row, is_truth in zip(rows.tolist(), is_label.tolist(), strict=True):
            if is_truth:
                labels.log(ids[row], true_labels[row], observed_at=known_at[row])
            else:
                predictions.log(**next(calls))
        for logger in (predictions, labels):
            logger.flush(_FLUSH_SECONDS)
            _require_lossless(logger.counters())
        on_progress(begin + len(rows), len(events))


def _prediction_calls(
    flights: pd.DataFrame,
    ids: list[str],
    rows: npt.NDArray[np.intp],
    model: TrainedModel,
    weeks: int,
    clock: Callable[[], float],
) -> Iterator[dict[str, Any]]:
    if not len(rows):
        return
    batch = flights.iloc[rows]
    started = clock()
    scores = model.scores(batch)
    latency_ms = (clock() - started) * 1000 / len(rows)
    columns = [batch[name].astype(object).where(batch[name].notna(), None) for name in FEATURES]
    for row, score, at, key, *features in zip(
        rows.tolist(),
        scores.tolist(),
        batch["predicted_at"].dt.to_pydatetime(),
        batch["flight_key"].tolist(),
        *columns,
        strict=True,
    ):
        seen = dict(zip(FEATURES, features, strict=True))
        yield {
            "features": seen,
            "score": score,
            "label": POSITIVE_LABEL if score >= model.threshold else NEGATIVE_LABEL,
            "prediction_id": ids[row],
            "predicted_at": at,
            "latency_ms": latency_ms,
            "segments": {name: seen[name] for name in SEGMENTS},
            "entity_id": key.split(" ")[1],
            "metadata": {"flight": key, "weeks_moved": weeks},
        }


def _require_lossless(counters: Counters) -> None:
    lost = {**counters.dropped, **counters.failed}
    if lost or counters.depth:
        raise ReplayError(
            f"events were not delivered: {lost or f'{counters.depth} still queued'}. "
            "See that Kafka answers (driftline sandbox status), then run the demo again: "
            "it goes on where it stopped"
        )
