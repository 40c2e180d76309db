"""Whether two states of the marts say the same: floats within tolerance, all else exactly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.dbt_project.warehouse import Warehouse

# What says when or by which run a row came, not what it means.
OF_THE_RUN = frozenset({"run_version", "landed_at", "kafka_timestamp"})
MARTS = (
    "dim_baseline_bins",
    "dim_baselines",
    "dim_features",
    "dim_models",
    "dim_segments",
    "fct_breaches",
    *(
        f"fct_{subject}_{window}"
        for subject in ("data_quality", "feature_drift", "model_performance", "service")
        for window in ("daily", "weekly", "monthly")
    ),
    "fct_model_calibration",
    "fct_model_performance_by_class",
    "fct_model_performance_mix",
    "fct_model_threshold_curves",
    "fct_data_quality_hourly",
    "fct_feature_drift_hourly",
    "fct_predictions",
    "fct_rejected_events",
    "fct_reject_rates",
)
# What was reported and then undone depends on when dbt ran, as nothing else does (decision 0062).
_KEPT = {"fct_breaches": "where status != 'retracted'"}
Rows = list[dict[str, Any]]
Marts = Mapping[str, Rows]


def read_marts(warehouse: Warehouse) -> Marts:
    """Read every mart whole, without the columns that differ by run."""
    return {
        name: [
            {column: value for column, value in row.items() if column not in OF_THE_RUN}
            for row in warehouse.query(f"select * from {{database}}.{name} {_KEPT.get(name, '')}")
        ]
        for name in MARTS
    }


def differences(found: Marts, expected: Marts, limit: int = 10) -> list[str]:
    """List how two states differ, at most `limit` a mart."""
    listed: list[str] = []
    for mart in expected:
        in_mart: list[str] = []
        here, there = map(_by_key, _unequal(found[mart], expected[mart]))
        in_mart += [f"{mart}: {key} is not expected" for key in here.keys() - there.keys()]
        in_mart += [f"{mart}: {key} is lacking" for key in there.keys() - here.keys()]
        for key in here.keys() & there.keys():
            in_mart += [
                f"{mart}: {key}: {value!r} instead of {other!r}"
                for value, other in zip(here[key], there[key], strict=True)
                if not is_same(value, other)
            ]
        listed += in_mart[:limit]
    return listed


def _unequal(found: Rows, expected: Rows) -> tuple[Rows, Rows]:
    """Leave out of each side the rows that the other has to the last digit: nearly all."""
    found_texts, expected_texts = [*map(repr, found)], [*map(repr, expected)]
    surplus = Counter(found_texts)
    surplus.subtract(expected_texts)
    unequal = {text for text, count in surplus.items() if count}
    return (
        [row for row, text in zip(found, found_texts, strict=True) if text in unequal],
        [row for row, text in zip(expected, expected_texts, strict=True) if text in unequal],
    )


def _by_key(rows: Rows) -> dict[str, list[Any]]:
    """Give the floats of each row by all the rest of it, numbered where that is not unique."""
    found: dict[str, list[Any]] = {}
    for row in sorted(rows, key=repr):
        exact = {name: value for name, value in row.items() if not _has_floats(value)}
        base = repr(sorted(exact.items()))
        key, copy = base, 1
        while key in found:
            copy += 1
            key = f"{base} ({copy})"
        found[key] = [(name, value) for name, value in row.items() if name not in exact]
    return found


def _has_floats(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_has_floats(inner) for inner in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(_has_floats(inner) for inner in value)
    return isinstance(value, float)


def is_same(value: Any, other: Any) -> bool:
    """Tell whether two values agree: floats to 1e-9 relative or 1e-12 absolute, others exactly."""
    if isinstance(value, float) and isinstance(other, float):
        if math.isnan(value) or math.isnan(other):
            return math.isnan(value) and math.isnan(other)
        return math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return value.keys() == other.keys() and all(is_same(value[k], other[k]) for k in value)
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(is_same, value, other))
    return bool(value == other)
