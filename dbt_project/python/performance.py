"""From counted groups, as `int_performance_inputs` gives them, to one row of statistics each."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dbt_project.python.calibration import calibration_curves, score_histograms
from dbt_project.python.classification import BinaryStatistics, statistics_of_counts
from dbt_project.python.multiclass import MulticlassStatistics, multiclass_statistics
from dbt_project.python.regression import (
    ErrorMoments,
    RegressionStatistics,
    regression_statistics,
)
from dbt_project.python.score_counts import ScoreCounts
from dbt_project.python.undefined import Floats, Integers

_KEPT_COLUMNS = (
    "baseline_id",
    "model_name",
    "model_version",
    "granularity",
    "window_start",
    "segment_key",
    "segment_value",
    "task",
    "threshold",
    "labeled_count",
    "label_lag_p50_seconds",
    "label_lag_p95_seconds",
    "slowest_class_lag_p95_seconds",
    "run_version",
)
_KEPT_CLASS_COLUMNS = (
    "classes",
    "class_label_counts",
    "class_predicted_counts",
    "class_true_positives",
)
# Not columns of their own: of each task, and what several tasks share.
_SHARED_FIELDS = ("labeled_count", "reason", "classes", "accuracy")


def group_statistics(groups: pa.Table) -> pa.Table:
    """Compute the statistics of all models, one row per row of `groups`.

    `groups` holds the key of each group, its `task`, `threshold`, `labeled_count`, `obstacle` (why
    it cannot be computed, or ''), and what its task needs, empty for the others:

    - binary: lists of one length, its distinct `scores`, and `positives` and `negatives` at each;
    - multiclass: lists of one length, its `classes` and their counts; and lists of another length,
      for each class and distinct score of it, `class_score_places` (the class's place in `classes`,
      from 1), `class_scores`, `class_score_positives`, `class_score_negatives`;
    - regression: the fields of `ErrorMoments`.

    NaN becomes null. The columns of the result are the key, what is kept of `groups`,
    `scored_count` (labelled rows that the statistics are over) and the fields of
    `BinaryStatistics`, `MulticlassStatistics` and `RegressionStatistics`, null for groups of
    another task; lists of the statistics of the classes; and of binary models the histograms of
    their scores and, for baselines, their calibration curves.

    `reason` is that of the task's statistics, the obstacle alone where there is one, and
    `no_scores` where rows have labels but nothing that could be right or wrong.
    """
    binary, binary_columns = _binary(groups)
    multiclass, class_columns = _multiclass(groups)
    regression = regression_statistics(
        ErrorMoments(
            **{
                field.name: _numbers(groups[field.name])
                for field in dataclasses.fields(ErrorMoments)
            }
        )
    )
    scored = binary.labeled_count + multiclass.labeled_count + regression.labeled_count
    columns = {name: groups[name] for name in _KEPT_COLUMNS}
    columns["scored_count"] = pa.array(scored)
    for statistics in (binary, multiclass, regression):
        for field in dataclasses.fields(statistics):
            if not field.name.startswith(_SHARED_FIELDS):
                columns[field.name] = _nullable(getattr(statistics, field.name))
    is_multiclass = _texts(groups["task"]) == "multiclass"
    for name in ("accuracy", "accuracy_lower", "accuracy_upper"):
        columns[name] = _nullable(
            np.where(is_multiclass, getattr(multiclass, name), getattr(binary, name))
        )
    columns |= binary_columns | class_columns
    columns["reason"] = _reasons(groups, scored, binary, multiclass, regression)
    return pa.table(columns)


def _binary(groups: pa.Table) -> tuple[BinaryStatistics, dict[str, pa.Array]]:
    lists = _lists(groups, ["scores", "positives", "negatives"])
    counts = ScoreCounts.sorted_from(
        group=np.repeat(np.arange(groups.num_rows), _lengths(lists["scores"])),
        score=_elements(lists["scores"]),
        positives=_elements(lists["positives"]),
        negatives=_elements(lists["negatives"]),
        group_count=groups.num_rows,
    )
    histograms = score_histograms(counts)
    has_histogram = (counts.all_probabilities() & (_lengths(lists["scores"]) > 0)).astype(np.int64)
    curves = calibration_curves(counts)
    is_baseline = _texts(groups["granularity"]) == "baseline"
    kept = is_baseline[curves.group]
    pieces = np.bincount(curves.group[kept], minlength=groups.num_rows)
    columns = {
        name: _list_array(values[has_histogram == 1].ravel(), has_histogram * values.shape[1])
        for name, values in (
            ("positives_by_hundredth", histograms.positives),
            ("negatives_by_hundredth", histograms.negatives),
            ("score_sums_by_tenth", histograms.score_sums),
        )
    } | {
        f"calibration_{name}s": _list_array(getattr(curves, name)[kept], pieces)
        for name in ("start", "rate", "slope")
    }
    return statistics_of_counts(counts, groups["threshold"].to_numpy()), columns


def _multiclass(groups: pa.Table) -> tuple[MulticlassStatistics, dict[str, pa.Array]]:
    lists = _lists(
        groups,
        [
            *_KEPT_CLASS_COLUMNS,
            "class_score_places",
            "class_scores",
            "class_score_positives",
            "class_score_negatives",
        ],
    )
    class_counts = _lengths(lists["classes"])
    first_class = np.cumsum(class_counts) - class_counts
    score_counts = _lengths(lists["class_scores"])
    statistics = multiclass_statistics(
        np.repeat(np.arange(groups.num_rows), class_counts),
        _elements(lists["class_label_counts"]),
        _elements(lists["class_predicted_counts"]),
        _elements(lists["class_true_positives"]),
        ScoreCounts.sorted_from(
            group=np.repeat(first_class, score_counts) + _elements(lists["class_score_places"]) - 1,
            score=_elements(lists["class_scores"]),
            positives=_elements(lists["class_score_positives"]),
            negatives=_elements(lists["class_score_negatives"]),
            group_count=int(class_counts.sum()),
        ),
        groups.num_rows,
    )
    columns = {name: groups[name] for name in _KEPT_CLASS_COLUMNS}
    for field in dataclasses.fields(statistics.classes):
        columns[f"class_{field.name}"] = _list_array(
            getattr(statistics.classes, field.name), class_counts
        )
    return statistics, columns


def _reasons(
    groups: pa.Table,
    scored: Integers,
    binary: BinaryStatistics,
    multiclass: MulticlassStatistics,
    regression: RegressionStatistics,
) -> pa.Array:
    task, obstacle = _texts(groups["task"]), _texts(groups["obstacle"])
    of_task = np.select(
        [task == "multiclass", task == "regression"],
        [multiclass.reason, regression.reason],
        binary.reason,
    )
    is_unscored = (groups["labeled_count"].to_numpy() > 0) & (scored == 0)
    reason = np.where(is_unscored, "no_scores", of_task)
    return pa.array(np.where(obstacle != "", obstacle, reason), type=pa.string())


def _nullable(values: Floats | Integers) -> pa.Array:
    return pa.array(values, from_pandas=True)


def _texts(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _numbers(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    return np.asarray(pc.fill_null(column, 0).to_numpy())


def _lists(groups: pa.Table, names: list[str]) -> pa.Table:
    return groups.select(names).combine_chunks()


def _lengths(lists: pa.ChunkedArray) -> Integers:
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), dtype=np.int64)


def _elements(lists: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    return np.asarray(pc.list_flatten(lists).to_numpy(zero_copy_only=False))


def _list_array(values: Floats | Integers, lengths: Integers) -> pa.ListArray:
    """Cut `values` into one list per group; NaN becomes null."""
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, from_pandas=True))
