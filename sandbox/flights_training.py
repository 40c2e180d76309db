"""The model of the demo: it says whether a flight will arrive more than 15 minutes late.

Trained on January to March. Its scores on its own training rows would be too good (AUC 0.76,
against 0.69 on weeks it has not seen), and every later month would look like a collapse; so the
baseline holds out-of-fold scores, with whole weeks held out: flights of one day share their
weather and their delays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from sandbox.flights_data import FEATURES, POSITIVE_LABEL

FOLDS = 5
_SEED = 2013


@dataclass(frozen=True)
class TrainedModel:
    """A classifier, and what was found while training it.

    `out_of_fold_scores[i]` is the score of training row i by a model that saw no row of its week.
    `threshold` is chosen on them: a flight with a score at or above it is called late.
    `importance` is by how much the AUC falls on weeks not seen when a feature is shuffled.
    """

    classifier: HistGradientBoostingClassifier
    out_of_fold_scores: npt.NDArray[np.float64]
    threshold: float
    importance: Mapping[str, float]
    out_of_fold_auc: float
    in_sample_auc: float

    def scores(self, flights: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Give the probability of being late for each flight, shape (n,)."""
        return _scores(self.classifier, flights)


def train(
    rows: pd.DataFrame, on_fold: Callable[[int, int], None] = lambda _done, _of: None
) -> TrainedModel:
    """Train on labelled `rows` (flights_data.load_flights' columns); the same rows, the same model.

    `on_fold(done, of)` is called after each of the fits.
    """
    late = (rows["label"] == POSITIVE_LABEL).to_numpy()
    scores = np.full(len(rows), np.nan)
    folds = week_folds(rows)
    for done, (fitted, held_out) in enumerate(folds, start=1):
        fold_model = _fit(rows.iloc[fitted], late[fitted])
        scores[held_out] = _scores(fold_model, rows.iloc[held_out])
        on_fold(done, len(folds) + 1)
    # The last fold's model on the weeks it has not seen: enough, and as honest as the scores.
    importance = _importance(fold_model, rows.iloc[held_out], late[held_out])
    classifier = _fit(rows, late)
    on_fold(len(folds) + 1, len(folds) + 1)
    return TrainedModel(
        classifier=classifier,
        out_of_fold_scores=scores,
        threshold=best_threshold(late, scores),
        importance=importance,
        out_of_fold_auc=float(roc_auc_score(late, scores)),
        in_sample_auc=float(roc_auc_score(late, _scores(classifier, rows))),
    )


def week_folds(rows: pd.DataFrame) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Give (fitted, held out) row numbers for each fold; no ISO week is on both sides."""
    return list(GroupKFold(n_splits=FOLDS).split(rows, groups=rows["iso_week"]))


def best_threshold(late: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """Give the threshold, in hundredths, of the greatest F1; the lowest of equals.

    Hundredths, because the threshold also stands in the seed `models.csv`, and digits beyond
    those would say nothing: F1 is flat around its maximum.
    """
    candidates = [hundredth / 100 for hundredth in range(1, 100)]
    return max(candidates, key=lambda threshold: f1_score(late, scores >= threshold))


def _fit(rows: pd.DataFrame, late: npt.NDArray[np.bool_]) -> HistGradientBoostingClassifier:
    classifier = HistGradientBoostingClassifier(
        max_iter=100,
        learning_rate=0.05,
        max_leaf_nodes=15,
        min_samples_leaf=200,
        l2_regularization=10.0,
        categorical_features="from_dtype",
        early_stopping=False,
        random_state=_SEED,
    )
    with _one_thread():
        return classifier.fit(rows[list(FEATURES)], late)


def _scores(
    classifier: HistGradientBoostingClassifier, rows: pd.DataFrame
) -> npt.NDArray[np.float64]:
    with _one_thread():
        probabilities: npt.NDArray[np.float64] = classifier.predict_proba(rows[list(FEATURES)])
    return probabilities[:, 1]


def _importance(
    classifier: HistGradientBoostingClassifier, rows: pd.DataFrame, late: npt.NDArray[np.bool_]
) -> Mapping[str, float]:
    with _one_thread():
        found = permutation_importance(
            classifier,
            rows[list(FEATURES)],
            late,
            scoring="roc_auc",
            n_repeats=1,
            random_state=_SEED,
        )
    return dict(zip(FEATURES, found.importances_mean.tolist(), strict=True))


def _one_thread() -> threadpool_limits:
    """Fit and score on one thread.

    OpenMP's threads wait for one another by spinning: two take 5 s on an idle machine of two
    cores instead of 7 s, but 100 s where something else runs beside them.
    """
    return threadpool_limits(1, "openmp")
