"""How fast metrics are computed: `make bench-metrics`, or `python -m bench.metrics --help`.

The project's own models, run by dbt on the sandbox's ClickHouse server, over generated rows that
were put in typed; peers over the same rows from Parquet, each a process of its own:

- wide: typed rows to verdicts over many features, segments and days, by stage; then one hour more.
- tall: 1 million rows beside a baseline of 200,000, 20 features, no segments to speak of.
- parse: JSON events of a run to typed rows, duplicates and rejects.
- flat: one new hour while history grows tenfold.
- peers: DuckDB, NumPy and Evidently.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.findings import Bar, Study, Table, missed, write_between
from bench.metrics.measured_warehouse import (
    MeasuredWarehouse,
    Run,
    Shape,
    measured_warehouse,
)
from bench.peer_environment import PeerFailedError, peer_python, run_peer

MOST_TIMES_DUCKDB, MOST_PEAK_MIB, MOST_SECONDS_OF_AN_HOUR = 2.0, 2048.0, 5.0
MOST_SECONDS_OF_A_MILLION, MOST_GROWTH = 3.0, 1.2

_DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_DAYS, _HOURS_OF_HISTORY, _ROUNDS = 24, 30 * 24, 3
_STAGES: Mapping[str, tuple[str, ...]] = {
    "histogram": ("int_feature_histograms_hourly",),
    "roll-up": ("int_feature_histograms_daily",),
    "verdict": ("fct_feature_drift_daily",),
}
_MODELS = [model for models in _STAGES.values() for model in models]
_BASELINE_MODELS = (
    "int_baseline_rows",
    "int_feature_binning",
    "int_baseline_histograms_daily",
    "int_baseline_histograms",
    "int_baseline_psi",
)
_READERS_OF_EVENTS = ("int_predictions", "int_duplicate_predictions", "int_rejected_events")
_DUCKDB, _EVIDENTLY = ("duckdb==2.0.1",), ("evidently==0.7.23", "pandas<3")
_EVIDENTLY_ROWS = 100_000

console = Console()


def _stages(run: Run) -> list[tuple[str, str]]:
    return [(stage, f"{run.seconds_of(models):.2f}") for stage, models in _STAGES.items()]


def wide(rows: int, baseline_rows: int) -> Study:
    """Typed rows to verdicts by stage, an hour more, and peers on the same rows."""
    shape = Shape(rows, features=15, segments=20, hours=24 * _DAYS)
    one_hour = Shape(max(1, rows // shape.hours), shape.features, shape.segments, hours=1)
    with (
        measured_warehouse("wide") as measured,
        tempfile.TemporaryDirectory(prefix="driftline-metrics-") as folder,
    ):
        measured.register_baseline(baseline_rows, shape)
        first = measured.build("+fct_feature_drift_daily")
        measured.build(*_MODELS)
        measured.put_rows(shape)
        window = measured.export(shape, Path(folder))
        baseline = measured.export_baseline(baseline_rows, shape, Path(folder))
        whole = measured.build(*_MODELS)
        measured.put_rows(one_hour, first_row=rows, first_hour=shape.hours)
        second = measured.build(*_MODELS)
        peers = _peers(baseline, window)
    comparisons = shape.features * shape.segments * _DAYS
    table = Table(
        ("", "seconds", "CPU s", "peak MiB", "comparisons"),
        [
            (
                "baseline: bins and counts",
                f"{first.seconds_of(_BASELINE_MODELS):.1f}",
                "",
                "",
                "",
            ),
            *((f"driftline: {stage}", seconds, "", "", "") for stage, seconds in _stages(whole)),
            (
                "driftline: typed rows to verdicts",
                f"{whole.model_seconds:.1f}",
                f"{whole.cpu_seconds:.1f}",
                f"{whole.peak_mib:,.0f}",
                f"{comparisons:,} and those of everyone, all columns",
            ),
            *((f"driftline, an hour more: {stage}", s, "", "", "") for stage, s in _stages(second)),
            (
                "driftline, an hour more",
                f"{second.model_seconds:.1f}",
                f"{second.cpu_seconds:.1f}",
                f"{second.peak_mib:,.0f}",
                f"{shape.features * shape.segments:,}",
            ),
            ("the same with dbt's own start", f"{second.seconds:.1f}", "", "", ""),
            *(
                (
                    name,
                    f"{found['seconds']:.1f}",
                    f"{found['cpu_seconds']:.1f}",
                    f"{found['peak_mib']:,.0f}",
                    f"{found['comparisons']:,.0f}",
                )
                for name, found in peers.items()
            ),
        ],
    )
    duckdb = peers.get("DuckDB, PSI only", {}).get("seconds", float("nan"))
    return Study(
        title=f"{rows:,} rows, {shape.features} features, {shape.segments} segments, {_DAYS} days",
        method=(
            f"Rows are put typed into `int_predictions`, one model version, {24 * _DAYS} hours, a "
            f"baseline of {baseline_rows:,} rows. Warm: the models have run before. Seconds of "
            "driftline are those of its models."
        ),
        tables=[table],
        bars=[
            Bar(
                "≤ 2 times DuckDB (PSI only)",
                whole.model_seconds / duckdb,
                most=MOST_TIMES_DUCKDB,
                unit=" times",
            ),
            Bar("peak memory < 2 GiB", whole.peak_mib, most=MOST_PEAK_MIB, unit=" MiB"),
            Bar(
                "one new hour in < 5 s",
                second.model_seconds,
                most=MOST_SECONDS_OF_AN_HOUR,
                unit=" s",
            ),
        ],
    )


def _peers(baseline: Path, window: Path) -> dict[str, dict[str, float]]:
    files = (str(baseline), str(window))
    found = {}
    if (duckdb := peer_python("duckdb", _DUCKDB)) is not None:
        found["DuckDB, PSI only"] = run_peer(duckdb, "bench.metrics.duckdb_psi", *files)
    found["NumPy, PSI only"] = run_peer(Path(sys.executable), "bench.metrics.numpy_psi", *files)
    if (evidently := peer_python("evidently", _EVIDENTLY)) is not None:
        try:
            found[f"Evidently, {_EVIDENTLY_ROWS:,} rows, no segments"] = run_peer(
                evidently, "bench.metrics.evidently_report", *files, str(_EVIDENTLY_ROWS)
            )
        except PeerFailedError as error:
            console.print(f"Evidently is left out: {error}")
    return found


def tall(rows: int, baseline_rows: int) -> Study:
    """Judge one day of many rows and no segments to speak of."""
    shape = Shape(rows, features=20, segments=1, hours=24)
    with measured_warehouse("tall") as measured:
        measured.register_baseline(baseline_rows, shape)
        first = measured.build("+fct_feature_drift_daily")
        measured.build(*_MODELS)
        measured.put_rows(shape)
        run = measured.build(*_MODELS)
    return Study(
        title=f"{rows:,} rows beside a baseline of {baseline_rows:,}, {shape.features} features",
        method="One day, one segment; the baseline was counted before, as it is but once, and the "
        "models have run before.",
        tables=[
            Table(
                ("", "seconds"),
                [
                    ("baseline: bins and counts", f"{first.seconds_of(_BASELINE_MODELS):.1f}"),
                    *_stages(run),
                    ("typed rows to verdicts", f"{run.model_seconds:.1f}"),
                ],
            )
        ],
        bars=[Bar("< 3 s", run.model_seconds, most=MOST_SECONDS_OF_A_MILLION, unit=" s")],
    )


def parse(rows: int) -> Study:
    """JSON events that a run takes in, to typed rows, duplicates and rejects."""
    shape = Shape(rows, features=15, segments=20, hours=1)
    models = [f"+{name}" for name in _READERS_OF_EVENTS]
    with measured_warehouse("parse") as measured:
        measured.build(*models)
        measured.land_events(shape)
        run = measured.build(*models)
    seconds = run.model_seconds
    return Study(
        title="Parse",
        method=f"{rows:,} JSON events of {shape.features} features, landed since the run before, "
        f"to `{'`, `'.join(_READERS_OF_EVENTS)}`.",
        tables=[
            Table(
                ("seconds", "events a second", "CPU µs an event", "peak MiB"),
                [
                    (
                        f"{seconds:.1f}",
                        f"{rows / seconds:,.0f}",
                        f"{1e6 * run.cpu_seconds / rows:.0f}",
                        f"{run.peak_mib:,.0f}",
                    )
                ],
            )
        ],
    )


def flat() -> Study:
    """One new hour, again and again, with a month of history and with ten."""
    rows_an_hour = 200

    def shape(hours: int) -> Shape:
        return Shape(rows_an_hour * hours, features=5, segments=5, hours=hours)

    def new_hours(measured: MeasuredWarehouse, first: int) -> list[Run]:
        runs = []
        for hour in range(first, first + _ROUNDS):
            measured.put_rows(shape(1), first_row=hour * rows_an_hour, first_hour=hour)
            runs.append(measured.build(*_all_models()))
        return runs

    with measured_warehouse("flat") as measured:
        measured.register_baseline(10_000, shape(1))
        measured.build("+fct_feature_drift_monthly", *(f"+{name}" for name in _all_drift()))
        measured.put_rows(shape(_HOURS_OF_HISTORY))
        measured.build(*_all_models())
        short = new_hours(measured, _HOURS_OF_HISTORY)
        later = 10 * _HOURS_OF_HISTORY
        measured.put_rows(
            shape(later - _HOURS_OF_HISTORY - 24),
            first_row=_HOURS_OF_HISTORY * rows_an_hour * 2,
            first_hour=_HOURS_OF_HISTORY + 24,
        )
        measured.build(*_all_models())
        long = new_hours(measured, later)
    seconds = [statistics.median(run.model_seconds for run in runs) for runs in (short, long)]
    cpu = [statistics.median(run.cpu_seconds for run in runs) for runs in (short, long)]
    return Study(
        title="One new hour, while history grows tenfold",
        method=(
            f"Histograms, data quality and drift of day, week and month; {rows_an_hour} rows an "
            f"hour, median of {_ROUNDS} hours. Performance marts are not in it."
        ),
        tables=[
            Table(
                ("days of history", "seconds", "CPU s"),
                [
                    (f"{days}", f"{taken:.2f}", f"{used:.2f}")
                    for days, taken, used in zip((30, 300), seconds, cpu, strict=True)
                ],
            )
        ],
        bars=[
            Bar("CPU time flat (≤ 1.2 times)", cpu[1] / cpu[0], most=MOST_GROWTH, unit=" times"),
        ],
    )


def _all_drift() -> list[str]:
    return [
        f"fct_{subject}_{length}"
        for subject in ("feature_drift", "data_quality")
        for length in ("daily", "weekly", "monthly")
    ]


def _all_models() -> list[str]:
    return ["int_feature_histograms_hourly", "int_feature_histograms_daily", *_all_drift()]


def main(
    rows: Annotated[int, typer.Option(help="Of the wide measurement.")] = 10_000_000,
    only: Annotated[str, typer.Option(help="wide, tall, parse or flat; all unless given.")] = "",
    write: Annotated[bool, typer.Option(help="Write docs/benchmarks.md.")] = False,
) -> None:
    """Measure, print, and fail where a bar is missed."""
    runs = {
        "parse": lambda: parse(rows // 20),
        "tall": lambda: tall(rows // 10, 200_000),
        "wide": lambda: wide(rows, 200_000),
        "flat": flat,
    }
    found = []
    for name, run in runs.items():
        if only in ("", name):
            study = run()
            console.print(study.markdown(), soft_wrap=True)
            found.append(study)
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    machine = (
        f"{os.cpu_count()} CPUs, Python {platform.python_version()}, chdb {version('chdb')}, "
        f"dbt-core {version('dbt-core')}; load {loads} at the end."
    )
    console.print(machine)
    if write:
        # Subsections of the document's own.
        text = "\n\n".join([machine, *(f"#{study.markdown()}" for study in found)])
        write_between(_DOCUMENT, "metrics", f"\n{text}\n")
    if misses := missed(found):
        console.print(f"error: missed: {'; '.join(bar.promise for bar in misses)}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
