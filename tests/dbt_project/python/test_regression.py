"""Regression statistics: by hand, by reference, by scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from sklearn import metrics

from dbt_project.python.regression import (
    ErrorMoments,
    RegressionStatistics,
    regression_statistics,
)
from dbt_project.python.undefined import Floats

REFERENCE = Path(__file__).parents[2] / "reference" / "regression_cases.json"


def _statistics(
    group: ArrayLike, label: ArrayLike, predicted: ArrayLike, group_count: int
) -> RegressionStatistics:
    """Sum rows up as the warehouse does."""
    groups, labels, predictions = np.asarray(group), np.asarray(label), np.asarray(predicted)
    error = predictions - labels

    def of_each(measure: Callable[[Floats], float], values: Floats) -> list[float]:
        rows = [values[groups == number] for number in range(group_count)]
        return [float(measure(some)) if len(some) else 0.0 for some in rows]

    def sample_variance(values: Floats) -> float:
        return float(values.var(ddof=1)) if len(values) > 1 else float("nan")

    relative = np.abs(error) / np.where(labels == 0, np.inf, np.abs(labels))
    return regression_statistics(
        ErrorMoments(
            row_count=np.bincount(groups.astype(int), minlength=group_count),
            error_sum=of_each(np.sum, error),
            absolute_error_sum=of_each(np.sum, np.abs(error)),
            squared_error_sum=of_each(np.sum, error**2),
            relative_error_sum=of_each(np.sum, relative),
            zero_label_count=of_each(np.sum, (labels == 0).astype(float)),
            error_variance=of_each(sample_variance, error),
            absolute_error_variance=of_each(sample_variance, np.abs(error)),
            label_variance=of_each(np.var, labels),
            label_range=of_each(np.ptp, labels),
        )
    )


def test_statistics_equal_the_hand_computed_example() -> None:
    statistics = _statistics([0] * 4, [1, 2, 4, 5], [2, 2, 3, 7], 1)
    # errors 1 0 -1 2; mean label 3, squares about it 4 1 1 4
    assert statistics.mae[0] == 1
    assert statistics.rmse[0] == pytest.approx(np.sqrt(6 / 4))
    assert statistics.bias[0] == 0.5
    assert statistics.mape[0] == pytest.approx((1 + 0 + 1 / 4 + 2 / 5) / 4)
    assert statistics.r2[0] == pytest.approx(1 - 6 / 10)
    assert statistics.reason[0] == "too_few_labels"


def test_statistics_of_all_groups_at_once_equal_the_reference_cases() -> None:
    cases: list[dict[str, Any]] = json.loads(REFERENCE.read_text())
    group = np.repeat(np.arange(len(cases)), [len(case["label"]) for case in cases])
    label = np.concatenate([case["label"] for case in cases])
    predicted = np.concatenate([case["predicted"] for case in cases])
    order = np.random.default_rng(11).permutation(len(group))
    statistics = _statistics(group[order], label[order], predicted[order], len(cases))
    for number, case in enumerate(cases):
        found = {name: getattr(statistics, name)[number] for name in case["expected"]}
        assert found == pytest.approx(case["expected"], rel=1e-9, abs=1e-12)


values = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(values, values), min_size=1, max_size=60))
def test_statistics_equal_scikit_learn(rows: list[tuple[float, float]]) -> None:
    label, predicted = (np.array(column) for column in zip(*rows, strict=True))
    statistics = _statistics(np.zeros(len(rows)), label, predicted, 1)
    assert statistics.mae[0] == pytest.approx(metrics.mean_absolute_error(label, predicted))
    assert statistics.rmse[0] == pytest.approx(metrics.root_mean_squared_error(label, predicted))
    if (label == label[0]).all():
        assert np.isnan(statistics.r2[0])
        assert "constant_label" in statistics.reason[0]
    else:
        assert statistics.r2[0] == pytest.approx(metrics.r2_score(label, predicted), rel=1e-9)
    if (label == 0).any():
        assert np.isnan(statistics.mape[0])
        assert "zero_label" in statistics.reason[0]
    else:
        expected = metrics.mean_absolute_percentage_error(label, predicted)
        assert statistics.mape[0] == pytest.approx(expected)


def test_group_without_rows_is_undefined_with_a_reason() -> None:
    statistics = _statistics([1, 1], [1.0, 2.0], [1.0, 2.0], 3)
    assert list(statistics.reason) == ["no_labels", "too_few_labels", "no_labels"]
    assert np.isnan([statistics.mae[0], statistics.rmse[0], statistics.bias[2]]).all()
    assert statistics.r2[1] == 1


def test_intervals_need_thirty_rows() -> None:
    statistics = _statistics(
        np.repeat([0, 1], [29, 30]), np.arange(59.0), np.arange(59.0) + np.arange(59) % 2, 2
    )
    assert np.isnan([statistics.mae_lower[0], statistics.bias_upper[0]]).all()
    assert statistics.reason[0] == "too_few_labels,zero_label"
    # Fifteen errors of 0 and fifteen of 1: mean ½, sample variance 30/29 ¼.
    half_width = 1.959963984540054 * np.sqrt(30 / 29 / 4 / 30)
    assert statistics.mae_lower[1] == pytest.approx(0.5 - half_width)
    assert statistics.bias_upper[1] == pytest.approx(0.5 + half_width)


@pytest.mark.parametrize(("heavy", "least"), [(False, 0.93), (True, 0.85)])
def test_interval_of_mae_covers_the_truth(heavy: bool, least: float) -> None:
    """Of normal errors in nearly nineteen of twenty windows of 60 rows; of heavy tails in fewer."""
    random = np.random.default_rng(7)
    windows, rows = 2_000, 60
    error = random.standard_t(3, (windows, rows)) if heavy else random.normal(size=(windows, rows))
    truth = 2 * np.sqrt(3) / np.pi if heavy else np.sqrt(2 / np.pi)
    absolute = np.abs(error)
    ones = np.ones(windows)
    statistics = regression_statistics(
        ErrorMoments(
            row_count=ones * rows,
            error_sum=error.sum(axis=1),
            absolute_error_sum=absolute.sum(axis=1),
            squared_error_sum=(error**2).sum(axis=1),
            relative_error_sum=ones,
            zero_label_count=ones,
            error_variance=error.var(axis=1, ddof=1),
            absolute_error_variance=absolute.var(axis=1, ddof=1),
            label_variance=ones,
            label_range=ones,
        )
    )
    is_covered = (statistics.mae_lower <= truth) & (truth <= statistics.mae_upper)
    assert least < is_covered.mean() < 0.96
    is_covered = (statistics.bias_lower <= 0) & (statistics.bias_upper >= 0)
    assert 0.93 < is_covered.mean() < 0.97


def test_moments_of_different_lengths_are_refused() -> None:
    moments = ErrorMoments([1, 2], [1.0], *([[1.0, 1.0]] * 8))
    with pytest.raises(ValueError, match="vectors of one length"):
        regression_statistics(moments)
