"""From counted groups to the table that the dbt model returns."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dbt_project.python.performance import group_statistics
from dbt_project.python.regression import ErrorMoments


def _group(**changed: Any) -> dict[str, Any]:
    return {
        "baseline_id": "",
        "model_name": "late",
        "model_version": "1",
        "granularity": "day",
        "window_start": datetime(2024, 1, 1, tzinfo=UTC),
        "segment_key": "all",
        "segment_value": "all",
        "task": "binary",
        "threshold": 0.5,
        "labeled_count": 4,
        "label_lag_p50_seconds": 1.0,
        "label_lag_p95_seconds": 2.0,
        "slowest_class_lag_p95_seconds": 3.0,
        "run_version": 7,
        "obstacle": "",
        "scores": [0.25, 0.75],
        "positives": [1, 1],
        "negatives": [2, 0],
        "classes": [],
        "class_label_counts": [],
        "class_predicted_counts": [],
        "class_true_positives": [],
        "class_score_places": [],
        "class_scores": [],
        "class_score_positives": [],
        "class_score_negatives": [],
        **{field.name: 0 for field in dataclasses.fields(ErrorMoments)},
    } | changed


NOTHING: dict[str, Any] = {"scores": [], "positives": [], "negatives": []}


def test_each_group_is_a_row_with_its_key() -> None:
    table = group_statistics(
        pa.Table.from_pylist(
            [
                _group(),
                _group(segment_value="empty", labeled_count=0, **NOTHING),
                _group(segment_value="EWR", threshold=0.0),
            ]
        )
    )
    first, empty, last = table.to_pylist()
    # pairs: the positive at 0.75 is above both negatives, the one at 0.25 ties with both
    assert first["auc"] == (2 + 2 * 0.5) / 4
    assert (first["accuracy"], first["true_positives"]) == (0.75, 1)
    assert (first["labeled_count"], first["scored_count"], first["run_version"]) == (4, 4, 7)
    assert first["window_start"] == datetime(2024, 1, 1, tzinfo=UTC)
    assert (empty["auc"], empty["accuracy"], empty["reason"]) == (None, None, "no_labels")
    assert (last["segment_value"], last["recall"]) == ("EWR", 1.0)


def test_labels_without_scores_and_obstacles_are_reasons() -> None:
    table = group_statistics(
        pa.Table.from_pylist([_group(**NOTHING), _group(obstacle="unknown_task", **NOTHING)])
    )
    assert table["reason"].to_pylist() == ["no_scores", "unknown_task"]
    assert table["accuracy"].to_pylist() == [None, None]


def test_part_of_a_larger_table_is_computed_alone() -> None:
    rows = [_group(scores=[n / 10], positives=[1], negatives=[n]) for n in range(5)]
    whole = group_statistics(pa.Table.from_pylist(rows))
    part = group_statistics(pa.Table.from_pylist(rows).slice(2, 2))
    assert part.to_pylist() == whole.slice(2, 2).to_pylist()
    assert part.schema == whole.schema


MULTICLASS: dict[str, Any] = {
    "task": "multiclass",
    **NOTHING,
    "classes": ["a", "b"],
    "class_label_counts": [3, 1],
    "class_predicted_counts": [2, 2],
    "class_true_positives": [2, 1],
    "class_score_places": [2, 1, 1, 2],
    "class_scores": [0.4, 0.6, 0.2, 0.9],
    "class_score_positives": [0, 3, 0, 1],
    "class_score_negatives": [3, 0, 1, 0],
}
REGRESSION: dict[str, Any] = {
    "task": "regression",
    **NOTHING,
    "row_count": 4,
    "error_sum": 2,
    "absolute_error_sum": 4,
    "squared_error_sum": 6,
    "label_variance": 2.5,
    "label_range": 4,
}


def test_groups_of_every_task_are_computed_side_by_side() -> None:
    table = group_statistics(
        pa.Table.from_pylist([_group(), _group(**MULTICLASS), _group(**REGRESSION), _group()])
    )
    binary, multiclass, regression, last = table.to_pylist()
    assert binary == last
    assert (multiclass["accuracy"], multiclass["macro_auc"]) == (0.75, 1)
    assert multiclass["class_recall"] == [2 / 3, 1]
    assert multiclass["class_auc"] == [1, 1]
    assert multiclass["class_auc_lower"] == [None, None]
    assert (multiclass["scored_count"], multiclass["auc"], multiclass["mae"]) == (4, None, None)
    assert (regression["mae"], regression["bias"], regression["r2"]) == (1, 0.5, 1 - 1.5 / 2.5)
    assert (regression["accuracy"], regression["classes"]) == (None, [])
    assert regression["reason"] == "too_few_labels"
    assert (binary["class_f1"], binary["rmse"], binary["macro_f1"]) == ([], None, None)


def test_histograms_are_for_probabilities_and_curves_for_baselines() -> None:
    scores = [n / 100 for n in range(100)]
    many = {"scores": scores, "positives": [2] * 100, "negatives": [3] * 100}
    rows = [
        _group(**many),
        _group(**many, granularity="baseline"),
        _group(**(many | {"scores": [2 * score for score in scores]}), granularity="baseline"),
    ]
    window, baseline, other = group_statistics(pa.Table.from_pylist(rows)).to_pylist()
    assert window["positives_by_hundredth"] == [2] * 100 + [0]
    assert window["negatives_by_hundredth"] == [3] * 100 + [0]
    assert len(window["score_sums_by_tenth"]) == 10
    assert window["calibration_starts"] == []
    assert len(baseline["calibration_starts"]) == len(baseline["calibration_slopes"]) == 23
    assert all(abs(rate - 0.4) < 0.02 for rate in baseline["calibration_rates"])
    assert other["positives_by_hundredth"] == other["calibration_starts"] == []
    assert "not_probabilities" in other["reason"]
