"""Evidently's drift preset over all rows of a window: `python -m bench.metrics.evidently_report`.

Arguments BASELINE WINDOW ROWS; result as of `bench.metrics.duckdb_psi`. One comparison a column:
no segments and no days.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import pandas as pd


def report(baseline: str, window: str, rows: int) -> dict[str, float]:
    """Give the seconds of the report alone, without reading the files."""
    from evidently import Report  # type: ignore[import-not-found]
    from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]

    current = pd.read_parquet(window).head(rows)
    columns = [name for name in current.columns if name.startswith("f")]
    reference = pd.read_parquet(baseline, columns=columns)
    started = time.monotonic()
    Report([DataDriftPreset(num_method="psi")]).run(current[columns], reference).dict()
    return {
        "seconds": time.monotonic() - started,
        "comparisons": len(columns),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_seconds": time.process_time(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(report(sys.argv[1], sys.argv[2], int(sys.argv[3]))) + "\n")
