"""Multiclass statistics: by hand, by reference, by scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from dbt_project.python.multiclass import multiclass_statistics, one_vs_rest_auc

REFERENCE = Path(__file__).parents[2] / "reference" / "multiclass_cases.json"


def test_statistics_equal_the_hand_computed_example() -> None:
    # labels a a a b b c, predicted a a b b a b
    statistics = multiclass_statistics(
        [0] * 5, [0, 0, 1, 1, 2], [0, 1, 1, 0, 1], [2, 1, 1, 1, 1], 1, 4
    )
    assert statistics.accuracy[0] == pytest.approx(3 / 6)
    # a: 2 hits, 3 predicted, 3 labels; b: 1 hit, 3 predicted, 2 labels; c: no hit; d: nowhere
    assert statistics.class_f1[0, :3].tolist() == pytest.approx([4 / 6, 2 / 5, 0])
    assert np.isnan(statistics.class_f1[0, 3])
    assert statistics.macro_f1[0] == pytest.approx((4 / 6 + 2 / 5 + 0) / 3)
    assert statistics.weighted_f1[0] == pytest.approx((3 * 4 / 6 + 2 * 2 / 5 + 0) / 6)
    assert np.isnan(statistics.class_precision[0, 2])
    assert statistics.class_recall[0, 2] == 0


def test_statistics_of_all_groups_at_once_equal_the_reference_cases() -> None:
    cases: list[dict[str, Any]] = json.loads(REFERENCE.read_text())
    classes = max(len(case["scores"][0]) for case in cases)
    sizes = [len(case["label"]) for case in cases]
    group = np.repeat(np.arange(len(cases)), sizes)
    label = np.concatenate([case["label"] for case in cases])
    predicted = np.concatenate([case["predicted"] for case in cases])
    statistics = multiclass_statistics(
        group, label, predicted, np.ones(len(group)), len(cases), classes
    )
    scored = [
        (number, klass, score, int(row_label == klass))
        for number, case in enumerate(cases)
        for row_label, scores in zip(case["label"], case["scores"], strict=True)
        for klass, score in enumerate(scores)
    ]
    groups, klasses, scores, positives = (np.array(column) for column in zip(*scored, strict=True))
    _, macro_auc = one_vs_rest_auc(
        groups, klasses, scores, positives, 1 - positives, len(cases), classes
    )
    for number, case in enumerate(cases):
        found = {
            "accuracy": statistics.accuracy[number],
            "macro_f1": statistics.macro_f1[number],
            "weighted_f1": statistics.weighted_f1[number],
            "auc_one_vs_rest_macro": macro_auc[number],
        }
        assert found == pytest.approx(case["expected"], rel=1e-9, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_statistics_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    label, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    ones = np.ones(len(pairs))
    statistics = multiclass_statistics(np.zeros(len(pairs)), label, predicted, ones, 1, 4)
    for average, found in (("macro", statistics.macro_f1), ("weighted", statistics.weighted_f1)):
        expected = metrics.f1_score(label, predicted, average=average, zero_division=0)
        assert found[0] == pytest.approx(expected)
    assert statistics.accuracy[0] == pytest.approx(metrics.accuracy_score(label, predicted))


def test_group_without_rows_is_undefined_with_a_reason() -> None:
    statistics = multiclass_statistics([1], [0], [0], [3], 2, 2)
    assert list(statistics.reason) == ["no_labels", ""]
    assert np.isnan(
        [statistics.accuracy[0], statistics.macro_f1[0], statistics.weighted_f1[0]]
    ).all()
    assert statistics.macro_f1[1] == 1


def test_class_without_a_label_does_not_count_in_the_mean_auc() -> None:
    # class 2 is never the label
    per_class, mean = one_vs_rest_auc(
        [0] * 6, [0, 0, 1, 1, 2, 2], [0.9, 0.1] * 3, [1, 0, 0, 1, 0, 0], [0, 1, 1, 0, 1, 1], 1, 3
    )
    assert per_class[0, :2].tolist() == [1, 0]
    assert np.isnan(per_class[0, 2])
    assert mean[0] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [0], [0], [1, 1], 1, 1), "vectors of one length"),
        (([0], [1], [0], [1], 1, 1), r"label must lie in \[0, 1\)"),
        (([0], [0], [0], [-1], 1, 1), "cannot be negative"),
    ],
)
def test_wrong_input_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        multiclass_statistics(*arguments)
