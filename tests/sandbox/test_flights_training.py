"""The model of the demo: honest scores, and a threshold that the seeds repeat."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from sandbox import flights_data, flights_training

SEEDS = Path(__file__).parents[2] / "dbt_project" / "seeds"


def test_no_week_is_both_fitted_and_held_out(training_rows: pd.DataFrame) -> None:
    weeks = training_rows["iso_week"].to_numpy()
    held_out_rows = []
    for fitted, held_out in flights_training.week_folds(training_rows):
        assert not set(weeks[fitted]) & set(weeks[held_out])
        held_out_rows.append(held_out)
    assert sorted(np.concatenate(held_out_rows)) == list(range(len(training_rows)))


def test_out_of_fold_scores_are_honest_where_in_sample_ones_are_not(
    model: flights_training.TrainedModel,
) -> None:
    assert np.isfinite(model.out_of_fold_scores).all()
    assert 0.68 < model.out_of_fold_auc < 0.70
    assert model.in_sample_auc > model.out_of_fold_auc + 0.05


def test_threshold_of_the_seed_is_the_one_that_training_chooses(
    model: flights_training.TrainedModel,
) -> None:
    with (SEEDS / "models.csv").open() as file:
        seeds = {(row["model_name"], row["active_version"]): row for row in csv.DictReader(file)}
    seed = seeds[flights_data.MODEL_NAME, flights_data.MODEL_VERSION]
    assert float(seed["threshold"]) == model.threshold
    assert seed["positive_label"] == flights_data.POSITIVE_LABEL


def test_importance_names_every_feature_and_the_hour_matters(
    model: flights_training.TrainedModel,
) -> None:
    assert model.importance.keys() == set(flights_data.FEATURES)
    assert model.importance["scheduled_hour"] > 0.01
    assert model.importance["scheduled_hour"] > model.importance["plane_seats"]


def test_training_again_gives_the_same_scores(training_rows: pd.DataFrame) -> None:
    some = training_rows[training_rows["iso_week"] <= 5].reset_index(drop=True)
    first, second = flights_training.train(some), flights_training.train(some)
    np.testing.assert_array_equal(first.out_of_fold_scores, second.out_of_fold_scores)
    np.testing.assert_array_equal(first.scores(some), second.scores(some))


def test_best_threshold_is_the_lowest_of_the_greatest_f1() -> None:
    late = np.array([False, False, True, True])
    assert flights_training.best_threshold(late, np.array([0.1, 0.2, 0.5, 0.9])) == 0.21
