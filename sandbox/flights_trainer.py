"""The trainer of the demo: `sandbox.flights_trainer:train`, as retraining.csv names it.

The model is that of the demo, trained on the logged features and the labels that came since: a
trainer needs nothing that is not in the events.
"""

from __future__ import annotations

import joblib  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import pandas as pd

from orchestration.retraining.protocol import Challenger, TrainingSet
from sandbox import flights_training
from sandbox.flights_data import CATEGORICAL_FEATURES, FEATURES


def train(training_set: TrainingSet) -> Challenger:
    """Train on the rows of `training_set`, whole weeks held out; the same rows, the same model."""
    rows = training_set.features.assign(
        label=training_set.labels.to_numpy(),
        iso_week=_week_numbers(training_set.predicted_at),
    )
    model = flights_training.train(rows)
    categories = {name: rows[name].cat.categories for name in CATEGORICAL_FEATURES}

    def predict(features: pd.DataFrame) -> npt.NDArray[np.float64]:
        # A destination that training has not seen is an unknown one, not another's code.
        known = {name: features[name].cat.set_categories(categories[name]) for name in categories}
        return model.scores(features.assign(**known)[list(FEATURES)])

    artefact = training_set.work_folder / "model.joblib"
    joblib.dump(model.classifier, artefact)
    return Challenger(
        version=f"{training_set.cut_off:%Y%m%dT%H%M%S}",
        out_of_fold_scores=model.out_of_fold_scores,
        predict=predict,
        artefact=artefact.as_uri(),
        threshold=model.threshold,
        feature_importance=model.importance,
        description=f"{len(training_set):,} flights before {training_set.cut_off:%Y-%m-%d}",
    )


def _week_numbers(predicted_at: pd.Series[pd.Timestamp]) -> npt.NDArray[np.int64]:
    """Give the number of each row's week, counted from the first."""
    since = predicted_at - predicted_at.min()
    return np.asarray(since // pd.Timedelta(weeks=1), dtype=np.int64)
