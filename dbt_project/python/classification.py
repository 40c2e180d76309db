"""Performance of binary classifiers, for many groups (window and segment) in one pass.

Rows come counted: one per group and distinct score, with the number of positive and of negative
labels at that score. That is all the statistics need, and it is small. Nothing loops over rows
or groups.

Undefined is NaN, never 0, and `reason` says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dbt_project.python.intervals import auc_interval, f1_interval, wilson_interval
from dbt_project.python.score_counts import ScoreCounts
from dbt_project.python.undefined import Booleans, Floats, Integers, joined_reasons, ratio

# Under this many labels of a class the interval of AUC is not given: its coverage breaks down.
MIN_LABELS_OF_A_CLASS = 30

# Probabilities are clipped to [1e-15, 1 - 1e-15] in the log loss, as scikit-learn once did.
_LOG_LOSS_CLIP = 1e-15

# Expected calibration error: equal-width bins of the score, [0, 0.1), [0.1, 0.2), …, [0.9, 1].
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class BinaryStatistics:
    """One value per group: counts are int64, everything else float64 with NaN for undefined.

    `reason` holds, for each group, the names of what made something undefined, joined by commas
    ('' when everything is defined):

    - no_labels: no labelled row; every rate is NaN;
    - single_class: only positives or only negatives; AUC is NaN;
    - too_few_labels: fewer than MIN_LABELS_OF_A_CLASS of a class; the interval of AUC is NaN;
    - auc_at_bound: AUC is exactly 0 or 1; its interval on the logit scale is NaN;
    - no_predicted_positives: no score reaches the threshold; precision is NaN;
    - no_positives: no positive label; recall and PR AUC are NaN;
    - not_probabilities: scores outside [0, 1]; log loss, Brier and calibration error are NaN.
    """

    labeled_count: Integers
    positive_count: Integers
    negative_count: Integers
    true_positives: Integers
    false_positives: Integers
    true_negatives: Integers
    false_negatives: Integers
    prevalence: Floats
    accuracy: Floats
    accuracy_lower: Floats
    accuracy_upper: Floats
    precision: Floats
    precision_lower: Floats
    precision_upper: Floats
    recall: Floats
    recall_lower: Floats
    recall_upper: Floats
    f1: Floats
    f1_lower: Floats
    f1_upper: Floats
    auc: Floats
    auc_variance: Floats
    auc_lower: Floats
    auc_upper: Floats
    pr_auc: Floats
    log_loss: Floats
    brier: Floats
    ece: Floats
    reason: NDArray[np.object_]


def binary_statistics(
    group: ArrayLike,
    score: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    threshold: ArrayLike,
    group_count: int,
) -> BinaryStatistics:
    """Give every statistic of `group_count` groups.

    `group` (integers in [0, group_count)), `score` (finite floats), `positives` and `negatives`
    (counts, not negative) have one element per row, in any order; a score may come in several
    rows of a group. `threshold` is one number, or one per group: a row is predicted positive when
    score >= threshold. Groups without rows are allowed.

    Raises ValueError when shapes or ranges are wrong.
    """
    counts = ScoreCounts.sorted_from(group, score, positives, negatives, group_count)
    return statistics_of_counts(counts, threshold)


def statistics_of_counts(counts: ScoreCounts, threshold: ArrayLike) -> BinaryStatistics:
    """Give every statistic of counts that are in order; see `binary_statistics`."""
    group_count = counts.group_count
    thresholds = np.broadcast_to(np.asarray(threshold, dtype=np.float64), (group_count,))

    area = area_under_roc(counts)
    positive, negative, has_enough = area.positive, area.negative, area.has_enough
    total = positive + negative
    is_predicted = counts.score >= thresholds[counts.group]
    true_positives = counts.sum_integers(np.where(is_predicted, counts.positives, 0))
    false_positives = counts.sum_integers(np.where(is_predicted, counts.negatives, 0))
    false_negatives = positive - true_positives
    true_negatives = negative - false_positives
    predicted = true_positives + false_positives
    correct = true_positives + true_negatives

    is_probability = counts.all_probabilities()
    has_calibration = is_probability & (total > 0)
    accuracy_lower, accuracy_upper = wilson_interval(correct, total)
    precision_lower, precision_upper = wilson_interval(true_positives, predicted)
    recall_lower, recall_upper = wilson_interval(true_positives, positive)
    f1_lower, f1_upper = f1_interval(true_positives, false_positives, false_negatives)

    return BinaryStatistics(
        labeled_count=total,
        positive_count=positive,
        negative_count=negative,
        true_positives=true_positives,
        false_positives=false_positives,
        true_negatives=true_negatives,
        false_negatives=false_negatives,
        prevalence=ratio(positive, total),
        accuracy=ratio(correct, total),
        accuracy_lower=accuracy_lower,
        accuracy_upper=accuracy_upper,
        precision=ratio(true_positives, predicted),
        precision_lower=precision_lower,
        precision_upper=precision_upper,
        recall=ratio(true_positives, positive),
        recall_lower=recall_lower,
        recall_upper=recall_upper,
        f1=ratio(2 * true_positives, predicted + positive),
        f1_lower=f1_lower,
        f1_upper=f1_upper,
        auc=area.value,
        auc_variance=area.variance,
        auc_lower=area.lower,
        auc_upper=area.upper,
        pr_auc=_average_precision(counts, positive),
        log_loss=np.where(has_calibration, _log_loss(counts, total), np.nan),
        brier=np.where(has_calibration, _brier_score(counts, total), np.nan),
        ece=np.where(has_calibration, _calibration_error(counts, total), np.nan),
        reason=joined_reasons(
            {
                "no_labels": total == 0,
                "single_class": (total > 0) & (np.minimum(positive, negative) == 0),
                "too_few_labels": (np.minimum(positive, negative) > 0) & ~has_enough,
                "auc_at_bound": has_enough & ((area.value == 0) | (area.value == 1)),
                "no_predicted_positives": (total > 0) & (predicted == 0),
                "no_positives": (total > 0) & (positive == 0),
                "not_probabilities": ~is_probability,
            },
            group_count,
        ),
    )


@dataclass(frozen=True)
class RocArea:
    """Area under the ROC curve of each group: its value, DeLong's variance, its interval.

    `has_enough` tells where both classes have MIN_LABELS_OF_A_CLASS: no interval elsewhere.
    """

    positive: Integers
    negative: Integers
    value: Floats
    variance: Floats
    lower: Floats
    upper: Floats
    has_enough: Booleans


def area_under_roc(counts: ScoreCounts) -> RocArea:
    """Give the exact ROC AUC of each group: NaN where there are rows of one class only, or none."""
    positive = counts.sum_integers(counts.positives)
    negative = counts.sum_integers(counts.negatives)
    value = _area_under_roc(counts, positive, negative)
    of_positives, of_negatives = _delong_variances(counts, positive, negative, value)
    has_enough = np.minimum(positive, negative) >= MIN_LABELS_OF_A_CLASS
    lower, upper = auc_interval(
        np.where(has_enough, value, np.nan), of_positives, of_negatives, positive, negative
    )
    return RocArea(positive, negative, value, of_positives + of_negatives, lower, upper, has_enough)


def _area_under_roc(counts: ScoreCounts, positive: Integers, negative: Integers) -> Floats:
    """Mann-Whitney: the share of (positive, negative) pairs in order, ties as half.

    Twice the number of pairs is summed in integers, so the value is exact to its last digit.
    """
    pairs = counts.positives * (2 * counts.before(counts.negatives) + counts.negatives)
    return ratio(counts.sum_integers(pairs), 2 * positive * negative)


def _delong_variances(
    counts: ScoreCounts, positive: Integers, negative: Integers, auc: Floats
) -> tuple[Floats, Floats]:
    """DeLong, DeLong and Clarke-Pearson (1988), from the structural components.

    V10 of a positive is the share of negatives below it, V01 of a negative the share of positives
    above it (ties as half). The variance of AUC is the sum of the two that are given, var(V10)/P
    and var(V01)/N, with P - 1 and N - 1 as divisors inside. Undefined under two of a class.
    """
    of_group = counts.group
    is_defined = (positive > 1) & (negative > 1)
    positives = np.where(is_defined, positive, 2)
    negatives = np.where(is_defined, negative, 2)
    below = counts.before(counts.negatives) + counts.negatives / 2
    above = positive[of_group] - counts.before(counts.positives) - counts.positives / 2
    spread_10 = counts.positives * (below / negatives[of_group] - auc[of_group]) ** 2
    spread_01 = counts.negatives * (above / positives[of_group] - auc[of_group]) ** 2
    of_positives = counts.sum_floats(spread_10) / (positives - 1) / positives
    of_negatives = counts.sum_floats(spread_01) / (negatives - 1) / negatives
    return (
        np.asarray(np.where(is_defined, of_positives, np.nan), dtype=np.float64),
        np.asarray(np.where(is_defined, of_negatives, np.nan), dtype=np.float64),
    )


def _average_precision(counts: ScoreCounts, positive: Integers) -> Floats:
    """Area under the precision-recall curve as average precision (scikit-learn's definition).

    The sum over distinct scores, from the greatest, of the gain in recall times the precision
    among rows with that score or more.
    """
    everyone = counts.positives + counts.negatives
    # at this score or above = the group's total without what lies below
    true_positives = positive[counts.group] - counts.before(counts.positives)
    predicted = counts.sum_integers(everyone)[counts.group] - counts.before(everyone)
    precision = true_positives / np.maximum(predicted, 1)
    is_defined = positive > 0
    sums = counts.sum_floats(np.asarray(counts.positives * precision, dtype=np.float64))
    return np.asarray(
        np.where(is_defined, sums, np.nan) / np.where(is_defined, positive, 1), dtype=np.float64
    )


def _log_loss(counts: ScoreCounts, total: Integers) -> Floats:
    """Mean negative log likelihood, natural logarithm, scores clipped."""
    probability = np.clip(counts.score, _LOG_LOSS_CLIP, 1 - _LOG_LOSS_CLIP)
    of_positives: Floats = np.log(probability)
    of_negatives: Floats = np.log1p(-probability)
    losses = counts.positives * of_positives + counts.negatives * of_negatives
    return -counts.sum_floats(losses) / np.maximum(total, 1)


def _brier_score(counts: ScoreCounts, total: Integers) -> Floats:
    """Mean squared difference of score and label (Brier, 1950)."""
    errors = counts.positives * (1 - counts.score) ** 2 + counts.negatives * counts.score**2
    return counts.sum_floats(errors) / np.maximum(total, 1)


def _calibration_error(counts: ScoreCounts, total: Integers) -> Floats:
    """Weigh |share of positives - mean score| of each bin by its rows.

    Expected calibration error (Naeini et al., 2015), over CALIBRATION_BINS bins.
    """
    edges = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS
    bins = np.searchsorted(edges, counts.score, side="right")
    cell = counts.group * CALIBRATION_BINS + bins
    rows = counts.positives + counts.negatives
    excess = counts.positives - rows * counts.score
    per_cell = np.bincount(
        cell, weights=excess, minlength=counts.group_count * CALIBRATION_BINS
    ).reshape(counts.group_count, CALIBRATION_BINS)
    return np.asarray(np.abs(per_cell).sum(axis=1) / np.maximum(total, 1), dtype=np.float64)
