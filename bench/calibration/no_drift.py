"""How often the test rejects when nothing has drifted."""

from __future__ import annotations

import numpy as np

from bench.calibration.drift_windows import DriftMart, Windows
from bench.calibration.populations import POPULATIONS, Population
from bench.findings import Bar, Study, Table

LEVEL = 0.01
WINDOW_ROWS = (50, 100, 200, 500, 1_000, 5_000, 50_000)
BASELINE_ROWS = (10_000, 300)
MOST, WELL_FILLED = 0.015, (0.005, 0.013)
_WELL_FILLED_COUNT = 5


def no_drift(mart: DriftMart, windows: int, seed: int) -> Study:
    """Judge `windows` windows of each size against baselines of the same population."""
    rejected = {
        (population.name, baseline_rows, rows): _share_rejected(
            mart, population, baseline_rows, rows, _windows(windows, baseline_rows), seed
        )
        for population in POPULATIONS
        for baseline_rows in BASELINE_ROWS
        for rows in WINDOW_ROWS
    }
    full = [
        rejected[population.name, baseline_rows, rows]
        for population in POPULATIONS
        for baseline_rows in BASELINE_ROWS[:1]
        for rows in WINDOW_ROWS
        if _is_filled(population, baseline_rows, rows)
    ]
    return Study(
        title="No drift: how often the test rejects",
        method=(
            f"{windows:,} windows a cell (half as many for the small baseline), each with a "
            "baseline of its own drawn from the same population. Share with `p_value` ≤ 1 %; in "
            f"bold where every bin is expected to have {_WELL_FILLED_COUNT} rows or more in "
            'baseline and window ("filled", which is judged for the baseline of '
            f"{BASELINE_ROWS[0]:,})."
        ),
        tables=[_table(rejected, baseline_rows) for baseline_rows in BASELINE_ROWS],
        bars=[
            Bar("never above 1.5 %", 100 * max(rejected.values()), most=100 * MOST, unit=" %"),
            Bar(
                "≥ 0.5 % where bins are filled",
                100 * min(full),
                least=100 * WELL_FILLED[0],
                unit=" %",
            ),
            Bar(
                "≤ 1.3 % where bins are filled",
                100 * max(full),
                most=100 * WELL_FILLED[1],
                unit=" %",
            ),
        ],
    )


def _share_rejected(
    mart: DriftMart, population: Population, baseline_rows: int, rows: int, windows: int, seed: int
) -> float:
    generator = np.random.default_rng([seed, POPULATIONS.index(population), baseline_rows, rows])
    baseline, shares = population.draw(generator, baseline_rows, windows)
    current = generator.multinomial(rows, shares)
    number = np.arange(windows)
    found = mart.judge(
        Windows(
            baseline,
            current,
            day=0 * number,
            feature=number,
            segment=None if population.is_cut_at_deciles else 0 * number,
        ),
        ["p_value"],
    )
    return float(np.mean(found["p_value"] <= LEVEL))


def _windows(windows: int, baseline_rows: int) -> int:
    return windows if baseline_rows == BASELINE_ROWS[0] else windows // 2


def _is_filled(population: Population, baseline_rows: int, rows: int) -> bool:
    return min(rows, baseline_rows) * population.least_share >= _WELL_FILLED_COUNT


def _table(rejected: dict[tuple[str, int, int], float], baseline_rows: int) -> Table:
    def cell(population: Population, rows: int) -> str:
        text = f"{rejected[population.name, baseline_rows, rows]:.2%}"
        return f"**{text}**" if _is_filled(population, baseline_rows, rows) else text

    return Table(
        (
            f"baseline of {baseline_rows:,}; rows in the window",
            *(f"{rows:,}" for rows in WINDOW_ROWS),
        ),
        [
            (population.name, *(cell(population, rows) for rows in WINDOW_ROWS))
            for population in POPULATIONS
        ],
    )
