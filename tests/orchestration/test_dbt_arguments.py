"""What a run of Dagster says to dbt."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.dbt_arguments import EventWindow, dbt_arguments, window_of_days

EVERYTHING = ["build", "--exclude-resource-type", "unit_test"]


def variables(arguments: list[str]) -> dict[str, str]:
    found: dict[str, str] = json.loads(arguments[arguments.index("--vars") + 1])
    return found


def test_run_without_window_leaves_it_to_the_watermarks() -> None:
    assert dbt_arguments() == EVERYTHING


def test_window_reaches_dbt_as_half_open_bounds_in_utc() -> None:
    assert variables(dbt_arguments(window_of_days("2026-03-28", "2026-03-30"))) == {
        "recompute_from": "2026-03-28T00:00:00Z",
        "recompute_until": "2026-03-31T00:00:00Z",
    }


def test_bounds_of_another_zone_are_the_same_moments() -> None:
    zone = timezone(timedelta(hours=2))
    window = EventWindow(datetime(2026, 1, 1, 1, tzinfo=zone), datetime(2026, 1, 1, 5, tzinfo=zone))
    assert variables(dbt_arguments(window)) == {
        "recompute_from": "2025-12-31T23:00:00Z",
        "recompute_until": "2026-01-01T03:00:00Z",
    }


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_days_follow_one_another_without_gap_or_overlap(day: date) -> None:
    first = window_of_days(str(day))
    following = window_of_days(f"{first.end:%Y-%m-%d}")
    assert first.end - first.start == timedelta(days=1)
    assert following.start == first.end


def test_selection_runs_what_is_named_and_no_test_besides() -> None:
    assert dbt_arguments(select=["fqn:driftline.marts.fct_breaches"]) == [
        *EVERYTHING,
        *("--select", "fqn:driftline.marts.fct_breaches", "--indirect-selection", "empty"),
    ]


def test_as_of_reaches_dbt() -> None:
    as_of = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert variables(dbt_arguments(as_of=as_of)) == {"as_of": "2026-05-01T12:00:00Z"}


def test_full_refresh_is_asked_for() -> None:
    assert dbt_arguments(full_refresh=True) == [*EVERYTHING, "--full-refresh"]


def test_full_refresh_of_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="counts every hour anew"):
        dbt_arguments(window_of_days("2026-03-28"), full_refresh=True)


def test_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty"):
        window_of_days("2026-03-28", "2026-03-27")


def test_moment_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        EventWindow(datetime(2026, 1, 1), datetime(2026, 1, 2))  # noqa: DTZ001
    with pytest.raises(ValueError, match="time zone"):
        dbt_arguments(as_of=datetime(2026, 1, 1))  # noqa: DTZ001
