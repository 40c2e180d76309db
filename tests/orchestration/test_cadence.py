"""How often a model's turn comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.cadence import cadence, turn

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("lag_hours", "hours"),
    [(0, 1), (0.5, 1), (1, 1), (5, 5), (10.28, 10), (23.99, 23), (24, 24), (24 * 30, 24)],
)
def test_cadence_is_the_label_lag_in_whole_hours_within_a_day(lag_hours: float, hours: int) -> None:
    assert cadence(lag_hours * 3600) == timedelta(hours=hours)


def test_cadence_is_a_day_without_labels() -> None:
    assert cadence(None) == timedelta(hours=24)


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_cadence_never_shrinks_as_labels_come_later(one: float, other: float) -> None:
    assert cadence(min(one, other)) <= cadence(max(one, other))
    assert timedelta(hours=1) <= cadence(one) <= timedelta(hours=24)


def test_first_turn_comes_at_once() -> None:
    found = turn(NOW, None, None, 0)
    assert found.is_due
    assert found.reason == "no labels yet: every 24 h; the warehouse has not run before"


@pytest.mark.parametrize(("minutes_ago", "is_due"), [(0, False), (240, False), (299, True)])
def test_turn_comes_at_the_tick_of_its_hour(minutes_ago: int, is_due: bool) -> None:
    # The last run began a minute after its tick, so at the fifth tick it is 299 minutes old.
    found = turn(NOW, NOW - timedelta(minutes=minutes_ago), 5.2 * 3600, 7)
    assert found.is_due is is_due
    assert found.reason.startswith("95 % of labels come within 5.2 h (over 7 days): every 5 h; ")
    assert f"the last run began {minutes_ago / 60:.1f} h ago" in found.reason
