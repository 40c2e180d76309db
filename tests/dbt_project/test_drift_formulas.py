"""The formulas of drift, as dbt compiles them, against published and computed reference values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.dbt_project.conftest import REFERENCE, MakeWarehouse
from tests.dbt_project.warehouse import Warehouse

DRIFT_CASES = json.loads((REFERENCE / "drift_cases.json").read_text())
BENJAMINI_HOCHBERG_CASES = json.loads((REFERENCE / "benjamini_hochberg_cases.json").read_text())
MEASURES = (
    "psi", "kl_current_baseline", "kl_baseline_current", "js_distance", "hellinger", "tv_distance",
    "psi_noise", "psi_debiased",
)  # fmt: skip

# From arrays of counts to the PSI and its p-value over the bins as given, without pooling.
PSI = """
with
    {{ kept_bins('baseline', 'current') }} as kept,
    arraySum(baseline) as baseline_count,
    arraySum(current) as current_count,
    {{ smoothed_shares('kept', 'baseline_count', 'current_count') }} as shares,
    {{ population_stability_index('shares') }} as psi,
    psi / (1 / baseline_count + 1 / current_count) as statistic,
    toInt32(length(kept)) - 1 as degrees
select psi, {{ chi_squared_survival('statistic', 'degrees') }} as p_value
from (
    select pair.1 as baseline, pair.2 as current
    from (select arrayJoin({pairs:Array(Tuple(Array(UInt64), Array(UInt64)))}) as pair)
)
"""
CHI_SQUARED_SURVIVAL = """
select pair.1 as x, toInt32(pair.2) as degrees,
    {{ chi_squared_survival('x', 'degrees') }} as survival
from (select arrayJoin({pairs:Array(Tuple(Float64, Int32))}) as pair)
"""
BENJAMINI_HOCHBERG = """
with ranked as (
    select
        test.1 as family, test.2 as p, test.3 as place,
        row_number() over (partition by family order by p) as rank_in_family,
        count() over (partition by family) as tests_in_family
    from (select arrayJoin({tests:Array(Tuple(UInt32, Float64, UInt32))}) as test)
)
select family, place, {{ benjamini_hochberg('p', 'family') }} as q from ranked
order by family, place
"""
# From the pieces of the line and counts of each, the distances of numbers as binned.
BINNED = """
with
    {{ cumulative_differences(
        'pieces', 'baseline', 'current', 'arraySum(baseline)', 'arraySum(current)'
    ) }} as differences
select
    arrayMax(arrayMap(step -> abs(step), differences)) as ks,
    {{ area_between_distributions('pieces', 'differences') }} as area
from (
    select one.1 as pieces, one.2 as baseline, one.3 as current
    from (
        select arrayJoin({cases:Array(Tuple(
            Array(Tuple(UInt16, Float64, Float64)), Array(UInt64), Array(UInt64)
        ))}) as one
    )
)
"""
# Three deciles of the baseline, then four categories.
RARE_BINS_POOLED = """
with
    {{ kept_bins('baseline', 'current', '3') }} as kept,
    arraySum(baseline) as baseline_count,
    arraySum(current) as current_count
