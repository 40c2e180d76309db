"""The arguments that a run of Dagster gives to dbt. Pure: no Dagster, no clock, no environment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True)
class EventWindow:
    """Event hours that dbt shall count anew: half-open, [start, end), with a time zone."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(f"the bounds {self.start} and {self.end} need a time zone")
        if self.start >= self.end:
            raise ValueError(f"the window from {self.start} until {self.end} is empty")


def window_of_days(first: str, last: str | None = None) -> EventWindow:
    """Give the window of the daily partitions from `first` until `last` (both included), in UTC.

    Partition keys are ISO dates; `last` None means one day.
    """
    start = datetime.fromisoformat(first).replace(tzinfo=UTC)
    end = datetime.fromisoformat(last or first).replace(tzinfo=UTC) + timedelta(days=1)
    return EventWindow(start, end)


def dbt_arguments(
    window: EventWindow | None = None,
    *,
    as_of: datetime | None = None,
    select: Sequence[str] = (),
    full_refresh: bool = False,
) -> list[str]:
    """Give the arguments of dbt for one run.

    Without `window` the models' own watermarks say what is new; with one, its event hours are
    counted anew as well. `as_of` is the moment that decides which labels count as mature (None:
    the start of the run). `select` are dbt's names of nodes, none meaning all; what is not named
    is not run, not even tests of what is. Raises ValueError for a window in a full refresh, which
    counts every hour anyway.
    """
    if window is not None and full_refresh:
        raise ValueError("a full refresh counts every hour anew: leave out the window, or it")
    # Unit tests try the models' SQL on made-up rows: they say nothing about the data of a run.
    arguments = ["build", "--exclude-resource-type", "unit_test"]
    if select:
        arguments += ["--select", *select, "--indirect-selection", "empty"]
    if full_refresh:
        arguments.append("--full-refresh")
    variables = {}
    if window is not None:
        variables["recompute_from"] = _iso(window.start)
        variables["recompute_until"] = _iso(window.end)
    if as_of is not None:
        variables["as_of"] = _iso(as_of)
    if variables:
        arguments += ["--vars", json.dumps(variables)]
    return arguments


def _iso(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} needs a time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
