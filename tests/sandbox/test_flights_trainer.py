"""The demo's trainer, called as a run of retraining calls it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from orchestration.retraining.protocol import (
    Challenger,
    TrainingSet,
    load_trainer,
    predicted_scores,
    train_challenger,
)
from sandbox.flights_data import FEATURES, POSITIVE_LABEL, SEGMENTS


def training_set_of(rows: pd.DataFrame, folder: Path) -> TrainingSet:
    return TrainingSet(
        model_name="flights_delay",
        champion_version="1",
        positive_label=POSITIVE_LABEL,
        threshold=0.22,
        cut_off=datetime(2013, 2, 4, tzinfo=UTC),
        features=rows[sorted(FEATURES)].reset_index(drop=True),
        labels=rows["label"].astype(str).reset_index(drop=True),
        segments=rows[list(SEGMENTS)].astype(str).reset_index(drop=True),
        predicted_at=rows["predicted_at"].reset_index(drop=True),
        champion_scores=np.full(len(rows), 0.5),
        work_folder=folder,
    )


@pytest.fixture(scope="module")
def weeks(training_rows: pd.DataFrame) -> pd.DataFrame:
    return training_rows[training_rows["iso_week"] <= 5].reset_index(drop=True)


@pytest.fixture(scope="module")
def challenger(weeks: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Challenger:
    trainer = load_trainer("sandbox.flights_trainer:train")
    return train_challenger(trainer, training_set_of(weeks, tmp_path_factory.mktemp("run")))


def test_trainer_gives_honest_scores_and_keeps_the_model(
    challenger: Challenger, weeks: pd.DataFrame
) -> None:
    late = (weeks["label"] == POSITIVE_LABEL).to_numpy()
    out_of_fold = roc_auc_score(late, np.asarray(challenger.out_of_fold_scores))
    in_sample = roc_auc_score(late, predicted_scores(challenger, weeks[sorted(FEATURES)]))
    assert 0.6 < out_of_fold < in_sample - 0.03
    assert challenger.version == "20130204T000000"
    assert challenger.threshold is not None
    assert set(challenger.feature_importance) == set(FEATURES)
    assert Path(challenger.artefact.removeprefix("file://")).stat().st_size > 10_000


def test_categories_of_other_rows_mean_the_same(
    challenger: Challenger, weeks: pd.DataFrame
) -> None:
    """Rows that are read apart have category codes of their own, and values never seen."""
    features = weeks[sorted(FEATURES)]
    some = features[features["origin"] != "EWR"].head(500)
    alone = some.assign(
        **{name: some[name].astype(str).astype("category") for name in ("origin", "destination")}
    )
    assert list(alone["origin"].cat.categories) != list(features["origin"].cat.categories)
    np.testing.assert_array_equal(
        predicted_scores(challenger, alone), predicted_scores(challenger, some)
    )
    unseen = some.assign(destination=pd.Categorical(["XXX"] * len(some)))
    assert np.isfinite(predicted_scores(challenger, unseen)).all()


def test_training_again_gives_the_same_challenger(
    challenger: Challenger, weeks: pd.DataFrame, tmp_path: Path
) -> None:
    trainer = load_trainer("sandbox.flights_trainer:train")
    again = train_challenger(trainer, training_set_of(weeks, tmp_path))
    np.testing.assert_array_equal(
        np.asarray(again.out_of_fold_scores), np.asarray(challenger.out_of_fold_scores)
    )
    assert (again.version, again.threshold) == (challenger.version, challenger.threshold)
