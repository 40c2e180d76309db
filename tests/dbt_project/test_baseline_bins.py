"""Bins of registered baselines, from rows to dim_baseline_bins."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.dbt_project.conftest import motivating_rows
from tests.dbt_project.distance_oracle import Binning
from tests.dbt_project.drift_oracle import make_binnings, values_of
from tests.dbt_project.drift_rows import Population, populations
from tests.dbt_project.warehouse import Warehouse

# By model and version, and feature.
Bins = dict[tuple[str, str], list[dict[str, Any]]]
REGISTERED = [population for population in populations() if population.baseline]


def listed_bins(binning: Binning) -> list[tuple[str, float | None, float | None, str]]:
    """List bins as the dimension does: kind, lower, upper, category."""
    edges = [-math.inf, *binning.edges, math.inf]
    return [
        *(("interval", lower, upper, "") for lower, upper in pairwise(edges) if binning.edges),
        *(("point", point, point, "") for point in binning.points),
        *(("category", None, None, category) for category in binning.categories),
        *([] if binning.edges else [("other", None, None, "__other__")]),
        ("missing", None, None, "__missing__"),
        ("invalid", None, None, "__invalid__"),
    ]


@pytest.fixture(scope="module")
def bins(drift_warehouse: Warehouse, baseline_ids: dict[tuple[str, str], str]) -> Bins:
    names = {identity: "-".join(of) for of, identity in baseline_ids.items()}
    rows: Bins = {}
    for row in drift_warehouse.query(
        "select * from {database}.dim_baseline_bins order by baseline_id, feature_name, bin_index"
    ):
        rows.setdefault((names[row["baseline_id"]], row["feature_name"]), []).append(row)
    return rows


def test_every_feature_of_every_baseline_has_bins(bins: Bins) -> None:
    expected = {
        (f"{population.model.name}-{population.version}", name)
        for population in REGISTERED
        for name in make_binnings(population.model, population.baseline or [])
    }
    found = {(name, feature) for name, feature in bins if not name.startswith("fault_")}
    assert found == expected | {(f"motivation-{case}", "x") for case in motivating_rows()}


@pytest.mark.parametrize(
    "population", REGISTERED, ids=lambda one: f"{one.model.name}-{one.version}"
)
def test_bins_and_their_counts_equal_oracle(bins: Bins, population: Population) -> None:
    rows = population.baseline or []
    for name, binning in make_binnings(population.model, rows).items():
        found = bins[f"{population.model.name}-{population.version}", name]
        assert [row["bin_index"] for row in found] == list(range(binning.size)), name
        assert {row["bin_count"] for row in found} == {binning.size}
        counts = np.bincount(
            [binning.index(value) for value in values_of(population.model, rows, name)],
            minlength=binning.size,
        )
        assert [row["baseline_count"] for row in found] == counts.tolist(), name
        for row, (kind, lower, upper, category) in zip(found, listed_bins(binning), strict=True):
            assert (row["kind"], row["category"]) == (kind, category)
            assert row["lower"] == (lower if lower is None else pytest.approx(lower, rel=1e-12))
            assert row["upper"] == (upper if upper is None else pytest.approx(upper, rel=1e-12))


@pytest.mark.parametrize(
    ("feature", "kinds"),
    [
        # More than a tenth of the days are dry: zero is a bin of its own beside the deciles.
        ("rainfall", {"interval": 10, "point": 1, "missing": 1, "invalid": 1}),
        ("spikes", {"interval": 10, "point": 2, "missing": 1, "invalid": 1}),
        ("constant", {"point": 1, "other": 1, "missing": 1, "invalid": 1}),
        ("twenty_values", {"point": 20, "other": 1, "missing": 1, "invalid": 1}),
        ("never_known", {"other": 1, "missing": 1, "invalid": 1}),
        ("city", {"category": 50, "other": 1, "missing": 1, "invalid": 1}),
        ("postal_code", {"category": 3, "other": 1, "missing": 1, "invalid": 1}),
        ("is_member", {"category": 2, "other": 1, "missing": 1, "invalid": 1}),
    ],
)
def test_feature_has_bins_of_the_kinds_it_needs(
    bins: Bins, feature: str, kinds: dict[str, int]
) -> None:
    found = [row["kind"] for row in bins["shop-1", feature]]
    assert {kind: found.count(kind) for kind in found} == kinds
