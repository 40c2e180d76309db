"""A model server that predicts at a steady rate: `python -m bench.paced_logger RATE SECONDS`.

It logs through PredictionLogger and prints its counters as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time

from bench.messages import MODEL_NAME, MODEL_VERSION, predictions
from ingest.prediction_logger import PredictionLogger

_TICK_SECONDS = 0.01


def main() -> None:
    """Log so many predictions a second for so many seconds, a hundred times a second."""
    rate, seconds = float(sys.argv[1]), float(sys.argv[2])
    prepared = predictions(2_000)
    # Brings an event to 600 bytes.
    metadata = {"request": "r" * 40}
    total, logged = int(rate * seconds), 0
    with PredictionLogger(MODEL_NAME, MODEL_VERSION) as logger:
        started = time.monotonic()
        while logged < total:
            due = min(total, int((time.monotonic() - started) * rate))
            while logged < due:
                prediction = prepared[logged % len(prepared)]
                logger.log(
                    prediction.features,
                    score=prediction.score,
                    latency_ms=prediction.latency_ms,
                    segments=prediction.segments,
                    metadata=metadata,
                )
                logged += 1
            time.sleep(_TICK_SECONDS)
        took = time.monotonic() - started
        logger.flush(30)
        counters = dataclasses.asdict(logger.counters())
    sys.stdout.write(json.dumps({"seconds": took, **counters}) + "\n")


if __name__ == "__main__":
    main()
