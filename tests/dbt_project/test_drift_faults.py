"""What a fault in the rows becomes: a verdict, or a reason, and never a run that fails."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dbt_project.fault_rows import DRIFTED, ROWS_PER_DAY
from tests.dbt_project.warehouse import Warehouse


def drift(warehouse: Warehouse, name: str, condition: str = "segment_key = 'all'") -> Any:
    """Give the rows of the faulty day by (comparison, feature_name)."""
    rows = warehouse.query(
        "select * from {database}.fct_feature_drift_daily "
        "where model_name = {model:String} and toDate(window_start) = '2025-04-09' "
        f"and {condition}",
        model=f"fault_{name}",
    )
    return {(row["comparison"], row["feature_name"]): row for row in rows}


def quality(warehouse: Warehouse, name: str, feature: str) -> dict[str, Any]:
    [row] = warehouse.query(
        "select * from {database}.fct_data_quality_daily "
        "where model_name = {model:String} and toDate(window_start) = '2025-04-09' "
        "and segment_key = 'all' and feature_name = {feature:String}",
        model=f"fault_{name}",
        feature=feature,
    )
    return row


@pytest.mark.parametrize("comparison", ["baseline", "previous"])
@pytest.mark.parametrize("name", DRIFTED)
def test_fault_drifts_and_nothing_else_does(
    drift_warehouse: Warehouse, name: str, comparison: str
) -> None:
    rows = drift(drift_warehouse, name)
    found = {feature: row for (kind, feature), row in rows.items() if kind == comparison}
    # One in ten families has a warning by chance; that is what a false discovery rate means.
    assert {row["verdict"] for row in found.values()} <= {"ok", "warning", "drift"}
    assert len(found) == 6  # three features, score, predicted class, label
    assert {feature for feature, row in found.items() if row["verdict"] == "drift"} == DRIFTED[name]


def test_column_that_is_empty_has_reasons(drift_warehouse: Warehouse) -> None:
    row = drift(drift_warehouse, "empty_column")["baseline", "amount"]
    assert row["is_saturated"] == 1
    assert (row["ks_binned"], row["wasserstein_binned"]) == (None, None)
    found = quality(drift_warehouse, "empty_column", "amount")
    assert (found["null_rate"], found["mean"], found["p50"]) == (1, None, None)
    assert found["reason"] == "no_numbers"


def test_new_segment_is_compared_with_everyone(drift_warehouse: Warehouse) -> None:
    rows = drift(drift_warehouse, "new_segment", "segment_value = 'moon'")
    for (comparison, _), row in rows.items():
        if comparison == "baseline":
            assert row["baseline_scope"] == "all"
            assert row["verdict"] in ("ok", "warning")
        else:
            assert (row["verdict"], row["reason"]) == ("not_evaluated", "no_previous_window")
            assert row["psi"] is None


def test_new_category_and_mixed_types_are_counted(drift_warehouse: Warehouse) -> None:
    assert quality(drift_warehouse, "new_category", "plan")["unseen_rate"] == 0.5
    found = quality(drift_warehouse, "mixed_types", "amount")
    assert found["type_mismatch_rate"] == 0.5
    assert found["mean"] == pytest.approx(50, abs=0.5)


def test_constant_feature_is_ok_until_it_changes(drift_warehouse: Warehouse) -> None:
    same = drift(drift_warehouse, "sound")["baseline", "currency_code"]
    assert (same["psi"], same["p_value"], same["verdict"], same["ks_binned"]) == (0, 1, "ok", 0)
    assert same["wasserstein_binned"] is None  # it has no standard deviation to measure in
    found = quality(drift_warehouse, "another_constant", "currency_code")
    assert (found["p05"], found["p95"], found["standard_deviation"]) == (8, 8, 0)
    assert (found["baseline_p50"], found["baseline_standard_deviation"]) == (7, 0)


def test_renamed_feature_is_missing_under_its_old_name(drift_warehouse: Warehouse) -> None:
    rows = drift(drift_warehouse, "renamed")
    old, new = rows["baseline", "amount"], rows["baseline", "amount_eur"]
    assert (old["verdict"], old["is_saturated"]) == ("drift", 1)
    assert quality(drift_warehouse, "renamed", "amount")["missing_count"] == ROWS_PER_DAY
    assert (new["verdict"], new["reason"]) == ("not_evaluated", "not_in_baseline")
    assert quality(drift_warehouse, "renamed", "amount_eur")["is_unexpected_feature"] == 1
