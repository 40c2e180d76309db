"""Drift from events to marts: the motivating cases, and an oracle over features of every kind."""

from __future__ import annotations

import math
from datetime import UTC
from typing import Any

import pytest

from tests.dbt_project.conftest import DRIFT_GRANULARITIES, motivating_rows
from tests.dbt_project.drift_oracle import expected_drift
from tests.dbt_project.drift_rows import SHOP, Population, populations
from tests.dbt_project.warehouse import Warehouse

FLOATS = (
    "psi", "kl_current_baseline", "kl_baseline_current", "js_distance", "hellinger", "tv_distance",
    "ks_binned", "wasserstein_binned", "design_effect", "baseline_design_effect", "psi_noise",
    "psi_debiased", "p_value", "q_value", "psi_baseline_p95",
)  # fmt: skip
EXACT = (
    "feature_type", "baseline_scope", "baseline_count", "current_count", "bins_kept", "verdict",
    "reason", "is_saturated", "baseline_bin_counts", "current_bin_counts", "window_end",
)  # fmt: skip
KEY = ("comparison", "window_start", "segment_key", "segment_value", "feature_name")
Key = tuple[Any, ...]


def rows_of(
    warehouse: Warehouse, model_name: str, version: str, granularity: str
) -> dict[Key, dict[str, Any]]:
    rows = warehouse.query(
        f"select * from {{database}}.fct_feature_drift_{DRIFT_GRANULARITIES[granularity]} "
        "where model_name = {model_name:String} and model_version = {version:String}",
        model_name=model_name,
        version=version,
    )
    for row in rows:
        row["window_start"], row["window_end"] = (
            row[column].replace(tzinfo=UTC) for column in ("window_start", "window_end")
        )
    found = {tuple(row[column] for column in KEY): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("granularity", DRIFT_GRANULARITIES)
@pytest.mark.parametrize("case", motivating_rows())
def test_motivating_case_has_its_psi_and_counts(
    drift_warehouse: Warehouse, case: str, granularity: str
) -> None:
    expected = motivating_rows()[case].expected
    rows = rows_of(drift_warehouse, "motivation", case, granularity)
    [row] = [row for key, row in rows.items() if (key[0], key[-1]) == ("baseline", "x")]
    assert row["psi"] == pytest.approx(expected["psi"], rel=1e-9)
    assert row["baseline_bin_counts"] == expected["baseline_bin_counts"]
    assert row["current_bin_counts"] == expected["current_bin_counts"]
    assert row["verdict"] == "drift"


@pytest.mark.parametrize("case", motivating_rows())
def test_motivating_case_has_its_bin_edges(
    drift_warehouse: Warehouse, baseline_ids: dict[tuple[str, str], str], case: str
) -> None:
    edges = drift_warehouse.query(
        "select lower, upper from {database}.dim_baseline_bins "
        "where baseline_id = {id:String} and feature_name = 'x' and kind = 'interval' "
        "order by bin_index",
        id=baseline_ids["motivation", case],
    )
    expected = motivating_rows()[case].expected["edges"]
    assert [edge["upper"] for edge in edges] == pytest.approx([*expected, math.inf], rel=1e-12)
    assert [edge["lower"] for edge in edges] == pytest.approx([-math.inf, *expected], rel=1e-12)


@pytest.mark.parametrize("granularity", DRIFT_GRANULARITIES)
@pytest.mark.parametrize(
    "population", populations(), ids=lambda one: f"{one.model.name}-{one.version}"
)
def test_mart_equals_oracle(
    drift_warehouse: Warehouse,
    baseline_ids: dict[tuple[str, str], str],
    population: Population,
    granularity: str,
) -> None:
    model, version = population.model, population.version
    if granularity == "hour" and model is SHOP:
        pytest.skip("an hour of the shop has few rows, and there are a thousand hours")
    expected = expected_drift(model, population.baseline, population.current, granularity)
    found = rows_of(drift_warehouse, model.name, version, granularity)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for column in EXACT:
            assert found[key][column] == row[column], (key, column)
        for column in FLOATS:
            assert_close(found[key][column], row[column], (key, column))
    assert {row["baseline_id"] for row in found.values()} == {
        baseline_ids.get((model.name, version), "")
    }


def assert_close(found: float | None, expected: float | None, where: object) -> None:
    assert (found is None) == (expected is None), where
    if found is not None and expected is not None:
        assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12), (where, found, expected)


def test_hours_add_up_to_days(drift_warehouse: Warehouse) -> None:
    """Any coarser window is the sum of its hours, and the window before is a row of its own."""
    [row] = drift_warehouse.query(
        """
        with hours as (
            select model_name, model_version, toStartOfDay(window_start) as day, feature_name,
                sum(current_count) as current_count,
                sumForEach(current_bin_counts) as current_bin_counts
            from {database}.fct_feature_drift_hourly
            where comparison = 'baseline' and segment_key = 'all'
            group by all
        ), days as (
            select * from {database}.fct_feature_drift_daily
            where comparison = 'baseline' and segment_key = 'all'
        )
        select
            countIf(hours.current_count = days.current_count
                and hours.current_bin_counts = days.current_bin_counts) as same,
            count() as rows,
            (select count() from days) as of_days,
            (
                select count()
                from {database}.fct_feature_drift_daily as compared
                inner join {database}.fct_feature_drift_daily as earlier
                    using (model_name, model_version, segment_key, segment_value, feature_name)
                where compared.comparison = 'previous' and compared.baseline_scope = 'segment'
                    and earlier.comparison = 'baseline' and compared.segment_value != '__small__'
                    and earlier.window_end = compared.window_start
                    and earlier.current_bin_counts != compared.baseline_bin_counts
            ) as unlike_the_day_before
        from days
        left join hours
            on days.model_name = hours.model_name and days.model_version = hours.model_version
            and days.window_start = hours.day and days.feature_name = hours.feature_name
        """
    )
    assert row["same"] == row["rows"] == row["of_days"] > 500
    assert row["unlike_the_day_before"] == 0


def test_rows_of_every_kind_reach_every_verdict(drift_warehouse: Warehouse) -> None:
    """The oracle says little about a verdict that no row has."""
    verdicts = {
        (row["verdict"], row["reason"])
        for name in DRIFT_GRANULARITIES.values()
        for row in drift_warehouse.query(
            f"select distinct verdict, reason from {{database}}.fct_feature_drift_{name}"
        )
    }
    assert verdicts >= {
        ("drift", ""),
        ("warning", ""),
        ("ok", ""),
        ("ok", "not_significant"),
        ("ok", "within_baseline_variation"),
        ("insufficient_data", "below_min_rows"),
        ("not_evaluated", "no_baseline"),
        ("not_evaluated", "not_in_baseline"),
        ("not_evaluated", "below_min_granularity"),
        ("not_evaluated", "no_previous_window"),
        ("insufficient_data", "previous_below_min_rows"),
    }