select {{ rare_bins_pooled(
    'kept', 'baseline_count', 'current_count', 'least(baseline_count, current_count)'
) }} as tested
from (select [{baseline}] as baseline, [{current}] as current)
"""
Pieces = list[tuple[int, float, float]]
Measured = Callable[[Sequence[tuple[list[int], list[int]]]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def warehouse(make_warehouse: MakeWarehouse) -> Warehouse:
    return make_warehouse("drift_formulas", seeds={"models": ["m,binary,yes,0.5,1,48,1,,,"]})


@pytest.fixture(scope="module")
def compiled(warehouse: Warehouse) -> dict[str, str]:
    """Have dbt compile all statements at once."""
    statements = {
        "psi": PSI,
        "chi_squared_survival": CHI_SQUARED_SURVIVAL,
        "benjamini_hochberg": BENJAMINI_HOCHBERG,
        "binned": BINNED,
        "rare_bins_pooled": RARE_BINS_POOLED,
    }
    separator = "\n-- next statement\n"
    run = warehouse.dbt("compile", "--inline", separator.join(statements.values()))
    assert run.success, run.exception
    texts = run.result.results[0].node.compiled_code.split(separator.strip())
    return dict(zip(statements, texts, strict=True))


@pytest.fixture(scope="module")
def measured(warehouse: Warehouse, compiled: dict[str, str]) -> Measured:
    return lambda pairs: warehouse.query(compiled["psi"], pairs=list(pairs))


@pytest.fixture(scope="module")
def mart_of_cases(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Give the mart's row of each reference case: a feature each, its counts put in as they are."""
    warehouse.run("--select", "+fct_feature_drift_daily")
    day = "toDateTime('2025-01-06 00:00:00', 'UTC')"
    warehouse.query(
        "insert into {database}.dim_baselines (baseline_id, model_name, model_version, is_active) "
        "values ('b', 'm', '1', 1)"
    )
    warehouse.query(
        "insert into {database}.int_feature_histograms_hourly "
        "(model_name, model_version, predicted_hour, run_version) "
        f"values ('m', '1', {day}, 1)"
    )
    for table, columns, values in (
        ("int_feature_binning", "feature_type", "'categorical'"),
        (
            "int_baseline_histograms",
            "segment_key, segment_value, bin_counts",
            "'all', 'all', bins.1",
        ),
        (
            "int_feature_histograms_daily",
            "model_name, model_version, window_start, segment_key, segment_value, row_count, "
            "bin_counts",
            f"'m', '1', {day}, 'all', 'all', arraySum(bins.2), bins.2",
        ),
    ):
        warehouse.query(
            f"insert into {{database}}.{table} (baseline_id, feature_name, {columns}) "
            f"select 'b', leftPad(toString(place), 3, '0'), {values} from "
            "(select arrayJoin(arrayEnumerate({cases:Array(Tuple(Array(UInt64), Array(UInt64)))})) "
            "as place, {cases:Array(Tuple(Array(UInt64), Array(UInt64)))}[place] as bins)",
            cases=[
                (case["baseline_bin_counts"], case["current_bin_counts"]) for case in DRIFT_CASES
            ],
        )
    warehouse.run("--select", "fct_feature_drift_daily", full_refresh=True)
    return warehouse.query(
        "select * from {database}.fct_feature_drift_daily where comparison = 'baseline' "
        "order by feature_name"
    )


def test_mart_equals_reference_cases(mart_of_cases: list[dict[str, Any]]) -> None:
    assert len(mart_of_cases) == len(DRIFT_CASES)
    for row, case in zip(mart_of_cases, DRIFT_CASES, strict=True):
        expected = case["expected"]
        for column in ("bins_kept", "baseline_count", "current_count"):
            assert row[column] == expected[column], (row["feature_name"], column)
        for column in MEASURES:
            assert row[column] == pytest.approx(expected[column], rel=1e-9, abs=1e-12), (
                row["feature_name"], column,
            )  # fmt: skip


def test_psi_is_the_sum_of_both_divergences(mart_of_cases: list[dict[str, Any]]) -> None:
    for row in mart_of_cases:
        both = row["kl_current_baseline"] + row["kl_baseline_current"]
        assert row["psi"] == pytest.approx(both, rel=1e-9, abs=1e-12)


def test_psi_and_p_value_equal_reference_cases(measured: Measured) -> None:
    found = measured(
        [(case["baseline_bin_counts"], case["current_bin_counts"]) for case in DRIFT_CASES]
    )
    for row, case in zip(found, DRIFT_CASES, strict=True):
        assert row["psi"] == pytest.approx(case["expected"]["psi"], rel=1e-9, abs=1e-12)
        assert row["p_value"] == pytest.approx(case["expected"]["p_value"], rel=1e-9, abs=1e-12)


