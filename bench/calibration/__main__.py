"""Whether the statistics hold what they claim: `make calibrate`, `python -m bench.calibration`.

Each study draws from populations whose truth is known, has the project's own SQL and Python judge
the draws, and compares. Every figure of docs/calibration.md is written by this run, from one seed;
the command fails where a bar is missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.calibration.drift_windows import drift_mart
from bench.calibration.estimated_performance import estimated_performance
from bench.calibration.interval_coverage import interval_coverage
from bench.calibration.late_labels import late_labels
from bench.calibration.many_tests import many_tests
from bench.calibration.no_drift import no_drift
from bench.calibration.peers import drift_of_peers
from bench.findings import Study, bars_table, missed, write_between

_DOCUMENT = Path(__file__).parents[2] / "docs" / "calibration.md"

console = Console()


def studies(seed: int, share: float) -> Iterator[Callable[[], list[Study]]]:
    """Give the studies, each to be run alone; `share` of the full number of draws."""

    def of_drift() -> list[Study]:
        with drift_mart() as mart:
            return [
                no_drift(mart, round(20_000 * share), seed),
                many_tests(mart, round(50 * share), seed),
            ]

    yield of_drift
    yield lambda: [interval_coverage(round(1_000 * share), seed)]
    yield lambda: [late_labels(seed)]
    yield lambda: estimated_performance(seed)
    yield lambda: drift_of_peers(seed)


def _write(found: Sequence[Study], seed: int) -> None:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("chdb", "numpy", "scipy"))
    summary = f"Seed {seed}; {libraries}."
    text = "\n\n".join([summary, *(study.markdown() for study in found)])
    write_between(_DOCUMENT, "calibration", f"\n{text}\n")


def main(
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 1,
    share: Annotated[
        float, typer.Option(help="Of the full number of draws; the document is then left alone.")
    ] = 1.0,
) -> None:
    """Run every study, write docs/calibration.md, and fail where a bar is missed."""
    started = time.monotonic()
    found: list[Study] = []
    for run in studies(seed, share):
        for study in run():
            console.print(f"{study.title}: {time.monotonic() - started:.0f} s")
            found.append(study)
        if share == 1:
            _write(found, seed)
    console.print(bars_table([bar for study in found for bar in study.bars]).markdown())
    if misses := missed(found):
        console.print(f"error: missed: {'; '.join(bar.promise for bar in misses)}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
