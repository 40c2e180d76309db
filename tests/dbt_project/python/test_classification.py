"""Binary classification statistics: by hand, by reference, by property, by scikit-learn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from dbt_project.python.classification import (
    CALIBRATION_BINS,
    BinaryStatistics,
    binary_statistics,
)

REFERENCE = Path(__file__).parents[2] / "reference" / "binary_cases.json"


def _statistics(
    label: Any, score: Any, threshold: float = 0.5, group: Any = None, group_count: int = 1
) -> BinaryStatistics:
    labels = np.asarray(label, dtype=np.int64)
    groups = np.zeros(len(labels), dtype=np.int64) if group is None else np.asarray(group)
    return binary_statistics(groups, score, labels, 1 - labels, threshold, group_count)


def _row(statistics: BinaryStatistics, group: int) -> dict[str, Any]:
    return {
        field.name: getattr(statistics, field.name)[group]
        for field in dataclasses.fields(statistics)
    }


# Ten rows, small enough for paper: 4 positives, 6 negatives, one tie between the classes.
HAND_LABEL = [1, 1, 0, 1, 0, 0, 1, 0, 0, 0]
HAND_SCORE = [0.9, 0.8, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]


def test_statistics_equal_the_hand_computed_example() -> None:
    row = _row(_statistics(HAND_LABEL, HAND_SCORE, threshold=0.5), 0)
    # predicted positive: 0.9 0.8 0.8 0.6 0.5 -> 3 true, 2 false; missed: 0.3
    assert (
        row["true_positives"],
        row["false_positives"],
        row["false_negatives"],
        row["true_negatives"],
    ) == (3, 2, 1, 4)
    assert row["accuracy"] == pytest.approx(7 / 10)
    assert row["precision"] == pytest.approx(3 / 5)
    assert row["recall"] == pytest.approx(3 / 4)
    assert row["f1"] == pytest.approx(2 / 3)
    assert row["prevalence"] == pytest.approx(4 / 10)
    # negatives below each positive: 0.9 -> 6, 0.8 -> 5.5, 0.6 -> 5, 0.3 -> 3; of 24 pairs
    assert row["auc"] == 19.5 / 24
    # V10 = 6/6, 5.5/6, 5/6, 3/6; V01 of 0.8, 0.5, 0.4, 0.2, 0.1, 0.05 = 1.5/4, 3/4, 3/4, 1, 1, 1
    variance = np.var([6 / 6, 5.5 / 6, 5 / 6, 3 / 6], ddof=1) / 4
    variance += np.var([1.5 / 4, 3 / 4, 3 / 4, 1, 1, 1], ddof=1) / 6
    assert row["auc_variance"] == pytest.approx(variance, rel=1e-12)
    # recall gained at 0.9, 0.8, 0.6, 0.3 with precision 1, 2/3, 3/4, 4/7
    assert row["pr_auc"] == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 7) / 4)
    assert row["brier"] == pytest.approx(np.mean((np.array(HAND_LABEL) - HAND_SCORE) ** 2))
    # one row a bin except [0.8, 0.9) with 0.8, 0.8 (one positive) and [0, 0.1): |1 - 0.9| + …
    excess = [1 - 0.9, 1 - 1.6, 1 - 0.6, -0.5, -0.4, 1 - 0.3, -0.2, -0.1, -0.05]
    assert row["ece"] == pytest.approx(np.abs(excess).sum() / 10)
    assert row["reason"] == "too_few_labels"
    assert np.isnan(row["auc_lower"])


@pytest.fixture(scope="module")
def reference_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(REFERENCE.read_text())
    return cases


def test_statistics_of_all_groups_at_once_equal_the_reference_cases(
    reference_cases: list[dict[str, Any]],
) -> None:
    group = np.repeat(np.arange(len(reference_cases)), [len(c["label"]) for c in reference_cases])
    label = np.concatenate([case["label"] for case in reference_cases])
    score = np.concatenate([case["score"] for case in reference_cases])
    threshold = [case["threshold"] for case in reference_cases]
    # shuffled: rows of a group need not stand together
    order = np.random.default_rng(7).permutation(len(group))
    statistics = binary_statistics(
        group[order],
        score[order],
        label[order],
        1 - label[order],
        threshold,
        len(reference_cases),
    )
    for number, case in enumerate(reference_cases):
        row, expected = _row(statistics, number), case["expected"]
        assert [row["true_negatives"], row["false_positives"]] == [
            expected["confusion"]["tn"],
            expected["confusion"]["fp"],
        ]
        assert [row["false_negatives"], row["true_positives"]] == [
            expected["confusion"]["fn"],
            expected["confusion"]["tp"],
        ]
        assert row["auc_variance"] == pytest.approx(
            expected["auc_delong_variance"], rel=1e-9, abs=1e-12
        )
        for name in ("auc", "pr_auc", "accuracy", "precision", "recall", "f1", "log_loss", "brier"):
            assert row[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-12), (number, name)


labels_and_scores = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda step: step / 20)),
    min_size=1,
    max_size=120,
)


@given(labels_and_scores, st.integers(0, 20).map(lambda step: step / 20))
def test_statistics_equal_scikit_learn(rows: list[tuple[int, float]], threshold: float) -> None:
    label = np.array([row[0] for row in rows])
    score = np.array([row[1] for row in rows])
    row = _row(_statistics(label, score, threshold), 0)
    predicted = (score >= threshold).astype(int)
    assert row["accuracy"] == pytest.approx(metrics.accuracy_score(label, predicted))
    assert row["brier"] == pytest.approx(np.mean((label - score) ** 2), rel=1e-9, abs=1e-12)
    if 0 < label.sum() < len(label):
        assert row["auc"] == pytest.approx(metrics.roc_auc_score(label, score))
        assert row["pr_auc"] == pytest.approx(metrics.average_precision_score(label, score))
        assert row["log_loss"] == pytest.approx(
            metrics.log_loss(label, np.clip(score, 1e-15, 1 - 1e-15)), rel=1e-9, abs=1e-12
        )
    else:
        assert np.isnan(row["auc"])
        assert "single_class" in row["reason"]
    if label.sum():
        assert row["recall"] == pytest.approx(metrics.recall_score(label, predicted))
    else:
        assert np.isnan(row["recall"])
    if predicted.sum():
        assert row["precision"] == pytest.approx(metrics.precision_score(label, predicted))
    else:
        assert np.isnan(row["precision"])
    if label.sum() + predicted.sum():
        assert row["f1"] == pytest.approx(metrics.f1_score(label, predicted, zero_division=0))
    else:
        assert np.isnan(row["f1"])


@given(labels_and_scores)
def test_statistics_do_not_depend_on_how_rows_are_counted(rows: list[tuple[int, float]]) -> None:
    """One row a prediction, or one row a distinct score: the same to the last digit."""
    label = np.array([row[0] for row in rows])
    score = np.array([row[1] for row in rows])
    distinct, position = np.unique(score, return_inverse=True)
    positives = np.bincount(position, weights=label).astype(int)
    negatives = np.bincount(position, weights=1 - label).astype(int)
    counted = binary_statistics(np.zeros(len(distinct)), distinct, positives, negatives, 0.5, 1)
    _assert_identical(_row(_statistics(label, score), 0), _row(counted, 0))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.floats(0, 1)), max_size=80))
def test_statistics_of_a_group_do_not_depend_on_the_others(
    rows: list[tuple[int, int, float]],
) -> None:
    group = np.array([row[0] for row in rows], dtype=np.int64)
    label = np.array([row[1] for row in rows], dtype=np.int64)
    score = np.array([row[2] for row in rows], dtype=np.float64)
    together = _statistics(label, score, group=group, group_count=4)
    for number in range(4):
        alone = _statistics(label[group == number], score[group == number])
        _assert_identical(_row(together, number), _row(alone, 0))


@given(labels_and_scores)
def test_auc_of_reversed_scores_is_the_complement(rows: list[tuple[int, float]]) -> None:
    label = [row[0] for row in rows]
    score = np.array([row[1] for row in rows])
    forward, backward = _statistics(label, score), _statistics(label, 1 - score)
    np.testing.assert_allclose(forward.auc, 1 - backward.auc, rtol=1e-12)
    np.testing.assert_allclose(forward.auc_variance, backward.auc_variance, rtol=1e-9, atol=1e-15)


def _assert_identical(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in one:
        np.testing.assert_equal(other[name], one[name], err_msg=name)


def _expected_calibration_error(label: NDArray[Any], score: NDArray[Any]) -> float:
    """Follow the definition, bin by bin."""
    total = 0.0
    for number in range(CALIBRATION_BINS):
        is_last = number == CALIBRATION_BINS - 1
        in_bin = (score >= number / CALIBRATION_BINS) & (
            (score < (number + 1) / CALIBRATION_BINS) | is_last
        )
        if in_bin.any():
            total += in_bin.mean() * abs(label[in_bin].mean() - score[in_bin].mean())
    return total


@given(labels_and_scores)
def test_calibration_error_equals_its_definition(rows: list[tuple[int, float]]) -> None:
    label = np.array([row[0] for row in rows])
    score = np.array([row[1] for row in rows])
    assert _statistics(label, score).ece[0] == pytest.approx(
        _expected_calibration_error(label, score), rel=1e-9, abs=1e-12
    )


def test_auc_interval_covers_the_truth_in_nineteen_of_twenty_windows() -> None:
    # Normal scores one apart: the true AUC is Phi(1 / sqrt(2)).
    generator = np.random.default_rng(3)
    windows, rows = 2_000, 120
    label = (np.arange(rows) % 2).repeat(windows).reshape(rows, windows).T
    score = generator.normal(label, 1.0)
    statistics = _statistics(
        label.ravel(),
        score.ravel(),
        group=np.repeat(np.arange(windows), rows),
        group_count=windows,
    )
    truth = 0.7602499389065233
    covered = (statistics.auc_lower <= truth) & (truth <= statistics.auc_upper)
    assert 0.93 <= covered.mean() <= 0.97


def test_reasons_name_what_is_undefined() -> None:
    group = [1] * 3 + [2] * 3 + [3] * 80 + [4] * 80
    label = [1] * 3 + [0] * 3 + [0, 1] * 40 + [0] * 40 + [1] * 40
    score = [0.9] * 3 + [0.1] * 3 + [2.5, 0.4] * 40 + [0.2] * 40 + [0.7] * 40
    statistics = _statistics(label, score, group=group, group_count=5)
    assert list(statistics.reason) == [
        "no_labels",
        "single_class",
        "single_class,no_predicted_positives,no_positives",
        "auc_at_bound,not_probabilities",
        "auc_at_bound",
    ]
    assert statistics.labeled_count.tolist() == [0, 3, 3, 80, 80]
    assert np.isnan(statistics.accuracy[0])
    assert np.isnan(statistics.f1[2])
    assert np.isnan(statistics.brier[3])
    assert statistics.auc[4] == 1


def test_interval_of_auc_needs_thirty_of_each_class() -> None:
    def lower(positives: int) -> float:
        generator = np.random.default_rng(5)
        label = [1] * positives + [0] * 100
        return float(_statistics(label, generator.random(len(label))).auc_lower[0])

    assert np.isnan(lower(29))
    assert not np.isnan(lower(30))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 0], [0.5], [1], [0], 0.5, 1), "vectors of one length"),
        (([1], [0.5], [1], [0], 0.5, 1), r"group must lie in \[0, 1\)"),
        (([0], [float("nan")], [1], [0], 0.5, 1), "score must be finite"),
        (([0], [0.5], [-1], [0], 0.5, 1), "cannot be negative"),
    ],
)
def test_wrong_input_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        binary_statistics(*arguments)


@settings(deadline=None)
@given(st.integers(0, 5))
def test_no_groups_and_empty_groups_are_allowed(group_count: int) -> None:
    statistics = binary_statistics([], [], [], [], 0.5, group_count)
    assert statistics.labeled_count.tolist() == [0] * group_count
    assert list(statistics.reason) == ["no_labels"] * group_count
