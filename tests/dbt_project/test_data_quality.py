"""Data quality from raw events: against counts by hand, in any cut into runs, and as dbt tests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.dbt_project.monitored_warehouse import (
    MODEL,
    MonitoredWarehouse,
    assert_same_marts,
    prediction,
)
from tests.warehouse_fixtures import ClickHouseProcess

START = datetime(2026, 1, 5, tzinfo=UTC)
KEY = [
    "model_name",
    "model_version",
    "window_start",
    "segment_key",
    "segment_value",
    "feature_name",
]
MARTS = ("fct_data_quality_daily", "fct_data_quality_weekly", "fct_data_quality_monthly")
TYPES = {"distance": "numeric", "carrier": "categorical", "is_holiday": "boolean"}
NULL_CHECKS = {
    severity: f"null_rates_keep_within_rules_of_severity_{severity}"
    for severity in ("warn", "error")
}
RANGE_CHECKS = {
    severity: f"values_keep_within_ranges_of_severity_{severity}" for severity in ("warn", "error")
}


@pytest.fixture(scope="module")
def shared_warehouse(
    clickhouse_server: ClickHouseProcess, tmp_path_factory: pytest.TempPathFactory
) -> MonitoredWarehouse:
    folder = tmp_path_factory.mktemp("data_quality")
    selected = [f"+{mart}" for mart in MARTS]
    return MonitoredWarehouse(clickhouse_server, folder, "data_quality_marts", selected)


@pytest.fixture
def warehouse(shared_warehouse: MonitoredWarehouse) -> MonitoredWarehouse:
    shared_warehouse.empty()
    shared_warehouse.configure(
        segment_sets=[f"{MODEL},origin"], features=[f"{MODEL},distance,,10,,,"]
    )
    return shared_warehouse


def a_day(
    seed: int, count: int = 200, day: int = 0, first: int = 0, **fixed: Any
) -> list[dict[str, Any]]:
    """Sound predictions of one day; `fixed` gives features a value in all of them."""
    generator = np.random.default_rng(seed)
    return [
        prediction(
            f"{first + number}",
            START + timedelta(days=day, seconds=int(generator.integers(0, 86_400))),
            {
                "distance": float(generator.integers(10, 1_000)),
                "carrier": str(generator.choice(["UA", "B6", "AA"])),
                "is_holiday": bool(generator.random() < 0.1),
            }
            | fixed,
            score=round(float(generator.random()), 3),
            segments={"origin": str(generator.choice(["EWR", "JFK"]))},
        )
        for number in range(count)
    ]


def spoiled(events: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Give some values of each feature every way of being wrong."""
    generator = np.random.default_rng(seed)
    wrong: dict[str, list[Any]] = {
        "distance": [None, "far", "NaN", "-Infinity", True, [1], 9.5, 5_000, 0, "absent"],
        "carrier": [None, "ZZ", 7, {"code": "UA"}, "absent"],
        "is_holiday": [None, "yes", 1, "absent"],
    }
    changed = []
    for event in events:
        features = dict(event["features"])
        for name, values in wrong.items():
            if generator.random() < 0.3:
                value = values[int(generator.integers(len(values)))]
                features[name] = value
                if value == "absent":
                    del features[name]
        if generator.random() < 0.2:
            features["gate"] = None if generator.random() < 0.5 else "A1"
        changed.append({**event, "features": features})
    return changed


def marts(warehouse: MonitoredWarehouse) -> dict[str, pd.DataFrame]:
    return {name: warehouse.mart(name, KEY) for name in MARTS}