def test_psi_equals_a_hand_computed_value(measured: Measured) -> None:
    # p = 1/2, 1/2; q = (30 + 1/2) / 41, (10 + 1/2) / 41; psi = 20/41 * 1/2 * ln(30.5 / 10.5)
    [row] = measured([([20, 20, 0], [30, 10, 0])])
    assert row["psi"] == pytest.approx(10 / 41 * math.log(61 / 21), rel=1e-12)
    # one degree of freedom: erfc(sqrt(statistic / 2)), and 1/N + 1/M = 1/20
    assert row["p_value"] == pytest.approx(math.erfc(math.sqrt(row["psi"] * 20 / 2)), rel=1e-12)


histograms = st.integers(2, 53).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(0, 10**6), min_size=size, max_size=size).filter(any),
        st.lists(st.integers(0, 10**6), min_size=size, max_size=size).filter(any),
        st.permutations(range(size)),
    )
)


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(histograms, min_size=20, max_size=60))
def test_psi_has_the_properties_of_a_divergence(
    measured: Measured, cases: list[tuple[list[int], list[int], list[int]]]
) -> None:
    plain = measured([(a, b) for a, b, _ in cases])
    swapped = measured([(b, a) for a, b, _ in cases])
    permuted = measured([([a[i] for i in order], [b[i] for i in order]) for a, b, order in cases])
    same = measured([(a, a) for a, _, _ in cases])
    for one, other, reordered, none in zip(plain, swapped, permuted, same, strict=True):
        assert one["psi"] >= 0
        assert 0 <= one["p_value"] <= 1
        assert other["psi"] == pytest.approx(one["psi"], rel=1e-9, abs=1e-12)
        assert reordered["psi"] == pytest.approx(one["psi"], rel=1e-9, abs=1e-12)
        assert (none["psi"], none["p_value"]) == (0, 1)


def test_binned_distances_equal_a_hand_computed_value(
    warehouse: Warehouse, compiled: dict[str, str]
) -> None:
    # Intervals 2, 1 and 1 wide; the current side is 1/2 ahead after the first, 1/4 behind after
    # the second: a triangle of 1/2, two that meet where the line crosses zero, and one of 1/8.
    pieces = [(1, 1.0, 2.0), (2, 1.0, 1.0), (3, 1.0, 1.0)]
    [row] = warehouse.query(compiled["binned"], cases=[(pieces, [1, 3, 0], [3, 0, 1])])
    assert row["ks"] == 0.5
    assert row["area"] == pytest.approx(1 / 2 + 1 / 6 + 1 / 24 + 1 / 8, rel=1e-12)


lines = st.integers(2, 8).flatmap(
    lambda size: st.tuples(
        st.lists(st.floats(0.01, 100), min_size=size, max_size=size),
        *(
            st.lists(st.integers(0, 10**4), min_size=size, max_size=size).filter(any)
            for _ in range(3)
        ),
    )
)


