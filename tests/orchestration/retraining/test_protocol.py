"""What a trainer is given, and what becomes of one that breaks the protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from orchestration.retraining.protocol import (
    Challenger,
    TrainerError,
    TrainingSet,
    load_trainer,
    predicted_scores,
    train_challenger,
)

TRAINERS = "tests.orchestration.retraining.trainers"
SOUND: Any = Challenger("2", [0.1, 0.5, 0.9], lambda rows: np.full(len(rows), 0.5))


@pytest.fixture
def training_set(tmp_path: Path) -> TrainingSet:
    cut_off = datetime(2026, 2, 18, tzinfo=UTC)
    return TrainingSet(
        model_name="shop",
        champion_version="1",
        positive_label="yes",
        threshold=0.5,
        cut_off=cut_off,
        features=pd.DataFrame({"x": [1.0, 2.0, 3.0]}),
        labels=pd.Series(["yes", "no", "yes"]),
        segments=pd.DataFrame(index=range(3)),
        predicted_at=pd.Series(pd.to_datetime([cut_off] * 3)),
        champion_scores=np.array([0.1, 0.2, 0.3]),
        work_folder=tmp_path,
    )


def test_positive_rows_are_those_of_the_positive_label(training_set: TrainingSet) -> None:
    assert training_set.is_positive.tolist() == [True, False, True]
    assert len(training_set) == 3


def test_trainer_is_found_by_name() -> None:
    from tests.orchestration.retraining.trainers import learn_kinds

    assert load_trainer(f"{TRAINERS}:learn_kinds") is learn_kinds


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train", "is not module:function"),
        ("train:", "is not module:function"),
        ("no_such_package.training:train", "there is no module 'no_such_package'; install it"),
        (f"{TRAINERS}:missing", "has no 'missing'"),
        (f"{TRAINERS}:NOT_A_FUNCTION", "is a int, not a function"),
        ("broken_trainer:train", "importing broken_trainer failed: RuntimeError('no licence')"),
    ],
)
def test_trainer_that_cannot_be_loaded_is_named(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_trainer.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TrainerError) as caught:
        load_trainer(name)
    assert repr(name) in str(caught.value)
    assert message in str(caught.value)


def test_sound_challenger_is_given_with_scores_as_an_array(training_set: TrainingSet) -> None:
    challenger = train_challenger(lambda _: SOUND, training_set)
    np.testing.assert_array_equal(np.asarray(challenger.out_of_fold_scores), [0.1, 0.5, 0.9])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "gave a NoneType, not a orchestration.retraining.protocol.Challenger"),
        (replace(SOUND, version=" "), "the challenger's version is ' ', not a name"),
        (replace(SOUND, version="1"), "has the champion's version '1'"),
        (replace(SOUND, predict=None), "predict is not a function"),
        (replace(SOUND, threshold=1.5), "threshold is 1.5, not in [0, 1]"),
        (replace(SOUND, threshold=float("nan")), "threshold is nan, not in [0, 1]"),
        (replace(SOUND, feature_importance={"y": 1.0}), "names 'y', which is not a feature"),
        (replace(SOUND, feature_importance={"x": np.inf}), "importance of 'x' is inf"),
        (replace(SOUND, out_of_fold_scores=[0.1, 0.2]), "has the shape (2,), not (3,)"),
        (replace(SOUND, out_of_fold_scores=[[0.1, 0.9]] * 3), "has the shape (3, 2), not (3,)"),
        (
            replace(SOUND, out_of_fold_scores=[0.1, float("nan"), 0.2]),
            "out_of_fold_scores is nan in row 1, not a probability in [0, 1]; 1 of 3 are wrong",
        ),
        (replace(SOUND, out_of_fold_scores=[0.1, 0.2, 1.01]), "is 1.01 in row 2"),
        (replace(SOUND, out_of_fold_scores=["a", "b", "c"]), "gave no numbers"),
    ],
)
def test_wrong_challenger_is_refused_with_what_is_wrong(
    given: Any, message: str, training_set: TrainingSet
) -> None:
    with pytest.raises(TrainerError) as caught:
        train_challenger(lambda _: given, training_set)
    assert message in str(caught.value)


def test_error_of_the_trainer_is_kept_in_the_message(training_set: TrainingSet) -> None:
    with pytest.raises(TrainerError, match="the trainer failed: ZeroDivisionError"):
        train_challenger(load_trainer(f"{TRAINERS}:fail"), training_set)


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (lambda _: [0.5], "predict has the shape (1,), not (3,)"),
        (lambda rows: [np.nan] * len(rows), "predict is nan in row 0"),
        (lambda rows: rows["no_such_column"], "predict failed on the evaluation rows: KeyError"),
    ],
)
def test_wrong_scores_of_other_rows_are_refused(
    predict: Callable[[pd.DataFrame], Any], message: str, training_set: TrainingSet
) -> None:
    with pytest.raises(TrainerError) as caught:
        predicted_scores(replace(SOUND, predict=predict), training_set.features)
    assert message in str(caught.value)


def test_predict_cannot_change_the_rows(training_set: TrainingSet) -> None:
    def predict(rows: pd.DataFrame) -> Any:
        rows["x"] = 0.0
        return rows["x"]

    predicted_scores(replace(SOUND, predict=predict), training_set.features)
    assert training_set.features["x"].tolist() == [1.0, 2.0, 3.0]
