"""Performance of classifiers of more than two classes, for many groups in one pass.

Rows come counted: per group and class, how many rows have it as label, how many as prediction,
how many as both; and for AUC, counted by the score of each class. Undefined is NaN, never 0;
`reason` says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dbt_project.python.classification import area_under_roc
from dbt_project.python.intervals import f1_interval, wilson_interval
from dbt_project.python.score_counts import ScoreCounts
from dbt_project.python.undefined import Floats, Integers, joined_reasons, ratio


@dataclass(frozen=True)
class ClassStatistics:
    """One value per class of a group, in the order given.

    `precision` is NaN where the class was never predicted, `recall` where it never was the label,
    `auc` (the class against all others) where the rows that give it a score are of one kind.
    """

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
    auc_lower: Floats
    auc_upper: Floats


@dataclass(frozen=True)
class MulticlassStatistics:
    """One value per group, and those of its classes.

    Macro F1 is the mean over the classes that are label or prediction of a row, weighted F1 the
    mean by rows of the label, macro AUC the mean over the classes that have one (scikit-learn's
    definitions; it refuses rows in which a class is missing). Reasons: `no_labels` (no rows),
    `no_class_scores` (no scores, so no AUC), `single_class` (scores, but no class has an AUC).
    """

    labeled_count: Integers
    accuracy: Floats
    accuracy_lower: Floats
    accuracy_upper: Floats
    macro_f1: Floats
    weighted_f1: Floats
    macro_auc: Floats
    reason: NDArray[np.object_]
    classes: ClassStatistics


def multiclass_statistics(
    group: ArrayLike,
    label_count: ArrayLike,
    predicted_count: ArrayLike,
    true_positives: ArrayLike,
    class_scores: ScoreCounts,
    group_count: int,
) -> MulticlassStatistics:
    """Give every statistic of `group_count` groups.

    `group` (in [0, group_count)) and the three counts have one element per class of a group, in any
    order. The groups of `class_scores` are these elements: by distinct score of the class, how many
    rows with it have the class as label, and how many another. Raises ValueError when shapes or
    ranges are wrong.
    """
    groups, labels, predictions, hits = (
        np.asarray(values, dtype=np.int64)
        for values in (group, label_count, predicted_count, true_positives)
    )
    if groups.ndim != 1 or any(v.shape != groups.shape for v in (labels, predictions, hits)):
        raise ValueError("group and the counts must be vectors of one length")
    if class_scores.group_count != len(groups):
        raise ValueError("class_scores must have one group per class of a group")
    if groups.size and (groups.min() < 0 or groups.max() >= group_count):
        raise ValueError(f"group must lie in [0, {group_count})")
    if (hits < 0).any() or (hits > np.minimum(labels, predictions)).any():
        raise ValueError("true_positives must lie between 0 and both other counts")

    def summed(values: Floats | Integers) -> Floats:
        sums = np.bincount(groups, weights=values, minlength=group_count)
        return np.asarray(sums, dtype=np.float64)

    def mean_of_defined(values: Floats) -> Floats:
        is_defined = ~np.isnan(values)
        return _divided(summed(np.where(is_defined, values, 0)), summed(is_defined))

    classes = _class_statistics(labels, predictions, hits, class_scores)
    total = summed(labels).astype(np.int64)
    correct = summed(hits).astype(np.int64)
    lower, upper = wilson_interval(correct, total)
    macro_auc = mean_of_defined(classes.auc)
    has_scores = summed(class_scores.sum_integers(class_scores.positives + class_scores.negatives))
    return MulticlassStatistics(
        labeled_count=total,
        accuracy=ratio(correct, total),
        accuracy_lower=lower,
        accuracy_upper=upper,
        macro_f1=mean_of_defined(classes.f1),
        weighted_f1=_divided(summed(np.where(labels > 0, classes.f1, 0) * labels), total),
        macro_auc=macro_auc,
        reason=joined_reasons(
            {
                "no_labels": total == 0,
                "no_class_scores": (total > 0) & (has_scores == 0),
                "single_class": (has_scores > 0) & np.isnan(macro_auc),
            },
            group_count,
        ),
        classes=classes,
    )


def _class_statistics(
    labels: Integers, predictions: Integers, hits: Integers, class_scores: ScoreCounts
) -> ClassStatistics:
    precision_lower, precision_upper = wilson_interval(hits, predictions)
    recall_lower, recall_upper = wilson_interval(hits, labels)
    f1_lower, f1_upper = f1_interval(hits, predictions - hits, labels - hits)
    area = area_under_roc(class_scores)
    return ClassStatistics(
        precision=ratio(hits, predictions),
        precision_lower=precision_lower,
        precision_upper=precision_upper,
        recall=ratio(hits, labels),
        recall_lower=recall_lower,
        recall_upper=recall_upper,
        f1=ratio(2 * hits, labels + predictions),
        f1_lower=f1_lower,
        f1_upper=f1_upper,
        auc=area.value,
        auc_lower=area.lower,
        auc_upper=area.upper,
    )


def _divided(sums: Floats, counts: Floats | Integers) -> Floats:
    is_defined = counts > 0
    return np.asarray(
        np.where(is_defined, sums, np.nan) / np.where(is_defined, counts, 1), dtype=np.float64
    )
