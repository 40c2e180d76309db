from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from dashboard import figures
from dashboard.queries import Bin, DriftCell, DriftDetail, PerformanceWindow, QualityWindow
from dashboard.view import Granularity, View

MONDAYS = [datetime(2026, 3, day, tzinfo=UTC) for day in (2, 9, 16)]
VIEW = View("shop", "1", "all", "all", Granularity.WEEK, date(2026, 3, 2), date(2026, 3, 18))


def cell(
    feature: str, week: int, psi: float | None, verdict: str = "ok", reason: str = ""
) -> DriftCell:
    start = MONDAYS[week]
    return DriftCell(
        feature, start, start + timedelta(days=7), psi, 0.01, 0.1, 400, verdict, reason
    )


def test_heat_map_puts_the_most_drifted_feature_on_top_and_outputs_below() -> None:
    cells = [
        cell("calm", 0, 0.9),
        cell("__score__", 0, 3.0, "drift"),
        cell("moving", 0, 0.3, "drift"),
        cell("wavering", 0, 0.15, "warning"),
    ]
    assert figures.features_in_order(cells) == ["moving", "wavering", "calm", "__score__"]
    # Plotly draws its first row lowest.
    assert figures.drift_heat_map(cells, VIEW, None).data[1].y[-1] == "moving"


def test_heat_map_caps_the_colour_but_not_what_it_says() -> None:
    figure = figures.drift_heat_map([cell("age", 1, 8.62, "drift")], VIEW, None)
    judged = figure.data[1]
    assert judged.z[0] == [None, figures.PSI_CAP, None]
    assert judged.zmax == figures.PSI_CAP
    assert "PSI 8.620" in judged.text[0][1]
    assert "drift" in judged.text[0][1]


def test_cell_without_verdict_is_grey_with_its_reason_and_never_coloured() -> None:
    unjudged = cell("age", 2, 4.4, "not_evaluated", "window_open")
    grey, judged, marks = figures.drift_heat_map([unjudged], VIEW, None).data
    assert grey.z[0] == [None, None, 0]
    assert judged.z[0] == [None, None, None]
    assert "the window is not closed yet" in grey.text[0][2]
    assert len(marks.x) == 0


def test_heat_map_marks_verdicts_and_not_high_values() -> None:
    cells = [cell("a", 0, 0.9), cell("a", 1, 0.3, "drift"), cell("a", 2, 0.2, "warning")]
    marks = figures.drift_heat_map(cells, VIEW, None).data[2]
    assert list(marks.x) == ["2026-03-09", "2026-03-16"]
    assert list(marks.text) == ["●", "○"]


def test_names_of_features_are_no_markup() -> None:
    name = "<img src=x>"
    figure = figures.drift_heat_map([cell(name, 0, 0.1)], VIEW, None)
    assert "&lt;img" in figure.data[1].text[0][0]
    assert figure.layout.yaxis.ticktext == ("&lt;img src=x&gt;",)


def test_chosen_cell_is_framed_and_one_out_of_sight_is_not() -> None:
    cells = [cell("a", 0, 0.1), cell("b", 0, 0.2)]
    framed = figures.drift_heat_map(cells, VIEW, ("a", date(2026, 3, 9))).layout.shapes
    assert (framed[0].x0, framed[0].x1, framed[0].y0, framed[0].y1) == (0.5, 1.5, -0.5, 0.5)
    assert not figures.drift_heat_map(cells, VIEW, ("a", date(2025, 3, 9))).layout.shapes


def detail(before: Sequence[int], after: Sequence[int]) -> DriftDetail:
    return DriftDetail(
        "b", "age", "numeric", MONDAYS[0], MONDAYS[1], "segment", sum(before), sum(after), 0.1, 0.1,
        0.1, 0.1, 0.1, 0.1, "ok", "", 0, before, after,
    )  # fmt: skip


def interval(index: int, lower: float | None, upper: float | None, kind: str = "interval") -> Bin:
    return Bin(index, kind, lower, upper, "")


def test_histogram_gives_shares_and_leaves_out_what_both_sides_lack() -> None:
    bins = [interval(0, None, 1.0), interval(1, 1.0, 2.0), interval(2, 2.0, None)]
    before, after = figures.histograms(detail([3, 0, 1], [1, 0, 1]), bins).data
    assert list(before.customdata) == ["≤ 1", "&gt; 2"]
    assert list(before.x) == [0.75, 0.25]
    assert list(after.x) == [0.5, 0.5]


def test_histogram_puts_a_single_value_where_it_belongs() -> None:
    bins = [
        interval(0, None, 0.5),
        interval(1, 0.5, None),
        interval(2, 0.7, 0.7, "point"),
        Bin(3, "missing", None, None, "__missing__"),
    ]
    before, _ = figures.histograms(detail([1, 1, 1, 1], [1, 1, 1, 1]), bins).data
    assert list(before.customdata) == ["≤ 0.5", "&gt; 0.5", "= 0.7", "missing"]


def test_histogram_of_many_categories_pools_those_that_differ_least() -> None:
    bins = [Bin(index, "category", None, None, f"c{index}") for index in range(60)]
    before = [10] * 60
    after = [10] * 59 + [600]
    drawn = figures.histograms(detail(before, after), bins, most=24)
    assert len(drawn.data[0].x) == 24
    assert drawn.data[0].customdata[-1] == "37 more"
    assert "c59" in drawn.data[0].customdata
    for side in drawn.data:
        assert sum(side.x) == pytest.approx(1)


def performance(week: int, status: str, auc: float | None) -> PerformanceWindow:
    lower = None if auc is None else auc - 0.02
    upper = None if auc is None else auc + 0.03
    return PerformanceWindow(
        MONDAYS[week], MONDAYS[week] + timedelta(days=7), status, 10, 9, 0.9, 0.2,
        auc, lower, upper, 0.8, 0, auc, lower, upper, 0.8, 0, "",
    )  # fmt: skip


def test_performance_draws_provisional_windows_as_rings() -> None:
    rows = [performance(0, "final", 0.7), performance(1, "final", None),
            performance(2, "provisional", 0.75)]  # fmt: skip
    baseline, line, final, provisional = figures.performance_over_time(rows, VIEW, "auc").data
    assert set(baseline.y) == {0.8}
    # A window without a value is a gap, not a bridge.
    assert list(line.y) == [0.7, None, 0.75]
    assert (final.marker.symbol, list(final.y)) == ("circle", [0.7])
    assert (provisional.marker.symbol, list(provisional.y)) == ("circle-open", [0.75])
    assert final.error_y.array[0] == pytest.approx(0.03)
    assert final.error_y.arrayminus[0] == pytest.approx(0.02)


def test_worst_excess_is_over_the_baseline() -> None:
    def row(null_rate: float, baseline: float) -> QualityWindow:
        return QualityWindow("gust", MONDAYS[0], 10, null_rate, 0.0, None, baseline, None, None)

    assert figures.worst_excess([row(0.9, 0.8)]) == pytest.approx(0.1)
    assert figures.worst_excess([row(0.3, 0.0), row(0.1, 0.0)]) == pytest.approx(0.3)
