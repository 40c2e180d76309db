"""Performance of regression models, for many groups in one pass.

Rows come as sums: that is all the statistics need, whatever the number of rows. Undefined is NaN,
never 0; `reason` says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dbt_project.python.intervals import mean_interval
from dbt_project.python.undefined import Floats, Integers, joined_reasons

# Under this many rows the intervals of MAE and bias are not given: they lean on the normal
# approximation of a mean.
MIN_LABELS = 30


@dataclass(frozen=True)
class ErrorMoments:
    """Sums over the labelled rows of each group; e = predicted - label.

    `error_variance` and `absolute_error_variance` are those of a sample (divisor n - 1),
    `label_variance` that of a population (divisor n); `label_range` is the greatest label minus the
    least; `relative_error_sum` adds |e / label| where the label is not 0, `zero_label_count` counts
    the others. Sums of a group without rows are ignored.
    """

    row_count: ArrayLike
    error_sum: ArrayLike
    absolute_error_sum: ArrayLike
    squared_error_sum: ArrayLike
    relative_error_sum: ArrayLike
    zero_label_count: ArrayLike
    error_variance: ArrayLike
    absolute_error_variance: ArrayLike
    label_variance: ArrayLike
    label_range: ArrayLike


@dataclass(frozen=True)
class RegressionStatistics:
    """One value per group, in the unit of the label (`r2` and `mape` are ratios).

    Reasons: `no_labels` (everything is NaN); `too_few_labels` (fewer than MIN_LABELS: no
    intervals); `constant_label` (all labels are the same: R² is NaN); `zero_label` (a label is 0:
    MAPE is NaN).
    """

    labeled_count: Integers
    mae: Floats
    mae_lower: Floats
    mae_upper: Floats
    rmse: Floats
    mape: Floats
    r2: Floats
    bias: Floats
    bias_lower: Floats
    bias_upper: Floats
    reason: NDArray[np.object_]


def regression_statistics(moments: ErrorMoments) -> RegressionStatistics:
    """Give MAE = mean |e|, RMSE = sqrt(mean e²), MAPE = mean |e / label|, bias = mean e, and R².

    R² = 1 - Σe² / Σ(label - mean label)². The intervals of MAE and bias are those of a mean, from
    the variance of |e| and of e: MAE's lower bound is not below 0. RMSE, MAPE and R² have none:
    their sampling distribution depends on tails that sums do not tell. Raises ValueError when
    shapes are not the same.
    """
    count = np.asarray(moments.row_count, dtype=np.int64)
    has_rows = count > 0
    rows = np.where(has_rows, count, 1)

    def vector(values: ArrayLike) -> Floats:
        found = np.asarray(values, dtype=np.float64)
        if found.shape != count.shape or found.ndim != 1:
            raise ValueError("all moments must be vectors of one length")
        return np.asarray(np.where(has_rows, found, np.nan), dtype=np.float64)

    absolute_error = vector(moments.absolute_error_sum) / rows
    squared_error = vector(moments.squared_error_sum) / rows
    bias = vector(moments.error_sum) / rows
    enough = np.where(count >= MIN_LABELS, count, 0)
    mae_lower, mae_upper = mean_interval(
        absolute_error, vector(moments.absolute_error_variance), enough
    )
    bias_lower, bias_upper = mean_interval(bias, vector(moments.error_variance), enough)
    is_constant = has_rows & (vector(moments.label_range) == 0)
    has_zero = has_rows & (vector(moments.zero_label_count) > 0)
    variance = np.where(is_constant, np.nan, vector(moments.label_variance))
    return RegressionStatistics(
        labeled_count=count,
        mae=absolute_error,
        mae_lower=np.maximum(mae_lower, 0),
        mae_upper=mae_upper,
        rmse=np.sqrt(squared_error),
        mape=np.where(has_zero, np.nan, vector(moments.relative_error_sum) / rows),
        r2=1 - squared_error / variance,
        bias=bias,
        bias_lower=bias_lower,
        bias_upper=bias_upper,
        reason=joined_reasons(
            {
                "no_labels": ~has_rows,
                "too_few_labels": has_rows & (count < MIN_LABELS),
                "constant_label": is_constant,
                "zero_label": has_zero,
            },
            len(count),
        ),
    )
