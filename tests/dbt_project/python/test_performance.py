"""From counted groups to the table that the dbt model returns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dbt_project.python.performance import group_statistics


def _group(**changed: Any) -> dict[str, Any]:
    return {
        "baseline_id": "",
        "model_name": "late",
        "model_version": "1",
        "granularity": "day",
        "window_start": datetime(2024, 1, 1, tzinfo=UTC),
        "segment_key": "all",
        "segment_value": "all",
        "threshold": 0.5,
        "labeled_count": 4,
        "label_lag_p50_seconds": 1.0,
        "label_lag_p95_seconds": 2.0,
        "run_version": 7,
        "obstacle": "",
        "scores": [0.25, 0.75],
        "positives": [1, 1],
        "negatives": [2, 0],
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
        pa.Table.from_pylist([_group(**NOTHING), _group(obstacle="not_binary", **NOTHING)])
    )
    assert table["reason"].to_pylist() == ["no_scores", "not_binary"]
    assert table["accuracy"].to_pylist() == [None, None]


def test_part_of_a_larger_table_is_computed_alone() -> None:
    rows = [_group(scores=[n / 10], positives=[1], negatives=[n]) for n in range(5)]
    whole = group_statistics(pa.Table.from_pylist(rows))
    part = group_statistics(pa.Table.from_pylist(rows).slice(2, 2))
    assert part.to_pylist() == whole.slice(2, 2).to_pylist()
    assert part.schema == whole.schema
