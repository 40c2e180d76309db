"""Multiclass statistics: by hand, by reference, by scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from sklearn import metrics

from dbt_project.python.multiclass import MulticlassStatistics, multiclass_statistics
from dbt_project.python.score_counts import ScoreCounts

REFERENCE = Path(__file__).parents[2] / "reference" / "multiclass_cases.json"


def _statistics(
    label: ArrayLike,
    predicted: ArrayLike,
    class_count: int,
    scores: ArrayLike | None = None,
    group: ArrayLike = 0,
    group_count: int = 1,
) -> MulticlassStatistics:
    """Count rows as the warehouse does; `scores` has a row per row and a column per class."""
    labels, predictions = np.asarray(label, dtype=int), np.asarray(predicted, dtype=int)
    first = np.broadcast_to(np.asarray(group, dtype=int), labels.shape) * class_count
    size = group_count * class_count
    values = np.empty((len(labels), 0)) if scores is None else np.asarray(scores)
    rows, classes = np.indices(values.shape).reshape(2, -1)
    is_class = (labels[rows] == classes).astype(int)
    return multiclass_statistics(
        np.repeat(np.arange(group_count), class_count),
        np.bincount(first + labels, minlength=size),
        np.bincount(first + predictions, minlength=size),
        np.bincount((first + labels)[labels == predictions], minlength=size),
        ScoreCounts.sorted_from(
            first[rows] + classes, values.ravel(), is_class, 1 - is_class, size
        ),
        group_count,
    )


def test_statistics_equal_the_hand_computed_example() -> None:
    # labels a a a b b c, predicted a a b b a b
    statistics = _statistics([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 1], 4)
    assert statistics.accuracy[0] == pytest.approx(3 / 6)
    # a: 2 hits, 3 predicted, 3 labels; b: 1 hit, 3 predicted, 2 labels; c: no hit; d: nowhere
    assert statistics.classes.f1[:3].tolist() == pytest.approx([4 / 6, 2 / 5, 0])
    assert np.isnan(statistics.classes.f1[3])
    assert statistics.macro_f1[0] == pytest.approx((4 / 6 + 2 / 5 + 0) / 3)
    assert statistics.weighted_f1[0] == pytest.approx((3 * 4 / 6 + 2 * 2 / 5 + 0) / 6)
    assert np.isnan(statistics.classes.precision[2])
    assert statistics.classes.recall[2] == 0
    assert statistics.reason[0] == "no_class_scores"


def test_statistics_of_all_groups_at_once_equal_the_reference_cases() -> None:
    cases: list[dict[str, Any]] = json.loads(REFERENCE.read_text())
    widest = max(len(case["scores"][0]) for case in cases)
    of_case = np.repeat(np.arange(len(cases)), [len(case["label"]) for case in cases])
    # A class that a case does not have scores 0 in all its rows: it has no AUC, so no part in it.
    scores = np.concatenate(
        [np.pad(case["scores"], ((0, 0), (0, widest - len(case["scores"][0])))) for case in cases]
    )
    order = np.random.default_rng(5).permutation(len(of_case))
    statistics = _statistics(
        np.concatenate([case["label"] for case in cases])[order],
        np.concatenate([case["predicted"] for case in cases])[order],
        widest,
        scores[order],
        of_case[order],
        len(cases),
    )
    for number, case in enumerate(cases):
        found = {
            "accuracy": statistics.accuracy[number],
            "macro_f1": statistics.macro_f1[number],
            "weighted_f1": statistics.weighted_f1[number],
            "auc_one_vs_rest_macro": statistics.macro_auc[number],
        }
        assert found == pytest.approx(case["expected"], rel=1e-9, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_statistics_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    label, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    statistics = _statistics(label, predicted, 4)
    for average, found in (("macro", statistics.macro_f1), ("weighted", statistics.weighted_f1)):
        expected = metrics.f1_score(label, predicted, average=average, zero_division=0)
        assert found[0] == pytest.approx(expected)
    assert statistics.accuracy[0] == pytest.approx(metrics.accuracy_score(label, predicted))


def test_group_without_rows_is_undefined_with_a_reason() -> None:
    statistics = _statistics([0] * 3, [0] * 3, 2, [[0.9, 0.1]] * 3, group=1, group_count=2)
    assert list(statistics.reason) == ["no_labels", "single_class"]
    assert np.isnan(
        [statistics.accuracy[0], statistics.macro_f1[0], statistics.weighted_f1[0]]
    ).all()
    assert np.isnan(statistics.macro_auc).all()
    assert statistics.macro_f1[1] == 1


def test_class_without_a_label_does_not_count_in_the_mean_auc() -> None:
    # class 2 is never the label
    statistics = _statistics([0, 1], [0, 1], 3, [[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
    assert statistics.classes.auc[:2].tolist() == [1, 0]
    assert np.isnan(statistics.classes.auc[2])
    assert statistics.macro_auc[0] == 0.5
    assert statistics.reason[0] == ""


def test_interval_of_a_class_needs_thirty_rows_of_it() -> None:
    random = np.random.default_rng(6)
    label = np.repeat([0, 1, 2], [29, 30, 60])
    scores = random.random((len(label), 3)) + (label[:, None] == np.arange(3)) * 0.3
    found = _statistics(label, scores.argmax(axis=1), 3, scores).classes
    assert np.isnan(found.auc_lower).tolist() == [True, False, False]
    assert (found.auc_lower[1:] < found.auc[1:]).all()
    assert (found.auc[1:] < found.auc_upper[1:]).all()
    assert (found.recall_lower < found.recall).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [1], [1], [1, 1]), "vectors of one length"),
        (([1], [1], [1], [1]), r"group must lie in \[0, 1\)"),
        (([0], [1], [1], [2]), "between 0 and both other counts"),
        (([0, 0], [1, 1], [1, 1], [1, 1]), "one group per class"),
    ],
)
def test_wrong_input_is_refused(arguments: tuple[list[int], ...], message: str) -> None:
    group, label_count, predicted_count, true_positives = arguments
    scores = ScoreCounts.sorted_from([], [], [], [], 1)
    with pytest.raises(ValueError, match=message):
        multiclass_statistics(group, label_count, predicted_count, true_positives, scores, 1)
