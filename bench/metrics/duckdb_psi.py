"""PSI of every feature, segment and day in DuckDB, from Parquet: what one would write oneself.

`python -m bench.metrics.duckdb_psi BASELINE WINDOW` prints JSON. It runs under an interpreter that
has DuckDB, and imports nothing of ours. Deciles of the whole baseline, half a count added to each
bin; no nulls, no verdict, no other distance, and nothing is kept for the next run.
"""

from __future__ import annotations

import json
import resource
import sys
import time


def psi(baseline: str, window: str) -> dict[str, float]:
    """Give the seconds, the number of comparisons and the peak of memory."""
    import duckdb  # type: ignore[import-not-found]

    started = time.monotonic()
    connection = duckdb.connect()
    columns = [
        row[0]
        for row in connection.execute(f"describe select * from '{window}'").fetchall()
        if row[0].startswith("f")
    ]
    shares = [number / 10 for number in range(1, 10)]
    quantiles = connection.execute(
        f"select {', '.join(f'quantile_cont({name}, {shares})' for name in columns)} "
        f"from '{baseline}'"
    ).fetchone()
    comparisons = 0
    for name, edges in zip(columns, quantiles, strict=True):
        bin_of = " + ".join(f"({name} > {edge!r})::utinyint" for edge in edges)
        # To group by the bin, feature by feature, takes a fifth of what 150 filtered counts take.
        found = connection.execute(
            f"with base as materialized (select segment, {bin_of} as bin, count(*) as rows "
            f"from '{baseline}' group by all), "
            f"current as materialized (select segment, day, {bin_of} as bin, count(*) as rows "
            f"from '{window}' group by all), "
            "pairs as (select segment, day, bin, "
            "coalesce(base.rows, 0) as base_rows, coalesce(current.rows, 0) as current_rows "
            "from (select distinct segment, day from current semi join base using (segment)) "
            "cross join range(10) as bins(bin) "
            "left join base using (segment, bin) "
            "left join current using (segment, day, bin)), "
            "shares as (select segment, day, "
            "(base_rows + 0.5) / (sum(base_rows) over (partition by segment, day) + 5) as p, "
            "(current_rows + 0.5) / (sum(current_rows) over (partition by segment, day) + 5) as q "
            "from pairs) select segment, day, sum((q - p) * ln(q / p)) from shares group by all"
        ).fetchall()
        comparisons += len(found)
    return {
        "seconds": time.monotonic() - started,
        "comparisons": comparisons,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_seconds": time.process_time(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(psi(*sys.argv[1:3])) + "\n")
