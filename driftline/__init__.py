"""driftline: a model-monitoring warehouse.

A model server needs one name only: ``from driftline import PredictionLogger``. Where the truth
becomes known, ``from driftline import LabelLogger``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.label_logger import LabelLogger
    from ingest.prediction_logger import PredictionLogger

__all__ = ["LabelLogger", "PredictionLogger"]


def __getattr__(name: str) -> Any:
    # Lazy, so that the command line does not load a Kafka client to print its help.
    if name == "PredictionLogger":
        from ingest.prediction_logger import PredictionLogger

        return PredictionLogger
    if name == "LabelLogger":
        from ingest.label_logger import LabelLogger

        return LabelLogger
    raise AttributeError(f"module 'driftline' has no attribute {name!r}")