def expected_quality(feature: str, values: list[Any], baseline: list[Any]) -> dict[str, Any]:
    """Count by hand; `values` are what the rows hold, "absent" where the key is not there."""
    kind = TYPES[feature]
    present = [value for value in values if value is not None and value != "absent"]
    numbers = [
        value for value in present if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    booleans = [value for value in present if isinstance(value, bool)]
    non_finite = [value for value in present if value in ("NaN", "Infinity", "-Infinity")]
    expected: dict[str, Any] = {
        "row_count": len(values),
        "null_count": sum(value is None for value in values),
        "missing_count": values.count("absent"),
    }
    if kind == "numeric":
        expected |= {
            "type_mismatch_count": len(present) - len(numbers) - len(non_finite),
            "non_finite_count": len(non_finite),
            "below_min_count": sum(number < 10 for number in numbers),
            "above_max_count": sum(number > max(baseline) for number in numbers),
            "unseen_count": None,
            "zero_count": sum(number == 0 for number in numbers),
            "mean": np.mean(numbers),
            "standard_deviation": np.std(numbers),
            "number_min": min(numbers),
            "number_max": max(numbers),
        }
    else:
        scalars = [value for value in present if not isinstance(value, dict)]
        mismatches = (
            len(present) - len(scalars) if kind == "categorical" else len(present) - len(booleans)
        )
        expected |= {
            "type_mismatch_count": mismatches,
            "non_finite_count": None,
            "below_min_count": None,
            "above_max_count": None,
            "unseen_count": sum(value not in set(baseline) for value in scalars)
            if kind == "categorical"
            else sum(not isinstance(value, bool) for value in scalars),
            "zero_count": None,
            "mean": None,
        }
    return expected


def assert_percentiles(
    row: Mapping[Any, Any], events: list[dict[str, Any]], baseline: list[dict[str, Any]]
) -> None:
    """Compare with the exact nearest rank, by the error that the metrics reference states."""
    known = [event["features"]["distance"] for event in baseline]
    present = [event["features"].get("distance") for event in events]
    numbers = sorted(
        number
        for number in present
        if isinstance(number, int | float) and not isinstance(number, bool)
    )
    for percent in (5, 25, 50, 75, 95):
        for name, ordered in ((f"p{percent:02d}", numbers), (f"baseline_p{percent:02d}", None)):
            if ordered is None and row["segment_key"] != "all":
                continue
            values = sorted(known) if ordered is None else ordered
            exact = values[math.ceil(percent / 100 * len(values)) - 1]
            error = 0.02 * abs(exact - np.mean(known)) + 1e-3 * np.std(known)
            assert row[name] == pytest.approx(exact, abs=error), name


def test_quality_equals_counts_by_hand(warehouse: MonitoredWarehouse) -> None:
    baseline = a_day(1, 300, day=-30)
    events = spoiled([*a_day(2), *a_day(3, day=1, first=1_000)], 4)
    warehouse.register_baseline(baseline, TYPES)
    warehouse.land(events)
    warehouse.build()
    for name, mart in marts(warehouse).items():
        assert set(mart["feature_name"]) == {*TYPES, "__score__", "gate"}
        for row in mart[mart["feature_name"].isin(TYPES)].to_dict("records"):
            feature = row["feature_name"]
            inside = [
                event
                for event in events
                if row["window_start"]
                <= pd.Timestamp(event["predicted_at"]).tz_localize(None)
                < row["window_end"]
                and row["segment_value"] in ("all", event["segments"]["origin"])
            ]
            expected = expected_quality(
                feature,
                [event["features"].get(feature, "absent") for event in inside],
                [event["features"][feature] for event in baseline],
            )
            for column, value in expected.items():
                found = row[column]
                if value is None:
                    assert pd.isna(found), (name, feature, column, found)
                else:
                    assert found == pytest.approx(value, rel=1e-9), (name, feature, column)
            if TYPES[feature] == "numeric":
                assert_percentiles(row, inside, baseline)
            for column in ("null", "missing", "type_mismatch"):
                rate = row[f"{column}_count"] / row["row_count"]
                assert row[f"{column}_rate"] == pytest.approx(rate, rel=1e-12)
    gate = warehouse.query(
        "select distinct is_unexpected_feature, feature_type, baseline_null_rate, reason "
        "from {marts}.fct_data_quality_daily where feature_name = 'gate'"
    )
    assert gate == [
        {
            "is_unexpected_feature": 1,
            "feature_type": "",
            "baseline_null_rate": None,
            "reason": "not_in_baseline",
        }
    ]
    distances = [event["features"]["distance"] for event in baseline]
    beside = warehouse.query(
        "select distinct min_value, max_value, baseline_mean, baseline_standard_deviation "
        "from {marts}.fct_data_quality_monthly "
        "where feature_name = 'distance' and segment_key = 'all'"
    )
    assert beside == [
        {
            "min_value": 10,
            "max_value": max(distances),
            "baseline_mean": pytest.approx(np.mean(distances), rel=1e-9),
            "baseline_standard_deviation": pytest.approx(np.std(distances), rel=1e-9),
        }
    ]


@pytest.mark.thorough
@pytest.mark.slow
def test_any_cut_into_runs_gives_the_quality_of_one_run(warehouse: MonitoredWarehouse) -> None:
    """Late rows, an earlier event of a known id, and the baseline last."""
    events = spoiled([*a_day(5), *a_day(6, day=8, first=1_000)], 7)
    displaced = {**events[300], "predicted_at": events[0]["predicted_at"]}
    baseline = a_day(8, 300, day=-30)
    warehouse.register_baseline(baseline, TYPES)
    warehouse.land([*events, displaced])
    warehouse.build()
    at_once = marts(warehouse)

    warehouse.empty()
    warehouse.configure(segment_sets=[f"{MODEL},origin"], features=[f"{MODEL},distance,,10,,,"])
    warehouse.land(events[150:])
    warehouse.build()
    warehouse.land([*events[:200], displaced])
    warehouse.build()
    warehouse.register_baseline(baseline, TYPES)
    warehouse.build()
    assert_same_marts(marts(warehouse), at_once)
    warehouse.build()
    assert_same_marts(marts(warehouse), at_once)


def build_with_checks(warehouse: MonitoredWarehouse) -> dict[str, tuple[str, str]]:
    kinds = ("--resource-type", "model", "--resource-type", "seed", "--resource-type", "test")
    return warehouse.dbt("build", *kinds, "--select", "+fct_breaches")


def outcomes(statuses: dict[str, tuple[str, str]], checks: dict[str, str]) -> dict[str, str]:
    return {severity: statuses[check][0] for severity, check in checks.items()}


@pytest.mark.slow
@pytest.mark.thorough
def test_checks_warn_or_fail_as_the_seeds_say(warehouse: MonitoredWarehouse) -> None:
    warehouse.register_baseline(a_day(1, 300, day=-30), TYPES)
    sound = [*a_day(2), *a_day(3, day=1, first=1_000)]
    warehouse.land(sound)
    declared = [f"{MODEL},distance,,10,2000,0,", f"{MODEL},carrier,,,,0,"]
    warehouse.configure(features=declared)
    silent = {"warn": "pass", "error": "pass"}
    statuses = build_with_checks(warehouse)
    assert outcomes(statuses, NULL_CHECKS) == silent
    assert outcomes(statuses, RANGE_CHECKS) == silent

    # one null of a feature that is never null, one value beyond a declared range
    warehouse.land(a_day(4, 1, day=2, first=5_000, distance=None))
    warehouse.land(a_day(5, 1, day=2, first=5_001, distance=9.0))
    statuses = build_with_checks(warehouse)
    assert outcomes(statuses, NULL_CHECKS) == {"warn": "pass", "error": "fail"}
    assert outcomes(statuses, RANGE_CHECKS) == {"warn": "warn", "error": "pass"}
    # nothing is skipped by the failure
    assert {status for status, _ in statuses.values()} == {"success", "pass", "warn", "fail"}

    # monitors take the place of what the declarations imply
    warehouse.configure(
        features=declared,
        monitors=[
            f"nulls,{MODEL},null_rate,all,distance,day,>,0.4,1,1,1,warn",
            f"low,{MODEL},below_min_rate,all,distance,day,>,0.4,1,1,1,error",
        ],
    )
    statuses = build_with_checks(warehouse)
    assert outcomes(statuses, NULL_CHECKS) == {"warn": "warn", "error": "pass"}
    assert outcomes(statuses, RANGE_CHECKS) == {"warn": "pass", "error": "fail"}

    # and a sound day ends both
    warehouse.land(a_day(6, day=3, first=6_000))
    statuses = build_with_checks(warehouse)
    assert outcomes(statuses, NULL_CHECKS) == silent
    assert outcomes(statuses, RANGE_CHECKS) == silent
    incidents = warehouse.query(
        "select monitor_name, status, worst_value, toString(resolved_at) as resolved_at "
        "from {marts}.fct_breaches where status not in ('not_evaluated', 'retracted') order by all"
    )
    last = warehouse.query(
        "select toString(toDateTime(last_predicted_at, 'UTC')) as at from {marts}.dim_models "
        "where model_name = {model:String}",
        model=MODEL,
    )[0]["at"]
    assert incidents == [
        {"monitor_name": name, "status": "resolved", "worst_value": 0.5, "resolved_at": last}
        for name in ("low", "nulls")
    ]
