"""The drift alarms of others on data of the same kind, each in an environment of its own."""

from __future__ import annotations

import sys

from bench.calibration.evidently_alarms import BASELINE_ROWS, COLUMNS, SHIFTED, WINDOW_ROWS
from bench.findings import Study, Table
from bench.peer_environment import PeerFailedError, peer_python, run_peer

_EVIDENTLY = ("evidently==0.7.23", "pandas<3")


def drift_of_peers(seed: int) -> list[Study]:
    """Give what Evidently alarms; nothing where it cannot be installed or does not end in time."""
    python = peer_python("evidently", _EVIDENTLY)
    if python is None:
        return []
    try:
        found = run_peer(python, "bench.calibration.evidently_alarms", str(seed))
    except PeerFailedError as error:
        sys.stderr.write(f"Evidently is left out: {error}\n")
        return []
    return [
        Study(
            title="Beside it: Evidently",
            method=(
                f"{_EVIDENTLY[0]}, {COLUMNS} normal columns and a baseline of {BASELINE_ROWS:,} "
                f"rows; {SHIFTED} columns are shifted by half a standard deviation. Share of the "
                "others that it calls drifted, and in brackets of the shifted ones."
            ),
            tables=[
                Table(
                    ("rows in the window", *(f"{rows:,}" for rows in WINDOW_ROWS)),
                    [
                        (
                            method,
                            *(
                                "{:.1%} ({:.0%})".format(*of_rows[str(rows)])
                                for rows in WINDOW_ROWS
                            ),
                        )
                        for method, of_rows in found.items()
                    ],
                )
            ],
        )
    ]
