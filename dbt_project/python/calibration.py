"""Whether scores are probabilities: counts by score for charts, and curves that make them so.

A curve gives, for every score, the share of positives that the baseline saw near it. It makes an
estimate of performance out of scores alone: what a window's labels will be is what they were at
the same scores in the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dbt_project.python.score_counts import ScoreCounts
from dbt_project.python.undefined import Floats, Integers

# Scores 0.00, 0.01, …, 1.00, the last of them alone: enough for a curve over thresholds.
HUNDREDTHS = 101
_TENTHS = 10

# A curve has at most so many points, each with at least so many rows of the rarer class (on
# average): 2 points or more, so a curve needs 20 of each class.
MAX_CURVE_POINTS = 50
MIN_LABELS_OF_A_POINT = 10


@dataclass(frozen=True)
class ScoreHistograms:
    """Matrices of one row per group; all zeros where scores are not within [0, 1].

    Column k of `positives` and `negatives` counts the scores in [k/100, (k + 1)/100), so that the
    sum from k on is what a threshold of k/100 predicts positive. Column k of `score_sums` adds the
    scores in [k/10, (k + 1)/10); a score of 1 belongs to the last.
    """

    positives: Integers
    negatives: Integers
    score_sums: Floats


def score_histograms(counts: ScoreCounts) -> ScoreHistograms:
    """Count labelled rows by hundredths of the score, and sum their scores by tenths."""
    is_inside = counts.all_probabilities()[counts.group]
    group, score = counts.group[is_inside], counts.score[is_inside]
    hundredth = np.searchsorted(np.arange(1, HUNDREDTHS) / 100, score, side="right")
    tenth = np.searchsorted(np.arange(1, _TENTHS) / 10, score, side="right")

    def matrix(columns: int, column: Integers, values: Floats | Integers) -> Floats:
        size = counts.group_count * columns
        summed = np.bincount(group * columns + column, weights=values, minlength=size)
        return np.asarray(summed.reshape(counts.group_count, columns), dtype=np.float64)

    positives, negatives = counts.positives[is_inside], counts.negatives[is_inside]
    return ScoreHistograms(
        positives=matrix(HUNDREDTHS, hundredth, positives).astype(np.int64),
        negatives=matrix(HUNDREDTHS, hundredth, negatives).astype(np.int64),
        score_sums=matrix(_TENTHS, tenth, (positives + negatives) * score),
    )


@dataclass(frozen=True)
class CalibrationCurves:
    """Pieces of lines, in order of (group, start): one per element.

    From `start` until the next piece of the same group, the share of positives at a score s is
    rate + slope (s - start). Groups with too few rows of a class have none.
    """

    group: Integers
    start: Floats
    rate: Floats
    slope: Floats


def calibration_curves(counts: ScoreCounts) -> CalibrationCurves:
    """Draw each group's curve through points (mean score, share of positives).

    A point stands for rows next to each other in score, an equal part of both classes together (the
    mean of the share of all positives and that of all negatives), so that points lie where either
    class is, also where positives are rare. Before the first point and after the last the curve is
    level. The shares are those seen: nothing forces the curve to rise.
    """
    positive = counts.sum_integers(counts.positives)
    negative = counts.sum_integers(counts.negatives)
    points = np.minimum(MAX_CURVE_POINTS, np.minimum(positive, negative) // MIN_LABELS_OF_A_POINT)
    points[(points < 2) | ~counts.all_probabilities()] = 0
    kept = points[counts.group] > 0
    of_group, score = counts.group[kept], counts.score[kept]
    positives, negatives = counts.positives[kept], counts.negatives[kept]
    middle = (
        (counts.before(counts.positives)[kept] + positives / 2) / positive[of_group]
        + (counts.before(counts.negatives)[kept] + negatives / 2) / negative[of_group]
    ) / 2
    place = of_group * MAX_CURVE_POINTS + np.minimum(
        (middle * points[of_group]).astype(np.int64), points[of_group] - 1
    )
    size = counts.group_count * MAX_CURVE_POINTS
    rows = np.bincount(place, weights=positives + negatives, minlength=size)
    filled = np.flatnonzero(rows)
    score_sum = np.bincount(place, weights=(positives + negatives) * score, minlength=size)
    mean = score_sum[filled] / rows[filled]
    rate = np.bincount(place, weights=positives, minlength=size)[filled] / rows[filled]
    return _lines(filled // MAX_CURVE_POINTS, mean, rate)


def _lines(group: Integers, score: Floats, rate: Floats) -> CalibrationCurves:
    """Connect points, which are in order: a level piece before the first of each group."""
    is_last = np.ones(len(group), dtype=np.bool_)
    is_last[:-1] = group[1:] != group[:-1]
    next_score = np.where(is_last, score + 1, np.roll(score, -1))
    next_rate = np.where(is_last, rate, np.roll(rate, -1))
    slope = (next_rate - rate) / (next_score - score)
    is_first = np.roll(is_last, 1)
    starts = np.concatenate([score, np.full(int(is_first.sum()), -1.0)])
    groups = np.concatenate([group, group[is_first]])
    order = np.lexsort((starts, groups))
    return CalibrationCurves(
        group=groups[order],
        start=starts[order],
        rate=np.concatenate([rate, rate[is_first]])[order],
        slope=np.concatenate([slope, np.zeros(int(is_first.sum()))])[order],
    )
