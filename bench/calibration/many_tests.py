"""False alarms and power where 2,000 features and segments are tested in each window."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.calibration.drift_windows import DriftMart, Windows
from bench.calibration.populations import shifted_deciles
from bench.findings import Bar, Study, Table

FEATURES, SEGMENTS, SHIFTED, SIGMAS = 50, 40, 50, 0.5
BASELINE_ROWS = 10_000
MOST_FALSE_ALARMS, LEAST_POWER = 7.0, 0.95
_ROWS = 200
_LEAST_ROWS, _MOST_ROWS = 50, 5_000

Found = Mapping[str, NDArray[Any]]


def many_tests(mart: DriftMart, windows: int, seed: int) -> Study:
    """Judge families of tests, of segments of one size and of many."""
    generator = np.random.default_rng([seed, 2])
    one_size = _judged(mart, np.full((windows, SEGMENTS), _ROWS), generator)
    sizes = np.exp(
        generator.uniform(np.log(_LEAST_ROWS), np.log(_MOST_ROWS), (windows, SEGMENTS))
    ).astype(np.int64)
    many_sizes = _judged(mart, sizes, generator)
    of_200 = many_sizes["rows"] >= _ROWS
    alarm, alarm_of_many = _has_alarm(one_size), _has_alarm(many_sizes)
    return Study(
        title="Many tests: false alarms and power",
        method=(
            f"{windows} windows of {FEATURES} features in {SEGMENTS} segments, each with a "
            f"baseline of {BASELINE_ROWS:,} rows; {SHIFTED} of the {FEATURES * SEGMENTS:,} tests, "
            f"chosen by chance, are of a mean shifted by {SIGMAS} standard deviations. False "
            "alarms are means a window; power is the share of shifts that are alarmed."
        ),
        tables=[
            _table(f"{_ROWS} rows a segment", one_size, windows),
            _table(f"{_LEAST_ROWS} to {_MOST_ROWS:,} rows a segment", many_sizes, windows),
            _power_by_size(many_sizes),
        ],
        bars=[
            Bar(
                "≤ 7 false alarms a window, 200 rows",
                _false_alarms(one_size, alarm, windows),
                most=MOST_FALSE_ALARMS,
            ),
            Bar("power ≥ 0.95, 200 rows", _power(one_size, alarm), least=LEAST_POWER),
            Bar(
                "≤ 7 false alarms a window, 50 to 5,000 rows",
                _false_alarms(many_sizes, alarm_of_many, windows),
                most=MOST_FALSE_ALARMS,
            ),
            Bar(
                "power ≥ 0.95, segments of 200 to 5,000 rows",
                _power(many_sizes, alarm_of_many, of_200),
                least=LEAST_POWER,
            ),
        ],
    )


def _judged(
    mart: DriftMart, rows: NDArray[np.int64], generator: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Draw and judge; `rows` is (windows, segments). One element a test."""
    windows = len(rows)
    tests = FEATURES * SEGMENTS
    day = np.repeat(np.arange(windows), tests)
    segment = np.tile(np.arange(tests) // FEATURES, windows)
    feature = np.tile(np.arange(tests) % FEATURES, windows)
    is_shifted = np.concatenate(
        [generator.permutation(np.arange(tests) < SHIFTED) for _ in range(windows)]
    )
    unmoved, moved = shifted_deciles(np.array([0.0, SIGMAS]))
    size = rows[day, segment]
    current = generator.multinomial(size, np.where(is_shifted[:, None], moved, unmoved))
    # A baseline of its own for each feature and segment, the same in every window.
    baseline = np.tile(generator.multinomial(BASELINE_ROWS, unmoved, tests), (windows, 1))
    found = mart.judge(
        Windows(baseline, current, day=day, feature=feature, segment=segment),
        ["psi", "q_value", "verdict"],
    )
    return {**found, "is_shifted": is_shifted, "rows": size}


def _has_alarm(found: Found) -> NDArray[np.bool_]:
    return np.isin(found["verdict"].astype(str), ["drift", "warning"])


def _false_alarms(found: Found, alarm: NDArray[np.bool_], windows: int) -> float:
    return float(np.sum(alarm & ~found["is_shifted"]) / windows)


def _power(found: Found, alarm: NDArray[np.bool_], of: NDArray[np.bool_] | None = None) -> float:
    shifted = found["is_shifted"] if of is None else found["is_shifted"] & of
    return float(np.mean(alarm[shifted]))


def _table(title: str, found: Found, windows: int) -> Table:
    alarms = {
        "verdict `warning` or `drift`": _has_alarm(found),
        "q ≤ 0.10 alone": found["q_value"] <= 0.10,
        "PSI > 0.1 alone": found["psi"] > 0.1,
        "PSI > 0.25 alone": found["psi"] > 0.25,
    }
    return Table(
        (title, "false alarms", "power"),
        [
            (name, f"{_false_alarms(found, alarm, windows):.1f}", f"{_power(found, alarm):.3f}")
            for name, alarm in alarms.items()
        ],
    )


def _power_by_size(found: Found) -> Table:
    alarm = _has_alarm(found)
    bounds = (50, 100, 200, 500, 1_000, 5_001)
    rows = []
    for least, below in pairwise(bounds):
        of = (found["rows"] >= least) & (found["rows"] < below)
        false = np.mean(alarm[of & ~found["is_shifted"]])
        rows.append(
            (f"{least:,} to {below - 1:,}", f"{false:.2%}", f"{_power(found, alarm, of):.3f}")
        )
    return Table(("rows in the segment", "share of false alarms", "power"), rows)
