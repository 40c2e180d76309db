"""Days of events, for recomputing them by hand: their bounds reach dbt as variables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import dagster as dg

from driftline.settings import SettingsError

_DEFAULT_FIRST_DAY = "2024-01-01"


def event_days(environment: Mapping[str, str]) -> dg.DailyPartitionsDefinition:
    """Give the days from DRIFTLINE_FIRST_DAY (default 2024-01-01) until today, in UTC."""
    first = environment.get("DRIFTLINE_FIRST_DAY") or _DEFAULT_FIRST_DAY
    try:
        date.fromisoformat(first)
    except ValueError:
        raise SettingsError(
            f"DRIFTLINE_FIRST_DAY={first!r} is not a date like 2024-01-01"
        ) from None
    # Today's events are there to be recomputed before the day is over.
    return dg.DailyPartitionsDefinition(start_date=first, timezone="UTC", end_offset=1)
