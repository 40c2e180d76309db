"""Trainers that tests name in retraining.csv."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestration.retraining.protocol import Challenger, TrainingSet

NOT_A_FUNCTION = 3


class Killed(BaseException):
    """What ends a process from outside: no trainer's error."""


def learn_kinds(training_set: TrainingSet) -> Challenger:
    """Score a row by the share of positives among the training rows of its kind."""
    kinds = training_set.features["kind"].astype(str)
    positive = pd.Series(training_set.is_positive.astype(float))
    shares = positive.groupby(kinds).mean()
    totals, counts = (
        positive.groupby(kinds).transform("sum"),
        kinds.groupby(kinds).transform("size"),
    )
    # Without the row itself: out of fold, with as many folds as rows.
    left_out = (totals - positive) / (counts - 1)

    def predict(features: pd.DataFrame) -> NDArray[np.float64]:
        return features["kind"].astype(str).map(shares).fillna(positive.mean()).to_numpy()

    (training_set.work_folder / "shares.json").write_text(shares.to_json())
    # What a trainer does to its rows must not reach the baseline.
    training_set.features["x"] = -1.0
    return Challenger(
        version=f"{training_set.cut_off:%Y%m%d}",
        out_of_fold_scores=left_out.to_numpy(),
        predict=predict,
        artefact=(training_set.work_folder / "shares.json").as_uri(),
        threshold=0.4,
        feature_importance={"kind": 1.0},
    )


def fail(training_set: TrainingSet) -> Challenger:
    """Fail, as user code does."""
    raise ZeroDivisionError(f"no luck with {training_set.model_name}")


def die_once(training_set: TrainingSet) -> Challenger:
    """Die on the first call for a work folder, and train on the second."""
    marker = training_set.work_folder / "died"
    if not marker.exists():
        marker.touch()
        raise Killed
    return learn_kinds(training_set)
