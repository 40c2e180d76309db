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
# What a smooth curve counts for at a point: as much as so many rows of the class rarer there.
LABELS_OF_THE_SMOOTH_CURVE = 5
_NEWTON_STEPS = 25
_LEAST_PROBABILITY = 1e-6


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
    class is, also where positives are rare. Its share is drawn towards a smooth curve of the group:
    chance decides about a single point where a class has few rows. That curve also says how it
    goes on beyond the first and the last point; half-way to 0 and 1 it is level. Nothing forces it
    to rise.
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
    filled = np.unique(place)

    def summed(values: Floats | Integers) -> Floats:
        found = np.bincount(place, weights=values, minlength=counts.group_count * MAX_CURVE_POINTS)
        return np.asarray(found[filled], dtype=np.float64)

    rows = summed(positives + negatives)
    mean = summed((positives + negatives) * score) / rows
    return _lines(*_points(filled // MAX_CURVE_POINTS, mean, summed(positives), rows))


def _points(
    group: Integers, score: Floats, positives: Floats, rows: Floats
) -> tuple[Integers, Floats, Floats]:
    """Give group, score and rate of each point, in order, from the counts of its rows."""
    beta = _beta_curves(group, score, positives, rows)
    rate = _drawn_to(_probability(beta.log_odds(group, score)), positives, rows)
    is_first = np.ones(len(group), dtype=np.bool_)
    is_first[1:] = group[1:] != group[:-1]
    # One point more at each end, half-way to 0 and to 1.
    lower = is_first & (score > _LEAST_PROBABILITY)
    upper = np.roll(is_first, -1) & (score < 1 - _LEAST_PROBABILITY)
    end = np.concatenate([np.flatnonzero(lower), np.flatnonzero(upper)])
    beyond = np.concatenate([score[lower] / 2, (1 + score[upper]) / 2])
    offset = _log_odds(rate[end]) - beta.log_odds(group[end], score[end])
    groups = np.concatenate([group, group[end]])
    scores = np.concatenate([score, beyond])
    rates = np.concatenate([rate, _probability(offset + beta.log_odds(group[end], beyond))])
    order = np.lexsort((scores, groups))
    return groups[order], scores[order], rates[order]


@dataclass(frozen=True)
class _BetaCurves:
    """A beta calibration per group (Kull, Silva Filho and Flach, 2017); matrix of (group, 3)."""

    coefficients: Floats

    @staticmethod
    def terms(score: Floats) -> Floats:
        """Give the terms whose weighted sum is the log odds; a matrix of (score, 3)."""
        inside = np.clip(score, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        return np.stack([np.log(inside), -np.log1p(-inside), np.ones(len(score))], axis=1)

    def log_odds(self, group: Integers, score: Floats) -> Floats:
        """Give the log odds of being positive at each score of a group."""
        found = (self.coefficients[group] * self.terms(score)).sum(axis=1)
        return np.asarray(found, dtype=np.float64)


def _beta_curves(group: Integers, score: Floats, positives: Floats, rows: Floats) -> _BetaCurves:
    """Fit one to the points of each group, by Newton's method.

    One row's worth of belief that scores are probabilities (1, 1, 0) keeps the coefficients finite.
    """
    count = int(group.max(initial=-1)) + 1
    belief = np.array([1.0, 1.0, 0.0])
    coefficients = np.tile(belief, (count, 1))
    terms = _BetaCurves.terms(score)
    squares = terms[:, :, None] * terms[:, None, :]
    for _ in range(_NEWTON_STEPS):
        expected = _probability(_BetaCurves(coefficients).log_odds(group, score))
        gradient = belief - coefficients
        np.add.at(gradient, group, terms * (positives - rows * expected)[:, None])
        information = np.tile(np.eye(3), (count, 1, 1))
        np.add.at(information, group, squares * (rows * expected * (1 - expected))[:, None, None])
        step = np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
        # Far from the solution a whole step overshoots: no point moves by more than 2 at once.
        longest = np.zeros(count)
        np.maximum.at(longest, group, np.abs(_BetaCurves(step).log_odds(group, score)))
        coefficients = coefficients + step * (2 / np.maximum(longest, 2))[:, None]
    return _BetaCurves(coefficients)


def _drawn_to(smooth: Floats, positives: Floats, rows: Floats) -> Floats:
    """Draw the shares of positives towards a smooth curve."""
    added = LABELS_OF_THE_SMOOTH_CURVE / np.minimum(smooth, 1 - smooth)
    return np.asarray((positives + added * smooth) / (rows + added), dtype=np.float64)


def _log_odds(probability: Floats) -> Floats:
    inside = np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.asarray(np.log(inside / (1 - inside)), dtype=np.float64)


def _probability(log_odds: Floats) -> Floats:
    limit = -np.log(_LEAST_PROBABILITY)
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -limit, limit))), dtype=np.float64)


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
