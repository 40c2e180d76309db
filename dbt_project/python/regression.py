"""Performance of regression models, for many groups in one pass.

Undefined is NaN, never 0; `reason` says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dbt_project.python.undefined import Floats, Integers, joined_reasons


@dataclass(frozen=True)
class RegressionStatistics:
    """One value per group, in the unit of the label (`r2` and `mape` are ratios).

    Reasons: `no_labels` (everything is NaN); `constant_label` (fewer than two labels, or all the
    same: R² is NaN); `zero_label` (a label is 0: MAPE is NaN).
    """

    labeled_count: Integers
    mae: Floats
    rmse: Floats
    mape: Floats
    r2: Floats
    bias: Floats
    reason: NDArray[np.object_]


def regression_statistics(
    group: ArrayLike, label: ArrayLike, predicted: ArrayLike, group_count: int
) -> RegressionStatistics:
    """Give every statistic of `group_count` groups, from one element per labelled row.

    With e = predicted - label: MAE = mean |e|, RMSE = sqrt(mean e²), MAPE = mean |e / label|,
    bias = mean e, R² = 1 - Σe² / Σ(label - mean label)². `group` lies in [0, group_count); rows
    are in any order. Raises ValueError when shapes or ranges are wrong or a value is not finite.
    """
    groups = np.asarray(group, dtype=np.int64)
    labels = np.asarray(label, dtype=np.float64)
    predictions = np.asarray(predicted, dtype=np.float64)
    if groups.ndim != 1 or not groups.shape == labels.shape == predictions.shape:
        raise ValueError("group, label and predicted must be vectors of one length")
    if groups.size and (groups.min() < 0 or groups.max() >= group_count):
        raise ValueError(f"group must lie in [0, {group_count})")
    if not (np.isfinite(labels).all() and np.isfinite(predictions).all()):
        raise ValueError("label and predicted must be finite: leave other rows out")
    # One order of summing whatever the order of rows.
    order = np.lexsort((predictions, labels, groups))
    groups, labels, predictions = groups[order], labels[order], predictions[order]

    count = np.bincount(groups, minlength=group_count)
    has_rows = count > 0
    rows = np.where(has_rows, count, 1)

    def mean(values: Floats) -> Floats:
        sums = np.bincount(groups, weights=values, minlength=group_count)
        return np.asarray(np.where(has_rows, sums, np.nan) / rows, dtype=np.float64)

    error = predictions - labels
    squared_error = mean(error**2)
    variance = mean((labels - mean(labels)[groups]) ** 2)
    is_constant = has_rows & (_least(groups, labels, count) == _greatest(groups, labels, count))
    has_zero = np.bincount(groups, weights=labels == 0, minlength=group_count) > 0
    relative = np.abs(error) / np.where(labels == 0, 1, np.abs(labels))
    return RegressionStatistics(
        labeled_count=count,
        mae=mean(np.abs(error)),
        rmse=np.sqrt(squared_error),
        mape=np.where(has_zero, np.nan, mean(relative)),
        r2=1 - squared_error / np.where(is_constant, np.nan, variance),
        bias=mean(error),
        reason=joined_reasons(
            {"no_labels": ~has_rows, "constant_label": is_constant, "zero_label": has_zero},
            group_count,
        ),
    )


# Labels stand in order within their group: the ends are the first and the last of its rows.
def _least(groups: Integers, labels: Floats, count: Integers) -> Floats:
    return _at(labels, np.searchsorted(groups, np.arange(len(count)), side="left"), count)


def _greatest(groups: Integers, labels: Floats, count: Integers) -> Floats:
    return _at(labels, np.searchsorted(groups, np.arange(len(count)), side="right") - 1, count)


def _at(labels: Floats, position: Integers, count: Integers) -> Floats:
    values = np.full(len(count), np.nan)
    values[count > 0] = labels[position[count > 0]]
    return values
