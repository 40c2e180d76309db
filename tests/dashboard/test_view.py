from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from dashboard.view import Choices, Granularity, ModelSpan, View, chosen_version, resolved

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)
SPAN = ModelSpan("shop", "1", True, date(2025, 1, 8), date(2026, 3, 17))
SEGMENTS = [("all", "all"), ("channel", "web"), ("channel", "a&b=c|d")]


def test_link_says_the_same_as_the_choices_it_was_made_of() -> None:
    chosen = Choices(model="a b", segment="channel", value="a&b=c|d", by="day", feature="ü?")
    assert Choices.from_search(chosen.to_search()) == chosen
    assert Choices().to_search() == ""


def test_link_with_unknown_names_is_read_without_them() -> None:
    assert Choices.from_search("?model=shop&theme=dark&model_version=2") == Choices(model="shop")


def test_view_without_choices_is_the_newest_weeks_of_everyone() -> None:
    view = resolved(Choices(), SPAN, SEGMENTS, NOW)
    assert (view.segment_key, view.segment_value) == ("all", "all")
    assert (view.start, view.end) == (date(2025, 9, 22), date(2026, 3, 17))
    assert view.start.weekday() == 0
    starts = view.window_starts()
    assert (len(starts), starts[0], starts[-1]) == (26, view.start, date(2026, 3, 16))
    assert view.mart("feature_drift") == "fct_feature_drift_weekly"


def test_view_of_a_young_model_begins_with_its_first_prediction() -> None:
    young = ModelSpan("shop", "1", True, date(2026, 3, 4), date(2026, 3, 17))
    assert resolved(Choices(), young, SEGMENTS, NOW).start == date(2026, 3, 2)


def test_view_of_a_silent_model_ends_today() -> None:
    silent = ModelSpan("shop", "1", True, None, None)
    assert resolved(Choices(), silent, [], NOW).end == NOW.date()


@pytest.mark.parametrize(
    ("by", "start", "windows"), [("day", "2025-11-18", 120), ("month", "2021-04-01", 60)]
)
def test_range_too_long_loses_its_oldest_windows(by: str, start: str, windows: int) -> None:
    view = resolved(Choices(by=by, start="2000-01-01", end="2026-03-17"), SPAN, SEGMENTS, NOW)
    assert view.start.isoformat() == start
    assert len(view.window_starts()) == windows


def test_chosen_days_are_widened_to_whole_windows() -> None:
    view = resolved(Choices(start="2026-02-04", end="2026-02-11"), SPAN, SEGMENTS, NOW)
    assert view.window_starts() == [date(2026, 2, 2), date(2026, 2, 9)]
    assert view.parameters()["start"] == "2026-02-02 00:00:00"
    assert view.parameters()["end"] == "2026-02-12 00:00:00"


@pytest.mark.parametrize(
    "nonsense",
    [
        Choices(by="fortnight", start="yesterday", end="9999-12-31"),
        Choices(start="2026-13-01", end="0001-01-01"),
        Choices(segment="nobody", value="x"),
    ],
)
def test_nonsense_in_a_link_gives_way_to_what_there_is(nonsense: Choices) -> None:
    assert resolved(nonsense, SPAN, SEGMENTS, NOW) == resolved(Choices(), SPAN, SEGMENTS, NOW)


def test_end_before_start_shows_the_window_of_the_end() -> None:
    view = resolved(Choices(start="2026-03-10", end="2026-02-04"), SPAN, SEGMENTS, NOW)
    assert view.window_starts() == [date(2026, 2, 2)]


def test_value_of_another_segment_set_gives_way_to_the_largest_of_the_chosen_one() -> None:
    view = resolved(Choices(segment="channel", value="EWR"), SPAN, SEGMENTS, NOW)
    assert (view.segment_key, view.segment_value) == ("channel", "web")


def test_months_are_counted_across_years() -> None:
    assert Granularity.MONTH.earlier(date(2026, 2, 1), 3) == date(2025, 11, 1)
    assert Granularity.MONTH.earlier(date(2026, 1, 1), 12) == date(2025, 1, 1)


def test_version_is_the_chosen_one_else_the_active_one() -> None:
    older = ModelSpan("shop", "0", False, None, None)
    newer = ModelSpan("shop", "2", False, None, None)
    other = ModelSpan("idle", "9", False, None, None)
    spans = [other, older, SPAN, newer]
    assert chosen_version(Choices(model="shop"), spans) == SPAN
    assert chosen_version(Choices(model="shop", version="0"), spans) == older
    assert chosen_version(Choices(model="shop", version="gone"), spans) == SPAN
    # Another model, and one that has predictions.
    assert chosen_version(Choices(model="gone"), spans) == SPAN
    assert chosen_version(Choices(), [other]) == other
    assert chosen_version(Choices(), []) is None


def test_view_survives_the_browser() -> None:
    view = resolved(Choices(by="month"), SPAN, SEGMENTS, NOW)
    assert View.from_dict(view.to_dict()) == view
