"""Log predict_proba of any scikit-learn classifier, row by row.

classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
logged = LoggedClassifier(classifier, PredictionLogger("flights_delay", "1"), segments=["origin"])
probabilities, prediction_ids = logged.predict_proba_and_ids(rows)
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from driftline import PredictionLogger

_log = logging.getLogger(__name__)

Probabilities = npt.NDArray[np.float64]


class Classifier(Protocol):
    """A fitted classifier with one output: also a pipeline or a search."""

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """The classes, in the order of the columns of predict_proba."""
        ...

    def predict_proba(self, rows: Any) -> Any:
        """Give one row of probabilities for each of `rows`, which sum to 1."""
        ...


class LoggedClassifier:
    """A fitted classifier that logs each row it gives probabilities for.

    Two classes are logged as `score`, the probability of the second (`classes_[1]`, scikit-learn's
    positive class); more as `label`, the likeliest, and `scores` by class. A row's features are its
    columns, under the names of the frame or, for an array, `feature_names` (default: those that the
    classifier was fitted with, else x0, x1, …). NaN, pandas' and scikit-learn's missing value, is
    logged as null. `segments` names columns that are populations.

    Latency is that of the call: each row of a batch waited for all of it. A call that raises is
    logged with the status "error", and raises. Nothing else about logging ever raises.
    """

    def __init__(
        self,
        classifier: Classifier,
        logger: PredictionLogger,
        *,
        feature_names: Sequence[str] | None = None,
        segments: Sequence[str] = (),
    ) -> None:
        self.classifier = classifier
        self.logger = logger
        self._feature_names = feature_names
        self._segments = segments

    def predict_proba(self, rows: pd.DataFrame | npt.ArrayLike) -> Probabilities:
        """Give and log the probabilities, of shape (rows, classes)."""
        return self.predict_proba_and_ids(rows)[0]

    def predict_proba_and_ids(
        self, rows: pd.DataFrame | npt.ArrayLike
    ) -> tuple[Probabilities, list[str]]:
        """Give and log the probabilities, with each row's id, which its label must name later.

        The ids are empty where the rows could not be read for the log (a sparse matrix).
        """
        started = time.perf_counter()
        try:
            probabilities = np.asarray(self.classifier.predict_proba(rows), dtype=np.float64)
        except Exception:
            self._log_rows(rows, None, started)
            raise
        return probabilities, self._log_rows(rows, probabilities, started)

    def _log_rows(
        self, rows: Any, probabilities: Probabilities | None, started: float
    ) -> list[str]:
        latency_ms = (time.perf_counter() - started) * 1000
        try:
            features = self._features(rows)
            outcomes: list[dict[str, Any]] = (
                [{"status": "error"}] * len(features)
                if probabilities is None
                else [self._outcome(row) for row in probabilities]
            )
            return [
                self.logger.log(
                    row,
                    latency_ms=latency_ms,
                    segments={name: row.get(name) for name in self._segments},
                    **outcome,
                )
                for row, outcome in zip(features, outcomes, strict=True)
            ]
        except Exception:  # noqa: BLE001 - the probabilities are right, only their log is not
            _log.exception("%s rows were not logged", type(rows).__name__)
            return []

    def _features(self, rows: Any) -> list[dict[str, Any]]:
        if not isinstance(rows, pd.DataFrame):
            array = np.asarray(rows)
            if array.ndim != 2:
                raise ValueError(f"rows have {array.ndim} dimensions instead of 2")
            names = self._names(array.shape[1])
            values = array.tolist()
        else:
            names = [str(name) for name in rows.columns]
            values = rows.itertuples(index=False, name=None)
        return [
            {name: _plain(value) for name, value in zip(names, row, strict=True)} for row in values
        ]

    def _names(self, width: int) -> list[str]:
        names = self._feature_names
        if names is None:
            names = getattr(self.classifier, "feature_names_in_", None)
        return [f"x{place}" for place in range(width)] if names is None else list(names)

    def _outcome(self, row: npt.NDArray[np.float64]) -> dict[str, Any]:
        if len(row) == 2:
            return {"score": float(row[1])}
        classes = self.classifier.classes_.tolist()
        return {
            "label": classes[int(row.argmax())],
            "scores": {str(name): float(score) for name, score in zip(classes, row, strict=True)},
        }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