@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(lines, min_size=20, max_size=40))
def test_binned_distances_are_those_of_scipy_and_metrics(
    warehouse: Warehouse, compiled: dict[str, str], cases: list[tuple[list[float], ...]]
) -> None:
    def measured(triples: list[Any]) -> list[dict[str, Any]]:
        return warehouse.query(compiled["binned"], cases=triples)

    evenly = [[(n + 1, 1.0, width) for n, width in enumerate(widths)] for widths, *_ in cases]
    # Single values and the gaps between them, which have a width and no mass.
    single = [
        [piece for n, width in enumerate(widths) for piece in ((n + 1, 1.0, 0.0), (1, 0.0, width))]
        for widths, *_ in cases
    ]
    for number, pieces in enumerate((evenly, single)):
        by_case = list(zip(pieces, cases, strict=True))
        plain = measured([(line, a, b) for line, (_, a, b, _) in by_case])
        swapped = measured([(line, b, a) for line, (_, a, b, _) in by_case])
        same = measured([(line, a, a) for line, (_, a, _, _) in by_case])
        onward = measured([(line, b, c) for line, (_, _, b, c) in by_case])
        direct = measured([(line, a, c) for line, (_, a, _, c) in by_case])
        for place, (widths, a, b, _) in enumerate(cases):
            ends = np.cumsum([0.0, *widths])
            p, q = np.array(a) / sum(a), np.array(b) / sum(b)
            one = plain[place]
            assert one["ks"] == pytest.approx(np.abs(np.cumsum(q - p)).max(), rel=1e-9, abs=1e-12)
            if number == 1:
                area = stats.wasserstein_distance(ends[:-1], ends[:-1], p, q)
                tolerance = 1e-9
            else:
                grid = (np.arange(400) + 0.5) / 400
                places = (ends[:-1, None] + np.diff(ends)[:, None] * grid).ravel()
                area = stats.wasserstein_distance(
                    places, places, np.repeat(p, 400), np.repeat(q, 400)
                )
                tolerance = 1e-4 * ends[-1]
            assert one["area"] == pytest.approx(area, rel=1e-9, abs=tolerance)
            assert swapped[place] == pytest.approx(one, rel=1e-9, abs=1e-12)
            assert same[place] == {"ks": 0, "area": 0}
            for name in ("ks", "area"):
                limit = one[name] + onward[place][name]
                assert direct[place][name] <= limit * (1 + 1e-9) + 1e-12


def test_chi_squared_survival_equals_scipy(warehouse: Warehouse, compiled: dict[str, str]) -> None:
    statistics = [0.0, *np.geomspace(1e-9, 5e4, 70), *np.linspace(0.5, 150, 50)]
    pairs = [(float(x), degrees) for degrees in range(1, 60) for x in statistics]
    rows = warehouse.query(compiled["chi_squared_survival"], pairs=pairs)
    found = {(row["x"], row["degrees"]): row["survival"] for row in rows}
    assert found.keys() == set(pairs)
    expected = stats.chi2.sf(*np.array(pairs).T)
    np.testing.assert_allclose([found[pair] for pair in pairs], expected, rtol=0, atol=1e-12)


def test_benjamini_hochberg_equals_reference_cases(
    warehouse: Warehouse, compiled: dict[str, str]
) -> None:
    tests = [
        (family, p, place)
        for family, case in enumerate(BENJAMINI_HOCHBERG_CASES)
        for place, p in enumerate(case["p"])
    ]
    rows = warehouse.query(compiled["benjamini_hochberg"], tests=tests)
    expected = [q for case in BENJAMINI_HOCHBERG_CASES for q in case["expected_q"]]
    assert [row["q"] for row in rows] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_bins_are_rare_by_both_counts_but_deciles_by_the_baseline(
    warehouse: Warehouse, compiled: dict[str, str]
) -> None:
    def tested(baseline: list[int], current: list[int]) -> list[tuple[int, int, int]]:
        text = compiled["rare_bins_pooled"].replace("{baseline}", str(baseline)[1:-1])
        [row] = warehouse.query(text.replace("{current}", str(current)[1:-1]))
        return [tuple(pair) for pair in row["tested"]]

    # 100 rows and 50: a bin is rare where a third of its rows is under 5.
    assert tested([30, 10, 9, 40, 9, 2, 0], [0, 15, 8, 17, 5, 5, 0]) == [
        (30, 0, 1), (10, 15, 1), (40, 17, 0),
        # the third decile has 9 * 50 / 100 < 5; the second category (9 + 5) / 3 < 5
        (9 + 9 + 2, 8 + 5 + 5, 0),
    ]  # fmt: skip
    # A baseline smaller than the window says little about what it hardly holds.
    assert tested([0, 0, 0, 90, 9, 1, 0], [0, 0, 0, 9000, 900, 99, 1]) == [
        (90, 9000, 0), (9, 900, 0), (1, 100, 0),
    ]  # fmt: skip
