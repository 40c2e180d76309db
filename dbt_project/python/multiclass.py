"""Performance of classifiers of more than two classes, for many groups in one pass.

Classes are numbered from 0. Undefined is NaN, never 0; `reason` says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dbt_project.python.classification import area_under_roc
from dbt_project.python.intervals import f1_interval, wilson_interval
from dbt_project.python.undefined import Floats, Integers, joined_reasons, ratio


@dataclass(frozen=True)
class MulticlassStatistics:
    """Vectors of one value per group, and matrices of one row per group and one column per class.

    A class counts in a group's averages when a row there has it as label or as prediction.
    Reasons: `no_labels` where a group has no rows; a class's `precision` is NaN where it was never
    predicted, its `recall` where it never was the label.
    """

    labeled_count: Integers
    accuracy: Floats
    accuracy_lower: Floats
    accuracy_upper: Floats
    macro_f1: Floats
    weighted_f1: Floats
    class_label_count: Integers
    class_predicted_count: Integers
    class_true_positives: Integers
    class_precision: Floats
    class_recall: Floats
    class_f1: Floats
    class_f1_lower: Floats
    class_f1_upper: Floats
    reason: NDArray[np.object_]


def multiclass_statistics(
    group: ArrayLike,
    label: ArrayLike,
    predicted: ArrayLike,
    row_count: ArrayLike,
    group_count: int,
    class_count: int,
) -> MulticlassStatistics:
    """Give every statistic of `group_count` groups from counted (label, predicted) pairs.

    `group` in [0, group_count), `label` and `predicted` in [0, class_count) and `row_count` (how
    many rows the pair stands for) have one element per pair, in any order; a pair may come in
    several elements. Macro F1 is the mean over classes, weighted F1 the mean by rows of the label
    (scikit-learn's definitions). Raises ValueError when shapes or ranges are wrong.
    """
    groups, labels, predictions, rows = (
        np.asarray(values, dtype=np.int64) for values in (group, label, predicted, row_count)
    )
    if groups.ndim != 1 or any(v.shape != groups.shape for v in (labels, predictions, rows)):
        raise ValueError("group, label, predicted and row_count must be vectors of one length")
    _refuse_outside("group", groups, group_count)
    _refuse_outside("label", labels, class_count)
    _refuse_outside("predicted", predictions, class_count)
    if (rows < 0).any():
        raise ValueError("row_count is a count: it cannot be negative")

    confusion = np.zeros((group_count, class_count, class_count), dtype=np.int64)
    np.add.at(confusion, (groups, labels, predictions), rows)
    of_label = confusion.sum(axis=2)
    of_prediction = confusion.sum(axis=1)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    total = of_label.sum(axis=1)
    correct = hits.sum(axis=1)
    class_f1 = ratio(2 * hits, of_label + of_prediction)
    lower, upper = f1_interval(hits, of_prediction - hits, of_label - hits)
    accuracy_lower, accuracy_upper = wilson_interval(correct, total)
    summed_f1 = np.where(np.isnan(class_f1), 0, class_f1)
    return MulticlassStatistics(
        labeled_count=total,
        accuracy=ratio(correct, total),
        accuracy_lower=accuracy_lower,
        accuracy_upper=accuracy_upper,
        macro_f1=_mean_of_defined(class_f1),
        weighted_f1=_divided((summed_f1 * of_label).sum(axis=1), total),
        class_label_count=of_label,
        class_predicted_count=of_prediction,
        class_true_positives=hits,
        class_precision=ratio(hits, of_prediction),
        class_recall=ratio(hits, of_label),
        class_f1=class_f1,
        class_f1_lower=lower,
        class_f1_upper=upper,
        reason=joined_reasons({"no_labels": total == 0}, group_count),
    )


def one_vs_rest_auc(
    group: ArrayLike,
    class_index: ArrayLike,
    score: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    group_count: int,
    class_count: int,
) -> tuple[Floats, Floats]:
    """Give the AUC of each class against all others, and its mean over the classes of a group.

    One element per group, class and distinct score of that class: how many rows with that score
    have the class as label (`positives`), and how many another (`negatives`). A class without a
    label in the group is NaN and does not count in the mean (scikit-learn refuses such rows).
    Shapes: (group_count, class_count) and (group_count,).
    """
    groups = np.asarray(group, dtype=np.int64)
    classes = np.asarray(class_index, dtype=np.int64)
    _refuse_outside("group", groups, group_count)
    _refuse_outside("class_index", classes, class_count)
    per_class = area_under_roc(
        groups * class_count + classes, score, positives, negatives, group_count * class_count
    ).reshape(group_count, class_count)
    return per_class, _mean_of_defined(per_class)


def _mean_of_defined(per_class: Floats) -> Floats:
    is_defined = ~np.isnan(per_class)
    return _divided(np.where(is_defined, per_class, 0).sum(axis=1), is_defined.sum(axis=1))


def _divided(sums: Floats, counts: Integers) -> Floats:
    is_defined = counts > 0
    return np.asarray(
        np.where(is_defined, sums, np.nan) / np.where(is_defined, counts, 1), dtype=np.float64
    )


def _refuse_outside(name: str, values: Integers, end: int) -> None:
    if values.size and (values.min() < 0 or values.max() >= end):
        raise ValueError(f"{name} must lie in [0, {end})")
