"""How often the figures of a model are worth computing: as often as its labels come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

SHORTEST = timedelta(hours=1)
LONGEST = timedelta(hours=24)
# A run begins some moments after its tick: without this, the tick of its next turn comes too early.
_START_TOLERANCE = timedelta(minutes=30)


def cadence(label_lag_seconds: float | None) -> timedelta:
    """Give the time between two runs for a model whose labels come so late.

    `label_lag_seconds` is the 95th percentile from prediction to label. Running more often than
    labels come would judge the same labels again. Whole hours, because ticks are hourly, rounded
    down, between one hour and a day. Without labels (None) a day: drift and data quality alone
    are judged by days and wider.
    """
    if label_lag_seconds is None:
        return LONGEST
    hours = timedelta(hours=label_lag_seconds // 3600)
    return min(max(hours, SHORTEST), LONGEST)


@dataclass(frozen=True)
class Turn:
    """Whether a model's turn has come at a tick, and the numbers that say so."""

    is_due: bool
    reason: str


def turn(
    now: datetime, last_started: datetime | None, label_lag_seconds: float | None, windows: int
) -> Turn:
    """Decide at a tick whether a run is due for a model.

    `last_started` is the start of the last run of the warehouse, None before the first;
    `windows` is how many days the lag was observed in.
    """
    every = cadence(label_lag_seconds)
    if label_lag_seconds is None:
        observed = "no labels yet"
    else:
        hours = label_lag_seconds / 3600
        observed = f"95 % of labels come within {hours:.1f} h (over {windows} days)"
    wanted = f"{observed}: every {every / timedelta(hours=1):.0f} h"
    if last_started is None:
        return Turn(True, f"{wanted}; the warehouse has not run before")
    ago = now - last_started
    since = f"the last run began {ago / timedelta(hours=1):.1f} h ago"
    return Turn(ago >= every - _START_TOLERANCE, f"{wanted}; {since}")
