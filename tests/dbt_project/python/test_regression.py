"""Regression statistics: by hand, by reference, by scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from dbt_project.python.regression import regression_statistics

REFERENCE = Path(__file__).parents[2] / "reference" / "regression_cases.json"


def test_statistics_equal_the_hand_computed_example() -> None:
    statistics = regression_statistics([0] * 4, [1, 2, 4, 5], [2, 2, 3, 7], 1)
    # errors 1 0 -1 2; mean label 3, squares about it 4 1 1 4
    assert statistics.mae[0] == 1
    assert statistics.rmse[0] == pytest.approx(np.sqrt(6 / 4))
    assert statistics.bias[0] == 0.5
    assert statistics.mape[0] == pytest.approx((1 + 0 + 1 / 4 + 2 / 5) / 4)
    assert statistics.r2[0] == pytest.approx(1 - 6 / 10)
    assert statistics.reason[0] == ""


def test_statistics_of_all_groups_at_once_equal_the_reference_cases() -> None:
    cases: list[dict[str, Any]] = json.loads(REFERENCE.read_text())
    group = np.repeat(np.arange(len(cases)), [len(case["label"]) for case in cases])
    label = np.concatenate([case["label"] for case in cases])
    predicted = np.concatenate([case["predicted"] for case in cases])
    order = np.random.default_rng(11).permutation(len(group))
    statistics = regression_statistics(group[order], label[order], predicted[order], len(cases))
    for number, case in enumerate(cases):
        found = {name: getattr(statistics, name)[number] for name in case["expected"]}
        assert found == pytest.approx(case["expected"], rel=1e-9, abs=1e-12)


values = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(values, values), min_size=1, max_size=60))
def test_statistics_equal_scikit_learn(rows: list[tuple[float, float]]) -> None:
    label, predicted = (np.array(column) for column in zip(*rows, strict=True))
    statistics = regression_statistics(np.zeros(len(rows)), label, predicted, 1)
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
    statistics = regression_statistics([1, 1], [1.0, 2.0], [1.0, 2.0], 3)
    assert list(statistics.reason) == ["no_labels", "", "no_labels"]
    assert np.isnan([statistics.mae[0], statistics.rmse[0], statistics.bias[2]]).all()
    assert statistics.r2[1] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [1.0, 2.0], [1.0], 1), "vectors of one length"),
        (([1], [1.0], [1.0], 1), r"group must lie in \[0, 1\)"),
        (([0], [float("nan")], [1.0], 1), "must be finite"),
    ],
)
def test_wrong_input_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        regression_statistics(*arguments)
