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
    bins = ", ".join(
        " + ".join(f"({name} > {edge!r})::utinyint" for edge in edges) + f" as {name}"
        for name, edges in zip(columns, quantiles, strict=True)
    )
    for table, source, keys in (
        ("base", baseline, "segment"),
        ("current", window, "segment, day"),
    ):
        counts = ", ".join(
            f"count(*) filter ({name} = {number}) as {name}_{number}"
            for name in columns
            for number in range(10)
        )
        connection.execute(
            f"create table {table} as select {keys}, {counts} "
            f"from (select {keys}, {bins} from '{source}') group by all"
        )
    comparisons = 0
    for name in columns:
        a = ", ".join(f"base.{name}_{number}" for number in range(10))
        b = ", ".join(f"current.{name}_{number}" for number in range(10))
        found = connection.execute(
            "with pairs as (select segment, day, unnest(["
            + a
            + "]) as a, unnest(["
            + b
            + "]) as b "
            "from current join base using (segment)), shares as (select segment, day, "
            "(a + 0.5) / (sum(a) over (partition by segment, day) + 5) as p, "
            "(b + 0.5) / (sum(b) over (partition by segment, day) + 5) as q from pairs) "
            "select segment, day, sum((q - p) * ln(q / p)) from shares group by all"
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
