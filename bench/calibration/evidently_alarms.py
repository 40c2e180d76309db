"""Drift alarms of Evidently; runs under an interpreter that has it, and imports nothing of ours.

`python -m bench.calibration.evidently_alarms SEED` prints, as JSON, the shares of columns that it
calls drifted: of those that did not drift, and of those shifted by half a standard deviation.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pandas as pd

BASELINE_ROWS = 10_000
COLUMNS, SHIFTED = 24, 8
WINDOW_ROWS = (50, 200, 1_000)


def alarms(seed: int) -> dict[str, dict[str, list[float]]]:
    """Give [share of false alarms, power] by method and rows of the window."""
    from evidently import Report  # type: ignore[import-not-found]
    from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]

    generator = np.random.default_rng([seed, 7])
    names = [f"c{number}" for number in range(COLUMNS)]
    baseline = pd.DataFrame(generator.standard_normal((BASELINE_ROWS, COLUMNS)), columns=names)
    found: dict[str, dict[str, list[float]]] = {}
    for method, options in {
        "Evidently, as it comes": {},
        "Evidently, `psi` > 0.1": {"num_method": "psi", "num_threshold": 0.1},
    }.items():
        for rows in WINDOW_ROWS:
            values = generator.standard_normal((rows, COLUMNS))
            values[:, :SHIFTED] += 0.5
            run = Report([DataDriftPreset(**options)]).run(
                pd.DataFrame(values, columns=names), baseline
            )
            metrics = run.dict()["metrics"]
            drifted = {name for name in names if _is_drifted(metrics, name)}
            power = len(drifted & set(names[:SHIFTED])) / SHIFTED
            false = len(drifted & set(names[SHIFTED:])) / (COLUMNS - SHIFTED)
            found.setdefault(method, {})[str(rows)] = [false, power]
    return found


def _is_drifted(metrics: list[dict[str, Any]], column: str) -> bool:
    for metric in metrics:
        config = metric["config"]
        if config.get("column") == column and "threshold" in config:
            # A p-value alarms below its threshold, a distance above.
            value, threshold = float(metric["value"]), float(config["threshold"])
            return value < threshold if "p_value" in config["method"] else value >= threshold
    raise AssertionError(f"no drift of {column} in the report")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(alarms(int(sys.argv[1]))) + "\n")
