"""Confidence intervals at 95 %, for many estimates at once.

Every function takes and gives float64 arrays of one shape; an interval that is undefined is NaN
on both sides.
"""

from __future__ import annotations

import numpy as np

from dbt_project.python.undefined import Floats, Integers

# The 0.975 quantile of the standard normal distribution.
_Z = 1.959963984540054

# So many rows of a class the assumption about its spread counts for, beside those seen.
_ASSUMED_ROWS = 5


def wilson_interval(successes: Integers, trials: Integers) -> tuple[Floats, Floats]:
    """Give Wilson's score interval (1927) of a rate; NaN where there were no trials."""
    count = np.where(trials > 0, trials, np.nan)
    rate = successes / count
    shrink = 1 + _Z**2 / count
    center = (rate + _Z**2 / (2 * count)) / shrink
    half_width = _Z / shrink * np.sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2))
    # At 0 and 1 the bound is the estimate itself; rounding would put it beside.
    lower = np.where(successes == 0, 0 * count, center - half_width)
    upper = np.where(successes == trials, 0 * count + 1, center + half_width)
    return lower, upper


def f1_interval(
    true_positives: Integers, false_positives: Integers, false_negatives: Integers
) -> tuple[Floats, Floats]:
    """Give the interval of F1: Wilson's on F/(2 - F) = TP/(TP + FP + FN), mapped back.

    Takahashi et al., "Confidence interval for micro-averaged F1 and macro-averaged F1 scores"
    (2022), builds on the same identity; the transformed value is a plain rate.
    """
    lower, upper = wilson_interval(
        true_positives, true_positives + false_positives + false_negatives
    )
    return 2 * lower / (1 + lower), 2 * upper / (1 + upper)


def logit_interval(estimate: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Give the interval of an estimate in (0, 1) that is symmetric on the logit scale.

    The standard error is carried over by the delta method: sqrt(variance) / (e (1 - e)). At 0 and
    1 the logit is infinite, so the interval is NaN.
    """
    is_inside = (estimate > 0) & (estimate < 1)
    inside = np.where(is_inside, estimate, np.nan)
    logit = np.log(inside / (1 - inside))
    half_width = _Z * np.sqrt(variance) / (inside * (1 - inside))
    return _expit(logit - half_width), _expit(logit + half_width)


def mean_interval(mean: Floats, sample_variance: Floats, count: Integers) -> tuple[Floats, Floats]:
    """Give the normal interval of a mean: mean ± z sqrt(variance / count); NaN under two rows."""
    is_defined = count > 1
    half_width = _Z * np.sqrt(
        np.where(is_defined, sample_variance, np.nan) / np.where(is_defined, count, 1)
    )
    return mean - half_width, mean + half_width


def auc_interval(
    auc: Floats, of_positives: Floats, of_negatives: Floats, positive: Integers, negative: Integers
) -> tuple[Floats, Floats]:
    """Give the interval of AUC on the logit scale; the variances are DeLong's, of either class.

    The few rows of a small class are often all on the right side, and their spread looks smaller
    than it is: alone it covers 88 % at an AUC of 0.95 with 30 positives. So each class's spread is
    taken together with the one of exponential scores (Hanley and McNeil, 1982: 2A²/(1 + A) - A² and
    A/(2 - A) - A²), as if that had been seen in a few rows more.
    """
    of_a_positive = 2 * auc**2 / (1 + auc) - auc**2
    of_a_negative = auc / (2 - auc) - auc**2
    variance = _steadied(of_positives, of_a_positive, positive) + _steadied(
        of_negatives, of_a_negative, negative
    )
    return logit_interval(auc, variance)


def _steadied(seen: Floats, assumed_of_a_row: Floats, rows: Integers) -> Floats:
    """Pool a variance of a mean over `rows` with an assumed one, by their degrees of freedom."""
    count = np.maximum(rows, 2)
    pooled = (count - 1) * seen + _ASSUMED_ROWS * assumed_of_a_row / count
    return np.asarray(pooled / (count - 1 + _ASSUMED_ROWS), dtype=np.float64)


def _expit(logit: Floats) -> Floats:
    """Give 1 / (1 + exp(-x)) without overflow on either side."""
    small = np.exp(-np.abs(logit))
    return np.asarray(np.where(logit >= 0, 1, small) / (1 + small), dtype=np.float64)
