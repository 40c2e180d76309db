"""From counted groups, as `int_performance_inputs` gives them, to one row of statistics each."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dbt_project.python.classification import binary_statistics

_KEPT_COLUMNS = (
    "baseline_id",
    "model_name",
    "model_version",
    "granularity",
    "window_start",
    "segment_key",
    "segment_value",
    "threshold",
    "labeled_count",
    "label_lag_p50_seconds",
    "label_lag_p95_seconds",
    "run_version",
)


def group_statistics(groups: pa.Table) -> pa.Table:
    """Compute the statistics of binary models, one row per row of `groups`.

    `groups` holds the key of each group, its `threshold`, `labeled_count`, `obstacle` (why it
    cannot be computed, or ''), and three lists of one length: its distinct `scores`, and the
    `positives` and `negatives` at each. NaN becomes null. The columns of the result are the key,
    `labeled_count`, the label lags, `threshold` and the fields of `BinaryStatistics`, where
    `scored_count` is the number of labelled rows that have a score.

    `reason` adds to those of `BinaryStatistics`: the obstacle alone where there is one, and
    `no_scores` where rows have labels but no scores.
    """
    lists = groups.select(["scores", "positives", "negatives"]).combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists["scores"]), 0).to_numpy()
    statistics = binary_statistics(
        group=np.repeat(np.arange(groups.num_rows), lengths),
        score=_elements(lists["scores"]),
        positives=_elements(lists["positives"]),
        negatives=_elements(lists["negatives"]),
        threshold=groups["threshold"].to_numpy(),
        group_count=groups.num_rows,
    )
    columns = {name: groups[name] for name in _KEPT_COLUMNS}
    for field in dataclasses.fields(statistics):
        # labeled_count is that of the group: rows without a score are labelled too
        name = "scored_count" if field.name == "labeled_count" else field.name
        columns[name] = pa.array(getattr(statistics, field.name), from_pandas=True)
    has_labels = groups["labeled_count"].to_numpy() > 0
    obstacle = groups["obstacle"].to_numpy(zero_copy_only=False)
    reason = np.where(has_labels & (statistics.labeled_count == 0), "no_scores", statistics.reason)
    columns["reason"] = pa.array(np.where(obstacle != "", obstacle, reason), type=pa.string())
    return pa.table(columns)


def _elements(lists: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.list_flatten(lists).to_numpy())
