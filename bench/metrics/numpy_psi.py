"""PSI of every feature, segment and day in NumPy, from Parquet.

`python -m bench.metrics.numpy_psi`; arguments and result as of `bench.metrics.duckdb_psi`; the
same figures, a column at a time.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

_BINS = 10


def psi(baseline: str, window: str) -> dict[str, float]:
    """Give the seconds, the number of comparisons and the peak of memory."""
    started = time.monotonic()
    columns = [name for name in pq.read_schema(window).names if name.startswith("f")]
    segments = pq.read_table(baseline, columns=["segment"])["segment"]
    names = pc.unique(segments)
    of_baseline = pc.index_in(segments, names).to_numpy()
    keys = pq.read_table(window, columns=["day", "segment"])
    days = pc.unique(keys["day"])
    of_window = pc.index_in(keys["segment"], names).to_numpy() * len(days)
    of_window = of_window + pc.index_in(keys["day"], days).to_numpy()
    comparisons = 0
    for name in columns:
        values = pq.read_table(baseline, columns=[name])[name].to_numpy()
        edges = np.quantile(values, np.arange(1, _BINS) / _BINS)
        p = _shares(edges, values, of_baseline, len(names))
        current = pq.read_table(window, columns=[name])[name].to_numpy()
        q = _shares(edges, current, of_window, len(names) * len(days))
        p = np.repeat(p, len(days), axis=0)
        comparisons += len(np.sum((q - p) * np.log(q / p), axis=1))
    return {
        "seconds": time.monotonic() - started,
        "comparisons": comparisons,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_seconds": time.process_time(),
    }


def _shares(
    edges: NDArray[np.float64],
    values: NDArray[np.float64],
    group: NDArray[np.int64],
    groups: int,
) -> NDArray[np.float64]:
    cell = group * _BINS + np.searchsorted(edges, values)
    counts = np.bincount(cell, minlength=groups * _BINS).reshape(groups, _BINS)
    return np.asarray((counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 0.5 * _BINS))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(psi(*sys.argv[1:3])) + "\n")
