"""What a user's trainer gets and gives: a function named `module:function` in retraining.csv.

    from orchestration.retraining.protocol import Challenger, TrainingSet

    def train(training_set: TrainingSet) -> Challenger: ...

It is called once a run, in the process of the run, and must be deterministic: a run that was cut
short is done again from the start, and the same rows must give the same challenger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from driftline.named_function import NamedFunctionError, load_function

Floats = NDArray[np.float64]

_LOG = logging.getLogger("driftline.retraining")


class TrainerError(Exception):
    """The trainer cannot be loaded, failed, or gave what it must not. The message says what."""


@dataclass(frozen=True)
class TrainingSet:
    """Labelled production rows, one element a row in every member, in order of prediction time.

    - `features` (n, k): float64 with NaN where unknown, `category`, or pandas' `boolean`, by the
      types of the champion's baseline;
    - `labels` (n,): the labels as text, as they were known at `cut_off`;
    - `segments` (n, s): segment values as text;
    - `predicted_at` (n,): datetime64[ms, UTC], all before `cut_off`;
    - `champion_scores` (n,): what the champion said at the time;
    - `threshold`: the champion's; `work_folder`: an existing folder of this run, to keep files in.
    """

    model_name: str
    champion_version: str
    positive_label: str
    threshold: float
    cut_off: datetime
    features: pd.DataFrame
    labels: pd.Series[str]
    segments: pd.DataFrame
    predicted_at: pd.Series[pd.Timestamp]
    champion_scores: Floats
    work_folder: Path

    def __len__(self) -> int:
        return len(self.features)

    @property
    def is_positive(self) -> NDArray[np.bool_]:
        """Tell which rows have the positive label, shape (n,)."""
        return (self.labels == self.positive_label).to_numpy(dtype=np.bool_)


@dataclass(frozen=True)
class Challenger:
    """What training gave.

    - `version`: a new name, neither the champion's nor one that was used before;
    - `out_of_fold_scores` (n,): for each training row, the probability of the positive label by a
      model that has not seen the row; they become the new version's baseline;
    - `predict`: gives the probabilities (m,) of other rows, of the same columns as `features`;
    - `artefact`: where the model is, or what it is: an address, a registry's name;
    - `threshold`: where the challenger's positives begin; the champion's where None;
    - `feature_importance`: by feature, finite; stored with the baseline.
    """

    version: str
    out_of_fold_scores: ArrayLike
    predict: Callable[[pd.DataFrame], ArrayLike]
    artefact: str = ""
    threshold: float | None = None
    feature_importance: Mapping[str, float] = field(default_factory=dict)
    description: str = ""


Trainer = Callable[[TrainingSet], Challenger]


def load_trainer(name: str) -> Trainer:
    """Import the trainer called `module:function`; raises TrainerError with the remedy."""
    try:
        return load_function(name, "trainer")
    except NamedFunctionError as error:
        raise TrainerError(str(error)) from error


def train_challenger(trainer: Trainer, training_set: TrainingSet) -> Challenger:
    """Call the trainer and check what it gives; its `out_of_fold_scores` are then an array.

    Raises TrainerError where the trainer fails or breaks the protocol.
    """
    try:
        challenger = trainer(training_set)
    except Exception as error:
        _LOG.exception("the trainer of %s failed", training_set.model_name)
        raise TrainerError(f"the trainer failed: {error!r}") from error
    if not isinstance(challenger, Challenger):
        raise TrainerError(
            f"the trainer gave a {type(challenger).__name__}, not a "
            f"{Challenger.__module__}.{Challenger.__name__}"
        )
    if not isinstance(challenger.version, str) or not challenger.version.strip():
        raise TrainerError(f"the challenger's version is {challenger.version!r}, not a name")
    if challenger.version == training_set.champion_version:
        raise TrainerError(f"the challenger has the champion's version {challenger.version!r}")
    if not callable(challenger.predict):
        raise TrainerError("the challenger's predict is not a function")
    if challenger.threshold is not None and not (
        isinstance(challenger.threshold, int | float) and 0 <= challenger.threshold <= 1
    ):
        raise TrainerError(f"the challenger's threshold is {challenger.threshold!r}, not in [0, 1]")
    unknown = set(challenger.feature_importance).difference(training_set.features.columns)
    if unknown:
        raise TrainerError(f"the importance names {min(unknown)!r}, which is not a feature")
    for name, value in challenger.feature_importance.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise TrainerError(f"the importance of {name!r} is {value!r}, not a finite number")
    scores = _checked_scores(challenger.out_of_fold_scores, len(training_set), "out_of_fold_scores")
    return Challenger(
        version=challenger.version,
        out_of_fold_scores=scores,
        predict=challenger.predict,
        artefact=challenger.artefact,
        threshold=challenger.threshold,
        feature_importance=dict(challenger.feature_importance),
        description=challenger.description,
    )


def predicted_scores(challenger: Challenger, features: pd.DataFrame) -> Floats:
    """Give the challenger's scores of rows it has not seen, shape (m,); raises TrainerError."""
    try:
        # A copy: the rows serve for the champion's figures as well.
        scores = challenger.predict(features.copy())
    except Exception as error:
        _LOG.exception("predict of challenger %s failed", challenger.version)
        raise TrainerError(f"predict failed on the evaluation rows: {error!r}") from error
    return _checked_scores(scores, len(features), "predict")


def _checked_scores(scores: ArrayLike, rows: int, source: str) -> Floats:
    try:
        checked = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TrainerError(f"{source} gave no numbers: {error}") from error
    if checked.shape != (rows,):
        raise TrainerError(f"{source} has the shape {checked.shape}, not ({rows},): one a row")
    wrong = ~((checked >= 0) & (checked <= 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise TrainerError(
            f"{source} is {checked[row]} in row {row}, not a probability in [0, 1]; "
            f"{int(wrong.sum())} of {rows} are wrong"
        )
    return checked
