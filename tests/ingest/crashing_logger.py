"""A logger that kills itself at a named crash point of its spill.

`python -m tests.ingest.crashing_logger POINT PASSES FOLDER BROKER TOPIC EVENTS`: the point is
passed PASSES times before; EVENTS predictions of 100,000 bytes are sent, called id-0, id-1, ….
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial

from ingest.event_producer import EventProducer, producer_configuration
from ingest.spill import CRASH_POINTS, Spill, SpillSettings
from tests.ingest.test_prediction_logger import NOWHERE

MIB = 1024 * 1024


def main() -> None:
    """Log until the crash point is reached."""
    fatal, passes, folder, broker, topic, count = sys.argv[1:]
    passes_left = int(passes)
    assert fatal in CRASH_POINTS

    def crash_point(name: str) -> None:
        nonlocal passes_left
        if name == fatal:
            if passes_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            passes_left -= 1

    # Where a broker listens nothing is to be given up, however slow the machine is.
    timeout_ms = 1_000 if broker == NOWHERE else 30_000
    overrides = {"message.timeout.ms": timeout_ms, "log_level": 0}
    events = EventProducer(
        topic,
        producer_configuration(broker, overrides=overrides),
        headers=[],
        identify=lambda key, _: key.decode(),
        max_queue_bytes=64 * MIB,
        spill=SpillSettings(folder, 16 * MIB),
        make_spill=partial(Spill, crash_point=crash_point),
    )
    for number in range(int(count)):
        assert events.send(f"id-{number}", b"x" * 100_000, f"id-{number}")
    threading.Event().wait(60)


if __name__ == "__main__":
    main()
