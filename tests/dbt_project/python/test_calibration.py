"""Counts by score, and curves that make probabilities of scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_project.python.calibration import (
    MAX_CURVE_POINTS,
    MIN_LABELS_OF_A_POINT,
    CalibrationCurves,
    calibration_curves,
    score_histograms,
)
from dbt_project.python.score_counts import ScoreCounts
from dbt_project.python.undefined import Floats


def _counts(rows: list[tuple[float, int]]) -> ScoreCounts:
    score, label = (np.array(column) for column in zip(*rows, strict=True))
    return ScoreCounts.sorted_from(np.zeros(len(rows)), score, label, 1 - label, 1)


def _rate(curve: CalibrationCurves, score: Floats, group: int = 0) -> Floats:
    start, rate, slope = (
        values[curve.group == group] for values in (curve.start, curve.rate, curve.slope)
    )
    piece = np.searchsorted(start, score, side="right") - 1
    return np.asarray(rate[piece] + slope[piece] * (score - start[piece]))


def _of_groups(rows: list[tuple[int, float, int, int]], group_count: int) -> ScoreCounts:
    group, score, positives, negatives = (np.array([row[n] for row in rows]) for n in range(4))
    return ScoreCounts.sorted_from(group, score, positives, negatives, group_count)


labeled_scores = st.tuples(st.floats(0, 1), st.integers(0, 1))


@given(st.lists(labeled_scores, min_size=1, max_size=80), st.integers(0, 100))
def test_sum_from_a_hundredth_on_is_what_that_threshold_predicts(
    rows: list[tuple[float, int]], hundredth: int
) -> None:
    found = score_histograms(_counts(rows))
    score, label = (np.array(column) for column in zip(*rows, strict=True))
    is_predicted = score >= hundredth / 100
    assert found.positives[0, hundredth:].sum() == label[is_predicted].sum()
    assert found.negatives[0, hundredth:].sum() == (1 - label)[is_predicted].sum()
    assert found.score_sums.sum() == pytest.approx(score.sum())


def test_scores_that_are_no_probabilities_have_neither() -> None:
    counts = _counts([(score / 10, score % 2) for score in range(100)])
    assert not score_histograms(counts).positives.any()
    assert not len(calibration_curves(counts).start)


def test_curve_of_calibrated_scores_is_the_diagonal() -> None:
    random = np.random.default_rng(1)
    score = random.beta(2, 3, 40_000)
    label = (random.random(len(score)) < score).astype(int)
    curve = calibration_curves(ScoreCounts.sorted_from(score * 0, score, label, 1 - label, 1))
    inside = np.linspace(0.05, 0.85, 50)
    assert np.abs(_rate(curve, inside) - inside).max() < 0.03


def test_curve_of_scores_that_say_nothing_is_level() -> None:
    """It lies far from where the fit of the smooth curve begins."""
    counts = _counts([(score / 100, label) for score in range(100) for label in (0, 0, 0, 1, 1)])
    assert calibration_curves(counts).rate == pytest.approx(0.4, abs=0.01)


def test_curve_follows_where_positives_are_rare() -> None:
    """Points lie among the rare positives, too, not only where most rows are."""
    random = np.random.default_rng(2)
    score = random.beta(0.5, 25, 60_000)
    label = (random.random(len(score)) < score).astype(int)
    assert label.mean() < 0.025
    curve = calibration_curves(ScoreCounts.sorted_from(score * 0, score, label, 1 - label, 1))
    assert curve.start[-1] > np.quantile(score, 0.99)
    expected = _rate(curve, score)
    assert expected.mean() == pytest.approx(label.mean(), rel=0.02)
    is_high = score > np.quantile(score, 0.95)
    assert expected[is_high].mean() == pytest.approx(score[is_high].mean(), rel=0.1)


def test_curve_is_level_beyond_half_way_to_the_ends() -> None:
    rows = [(0.25, 0)] * 15 + [(0.25, 1)] * 5 + [(0.75, 1)] * 15 + [(0.75, 0)] * 5
    curve = calibration_curves(_counts(rows))
    assert curve.start.tolist() == [-1, 0.125, 0.25, 0.75, 0.875]
    assert curve.slope[0] == curve.slope[-1] == 0
    assert curve.slope[1:-1].min() > 0
    # A smooth curve goes through two points.
    assert _rate(curve, np.array([0.25, 0.75])) == pytest.approx([0.25, 0.75], abs=0.02)
    assert _rate(curve, np.array([0.5])) == pytest.approx(0.5)


def test_curve_of_few_labels_keeps_the_order_of_calibrated_scores() -> None:
    """Where a point has a handful of positives, chance alone would decide which is higher."""
    random = np.random.default_rng(5)
    score = random.beta(1, 8, 3_000)
    label = (random.random(len(score)) < score).astype(int)
    curve = calibration_curves(ScoreCounts.sorted_from(score * 0, score, label, 1 - label, 1))
    low = np.quantile(score, np.linspace(0.01, 0.6, 12))
    assert np.corrcoef(_rate(curve, low), low)[0, 1] > 0.95


def test_curve_follows_scores_that_are_no_probabilities() -> None:
    """The smooth curve has no such shape; points with rows enough have their own."""
    random = np.random.default_rng(6)
    score = random.random(40_000)
    truth = score + 0.15 * np.sin(6 * np.pi * score)
    label = (random.random(len(score)) < truth).astype(int)
    curve = calibration_curves(ScoreCounts.sorted_from(score * 0, score, label, 1 - label, 1))
    inside = np.linspace(0.05, 0.95, 50)
    expected = inside + 0.15 * np.sin(6 * np.pi * inside)
    assert np.abs(_rate(curve, inside) - expected).max() < 0.06


@pytest.mark.parametrize(
    ("rarer", "points"),
    [
        (2 * MIN_LABELS_OF_A_POINT - 1, 0),
        (2 * MIN_LABELS_OF_A_POINT, 2),
        (100 * MIN_LABELS_OF_A_POINT, MAX_CURVE_POINTS),
    ],
)
def test_curve_has_as_many_points_as_the_rarer_class_allows(rarer: int, points: int) -> None:
    random = np.random.default_rng(3)
    score = random.random(5_000)
    label = (np.arange(5_000) < rarer).astype(int)
    curve = calibration_curves(ScoreCounts.sorted_from(score * 0, score, label, 1 - label, 1))
    # A point more at each end, and the level piece before the first.
    assert len(curve.start) == (points + 3 if points else 0)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.floats(0, 1), st.integers(0, 9), st.integers(0, 9)),
        max_size=60,
    )
)
def test_curve_of_a_group_does_not_depend_on_the_others(
    rows: list[tuple[int, float, int, int]],
) -> None:
    together = calibration_curves(_of_groups(rows, 3))
    for group in range(3):
        own = [(0, score, ones, others) for of, score, ones, others in rows if of == group]
        alone = calibration_curves(_of_groups(own, 1))
        of_group = together.group == group
        assert together.start[of_group].tolist() == pytest.approx(alone.start.tolist())
        assert together.rate[of_group].tolist() == pytest.approx(alone.rate.tolist())
        assert (together.rate[of_group] >= 0).all()
        assert (together.rate[of_group] <= 1).all()
        assert (np.diff(together.start[of_group]) > 0).all()
