"""Differences of AUC and F1 with their paired intervals, against independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

from orchestration.retraining.evaluation import (
    Estimate,
    auc_difference,
    evaluate,
    f1_difference,
)

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Z = 1.959963984540054


def scored_rows(
    seed: int, rows: int, champion: float, challenger: float
) -> tuple[Booleans, Floats, Floats]:
    """Give labels and two correlated scores in tenths (many ties), each with a strength."""
    generator = np.random.default_rng(seed)
    is_positive = generator.random(rows) < 0.3
    shared = generator.normal(size=rows)

    def scores(strength: float) -> Floats:
        raw = strength * is_positive + 0.7 * shared + 0.7 * generator.normal(size=rows)
        return np.round(1 / (1 + np.exp(-raw)), 1)

    return is_positive, scores(champion), scores(challenger)


def test_auc_difference_equals_a_hand_computed_one() -> None:
    """2 positives, 3 negatives.

    Champion, positives 3 and 1 against 2, 0, 4: V10 = 2/3, 1/3; V01 = 1/2, 1, 0. AUC 1/2.
    Challenger, positives 3 and 3 against 2, 3, 0: V10 = 5/6, 5/6; V01 = 1, 1/2, 1. AUC 5/6.
    Differences: 1/6, 1/2 (variance 1/18) and 1/2, -1/2, 1 (variance 7/12), so the variance is
    1/36 + 7/36 = 2/9.
    """
    found = auc_difference(
        np.array([True, True, False, False, False]),
        np.array([3.0, 1, 2, 0, 4]),
        np.array([3.0, 3, 2, 3, 0]),
    )
    half_width = Z * math.sqrt(2 / 9)
    assert (found.value, found.lower, found.upper) == pytest.approx(
        (1 / 3, 1 / 3 - half_width, 1 / 3 + half_width)
    )


def test_f1_difference_equals_a_hand_computed_one() -> None:
    """4 rows, labels 1 1 0 0.

    Champion calls 1 0 1 0: F1 = 2·1/(2+2) = 1/2; challenger calls 1 1 0 0: F1 = 1. With mean
    weight 1 both, influences are champion (2 - 1, -1/2, -1/2, 0) and challenger (0, 0, 0, 0).
    Their difference -1, 1/2, 1/2, 0 has the variance 1/2, over 4 rows 1/8.
    """
    found = f1_difference(
        np.array([True, True, False, False]),
        np.array([True, False, True, False]),
        np.array([True, True, False, False]),
    )
    half_width = Z * math.sqrt(1 / 8)
    assert found.value == pytest.approx(0.5)
    assert found.upper - found.value == pytest.approx(half_width)
    assert found.value - found.lower == pytest.approx(half_width)


@pytest.mark.parametrize("seed", range(5))
def test_auc_difference_equals_delong_over_all_pairs(seed: int) -> None:
    is_positive, champion, challenger = scored_rows(seed, 400, 0.5, 0.9)
    found = auc_difference(is_positive, champion, challenger)

    def kernel(scores: Floats) -> Floats:
        pairs = scores[is_positive][:, None] - scores[~is_positive][None, :]
        return np.where(pairs > 0, 1.0, np.where(pairs == 0, 0.5, 0.0))

    # The published form: covariance matrices of the components, contrast (-1, 1).
    kernels = [kernel(champion), kernel(challenger)]
    s10 = np.cov([one.mean(axis=1) for one in kernels])
    s01 = np.cov([one.mean(axis=0) for one in kernels])
    covariance = s10 / is_positive.sum() + s01 / (~is_positive).sum()
    contrast = np.array([-1.0, 1.0])
    deviation = math.sqrt(contrast @ covariance @ contrast)
    difference = roc_auc_score(is_positive, challenger) - roc_auc_score(is_positive, champion)
    assert found.value == pytest.approx(difference, abs=1e-12)
    assert found.upper - found.lower == pytest.approx(2 * Z * deviation, rel=1e-9)


def test_intervals_agree_with_a_bootstrap() -> None:
    is_positive, champion, challenger = scored_rows(7, 2_000, 0.6, 0.9)
    generator = np.random.default_rng(1)
    resampled = []
    for _ in range(400):
        rows = generator.integers(0, len(is_positive), len(is_positive))
        labels = is_positive[rows]
        resampled.append(
            (
                roc_auc_score(labels, challenger[rows]) - roc_auc_score(labels, champion[rows]),
                f1_score(labels, challenger[rows] >= 0.6) - f1_score(labels, champion[rows] >= 0.5),
            )
        )
    deviations = np.std(resampled, axis=0, ddof=1)
    auc = auc_difference(is_positive, champion, challenger)
    f1 = f1_difference(is_positive, champion >= 0.5, challenger >= 0.6)
    # The deviation of 400 resamplings is itself known to 3.5 % (one standard error).
    assert (auc.upper - auc.lower) / (2 * Z) == pytest.approx(deviations[0], rel=0.14)
    assert (f1.upper - f1.lower) / (2 * Z) == pytest.approx(deviations[1], rel=0.14)


def test_paired_interval_is_narrower_than_unpaired_ones() -> None:
    found = evaluate(
        *scored_rows(3, 2_000, 0.6, 0.9), champion_threshold=0.5, challenger_threshold=0.5
    ).auc
    unpaired = math.hypot(
        found.champion.upper - found.champion.lower, found.challenger.upper - found.challenger.lower
    )
    assert found.difference.upper - found.difference.lower < unpaired


def test_values_are_those_of_scikit_learn() -> None:
    is_positive, champion, challenger = scored_rows(11, 1_000, 0.5, 1.0)
    found = evaluate(
        is_positive, champion, challenger, champion_threshold=0.5, challenger_threshold=0.6
    )
    assert found.positive_count == is_positive.sum()
    assert found.negative_count == 1_000 - is_positive.sum()
    assert found.auc.champion.value == pytest.approx(roc_auc_score(is_positive, champion))
    assert found.auc.challenger.value == pytest.approx(roc_auc_score(is_positive, challenger))
    assert found.f1.champion.value == pytest.approx(f1_score(is_positive, champion >= 0.5))
    assert found.f1.challenger.value == pytest.approx(f1_score(is_positive, challenger >= 0.6))
    for one in (found.auc, found.f1):
        difference = one.challenger.value - one.champion.value
        assert one.difference.value == pytest.approx(difference, abs=1e-12)
        assert one.champion.lower < one.champion.value < one.champion.upper
    assert found.of("auc") == found.auc
    assert found.of("f1") == found.f1


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 5)), max_size=40),
)
def test_differences_turn_around_with_the_sides(rows: list[tuple[bool, int, int]]) -> None:
    labels = np.array([True, True, False, False, *(row[0] for row in rows)])
    first = np.array([1.0, 4, 2, 3, *(row[1] for row in rows)])
    second = np.array([2.0, 3, 1, 4, *(row[2] for row in rows)])
    for there, back in (
        (auc_difference(labels, first, second), auc_difference(labels, second, first)),
        (
            f1_difference(labels, first >= 3, second >= 3),
            f1_difference(labels, second >= 3, first >= 3),
        ),
    ):
        assert there.value == pytest.approx(-back.value, abs=1e-12)
        assert there.lower == pytest.approx(-back.upper, abs=1e-12)
        assert there.lower <= there.value <= there.upper


def test_same_scores_are_not_better() -> None:
    is_positive, champion, _ = scored_rows(5, 500, 0.5, 0.5)
    found = evaluate(
        is_positive, champion, champion, champion_threshold=0.5, challenger_threshold=0.5
    )
    assert found.auc.difference == Estimate(0, 0, 0)
    assert not found.auc.is_better
    assert not found.f1.is_better


def test_better_within_the_interval_is_not_enough() -> None:
    is_positive, champion, challenger = scored_rows(2, 120, 0.7, 1.2)
    few = evaluate(
        is_positive, champion, challenger, champion_threshold=0.5, challenger_threshold=0.5
    )
    assert few.auc.difference.value > 0 > few.auc.difference.lower
    assert not few.auc.is_better
    many = evaluate(
        np.tile(is_positive, 40),
        np.tile(champion, 40),
        np.tile(challenger, 40),
        champion_threshold=0.5,
        challenger_threshold=0.5,
    )
    assert many.auc.difference.value == pytest.approx(few.auc.difference.value)
    assert many.auc.is_better


def test_false_promotions_are_as_rare_as_the_interval_says() -> None:
    """Two equally good sets of scores: the lower bound is above 0 in some 2.5 % of cases."""
    promoted = sum(
        auc_difference(*scored_rows(seed, 600, 0.8, 0.8)).lower > 0 for seed in range(1_000)
    )
    # 25 expected; 10 and 45 are beyond three standard deviations on either side.
    assert 10 <= promoted <= 45


def test_too_few_of_a_class_or_other_lengths_are_refused() -> None:
    is_positive = np.arange(100) < 29
    scores = np.linspace(0, 1, 100)
    with pytest.raises(ValueError, match="29 positive and 71 negative rows"):
        evaluate(is_positive, scores, scores, champion_threshold=0.5, challenger_threshold=0.5)
    with pytest.raises(ValueError, match="one length"):
        evaluate(is_positive, scores, scores[1:], champion_threshold=0.5, challenger_threshold=0.5)
