"""A loader that signals itself at a named crash point: `python -m tests.ingest.crashing_loader`.

Arguments: the name of the point, and how often it is passed before; see --help for the rest.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

from driftline.settings import ClickHouseSettings, KafkaSettings
from ingest.batches import BatchLimits
from ingest.loader import CRASH_POINTS, StopWhen
from ingest.open_loader import open_loader
from tests.ingest.conftest import SESSION_SECONDS


def main() -> None:
    """Load, and stop where it is said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("point", choices=[*CRASH_POINTS, "never"])
    parser.add_argument("passes", type=int)
    parser.add_argument("--signal", default="SIGKILL")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--age", type=float, default=1.0)
    parser.add_argument("--session", type=float, default=SESSION_SECONDS)
    parser.add_argument("--request", type=int, default=60)
    parser.add_argument("--once-idle", type=float)
    parser.add_argument("--for-ever", action="store_true")
    chosen = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    passes_left = chosen.passes

    def crash_point(name: str) -> None:
        nonlocal passes_left
        if name == chosen.point:
            if passes_left == 0:
                os.kill(os.getpid(), signal.Signals[chosen.signal])
            passes_left -= 1

    loader = open_loader(
        KafkaSettings.from_environment(),
        ClickHouseSettings.from_environment(),
        session_seconds=chosen.session,
        request_seconds=chosen.request,
        limits=BatchLimits(rows=chosen.rows, age_seconds=chosen.age),
        crash_point=crash_point,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loader.stop())
    is_bounded = not chosen.for_ever
    loader.run(StopWhen(is_bounded and chosen.once_idle is None, chosen.once_idle))


if __name__ == "__main__":
    main()
