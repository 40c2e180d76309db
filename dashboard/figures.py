"""The charts of the page, from rows: pure functions that give Plotly figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from html import escape
from typing import Any

import plotly.graph_objects as go

from dashboard import wording
from dashboard.queries import (
    Bin,
    DriftCell,
    DriftDetail,
    LiveMinute,
    PerformanceWindow,
    QualityWindow,
    ServiceWindow,
)
from dashboard.view import View

INK, MUTED, LINE, UNJUDGED = "#1b2733", "#55626f", "#e3e8ed", "#d5dae0"
# Told apart by people who do not see red or green alike (Okabe and Ito, 2008), darkened for white.
BLUE, ORANGE, PURPLE, BASELINE = "#0b64a0", "#b85c00", "#8a4f7d", "#8d99a6"
# One hue, ever darker: the order is seen without seeing colours.
PSI_COLOURS = ("#fbf7ee", "#f6e3bd", "#eec27d", "#dd9447", "#b9602f", "#86352a", "#521d24")
# Beyond twice the threshold of drift, more is no longer news, and would hide the rest.
PSI_CAP = 0.5
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
EVALUATED = ("ok", "warning", "drift")
_MARKS = {"drift": "●", "warning": "○"}


def _layout(**more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 48, "r": 12, "t": 8, "b": 32},
        "hoverlabel": {
            "bgcolor": "white",
            "bordercolor": LINE,
            "font": {"family": FONT, "size": 12, "color": INK},
            "align": "left",
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "dragmode": False,
        "template": "none",
    }
    return base | more


def _axis(**more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "gridcolor": LINE,
        "linecolor": LINE,
        "zeroline": False,
        "fixedrange": True,
        "tickfont": {"size": 11, "color": MUTED},
    }
    return base | more


def features_in_order(cells: Sequence[DriftCell]) -> list[str]:
    """Give the features, the most drifted first; the model's output comes last."""
    worst: dict[str, tuple[bool, int, int, float]] = {}
    for cell in cells:
        is_output, drifted, warned, psi = worst.get(
            cell.feature_name, (cell.feature_name.startswith("__"), 0, 0, 0.0)
        )
        worst[cell.feature_name] = (
            is_output,
            drifted - (cell.verdict == "drift"),
            warned - (cell.verdict == "warning"),
            min(psi, -(cell.psi or 0.0)),
        )
    return sorted(worst, key=lambda name: (worst[name], name))


def drift_heat_map(
    cells: Sequence[DriftCell], view: View, selected: tuple[str, date] | None
) -> go.Figure:
    """Draw features by windows: PSI as colour up to PSI_CAP, the verdict as a mark.

    A cell without a verdict is grey and says why; a window without a row stays empty. `x` of a
    click is the window's first day (ISO), `y` the feature's name.
    """
    names = features_in_order(cells)[::-1]
    starts = view.window_starts()
    by_place = {(cell.feature_name, cell.window_start.date()): cell for cell in cells}
    grid = [[by_place.get((name, start)) for start in starts] for name in names]
    days = [start.isoformat() for start in starts]

    def matrix(of: Callable[[DriftCell], Any]) -> list[list[Any]]:
        return [[None if cell is None else of(cell) for cell in row] for row in grid]

    hover = [[_cell_text(cell, view) if cell else "" for cell in row] for row in grid]
    figure = go.Figure()
    shared = {"x": days, "y": names, "xgap": 2, "ygap": 2, "hoverinfo": "text", "text": hover}
    figure.add_heatmap(
        z=matrix(lambda cell: None if cell.verdict in EVALUATED else 0),
        colorscale=[[0, UNJUDGED], [1, UNJUDGED]],
        showscale=False,
        hoverongaps=False,
        **shared,
    )
    figure.add_heatmap(
        z=matrix(
            lambda cell: (
                min(cell.psi, PSI_CAP)
                if cell.verdict in EVALUATED and cell.psi is not None
                else None
            )
        ),
        zmin=0,
        zmax=PSI_CAP,
        colorscale=[
            [place / (len(PSI_COLOURS) - 1), colour] for place, colour in enumerate(PSI_COLOURS)
        ],
        colorbar={
            "title": {"text": "PSI", "side": "top"},
            "orientation": "h",
            # Seen first where the map is wider than the screen.
            "x": 0,
            "xanchor": "left",
            "y": 1,
            "yanchor": "bottom",
            "len": 200,
            "lenmode": "pixels",
            "thickness": 9,
            "tickvals": [0, 0.1, 0.25, PSI_CAP],
            "ticktext": ["0", "0.10", "0.25", f"≥{PSI_CAP:.2f}"],
            "tickfont": {"size": 11, "color": MUTED},
            "outlinewidth": 0,
        },
        hoverongaps=False,
        **shared,
    )
    _add_marks(figure, grid, names, days)
    if selected is not None and selected[0] in names and selected[1].isoformat() in days:
        column, row = days.index(selected[1].isoformat()), names.index(selected[0])
        figure.add_shape(
            type="rect",
            x0=column - 0.5,
            x1=column + 0.5,
            y0=row - 0.5,
            y1=row + 0.5,
            line={"color": BLUE, "width": 3},
        )
    ticks = _thinned(starts, 13)
    figure.update_layout(
        _layout(
            height=84 + _row_height(len(names)) * max(len(names), 1),
            margin={"l": 8, "r": 8, "t": 44, "b": 8},
            xaxis=_axis(
                type="category",
                range=[-0.5, len(days) - 0.5],
                tickvals=[start.isoformat() for start in ticks],
                ticktext=[_tick(start, view) for start in ticks],
                tickangle=0,
                showgrid=False,
                automargin=True,
            ),
            yaxis=_axis(
                type="category",
                range=[-0.5, len(names) - 0.5],
                tickvals=names,
                ticktext=[escape(wording.feature(name)) for name in names],
                tickfont={"size": 12, "color": INK},
                showgrid=False,
                automargin=True,
            ),
            showlegend=False,
            hovermode="closest",
        )
    )
    return figure


def _row_height(rows: int) -> int:
    # Few features fill the panel, many stay readable.
    return max(22, min(34, 640 // max(rows, 1)))


def _add_marks(
    figure: go.Figure,
    grid: Sequence[Sequence[DriftCell | None]],
    names: Sequence[str],
    days: Sequence[str],
) -> None:
    marked = [
        (day, name, cell)
        for name, row in zip(names, grid, strict=True)
        for day, cell in zip(days, row, strict=True)
        if cell is not None and cell.verdict in _MARKS
    ]
    figure.add_scatter(
        x=[day for day, _, _ in marked],
        y=[name for _, name, _ in marked],
        mode="text",
        text=[_MARKS[cell.verdict] for _, _, cell in marked],
        textfont={
            "size": 11,
            "color": ["white" if (cell.psi or 0) >= 0.3 else INK for _, _, cell in marked],
        },
        # A click goes to the cell below.
        hoverinfo="skip",
    )


def _cell_text(cell: DriftCell, view: View) -> str:
    lines = [
        f"<b>{escape(wording.feature(cell.feature_name))}</b>",
        wording.window(cell.window_start.date(), view.granularity),
        f"verdict: <b>{wording.verdict(cell.verdict)}</b>",
    ]
    if cell.reason:
        lines.append(escape(wording.reason(cell.reason)))
    if cell.psi is not None:
        lines.append(f"PSI {wording.metric(cell.psi)}")
    if cell.psi_baseline_p95 is not None:
        lines.append(f"usual in the baseline: up to {wording.metric(cell.psi_baseline_p95)}")
    if cell.q_value is not None:
        lines.append(f"q {escape(wording.q_value(cell.q_value))}")
    lines.append(wording.counted(cell.current_count, "row"))
    return "<br>".join(lines)


def bin_names(bins: Sequence[Bin]) -> list[str]:
    """Name the bins of a feature as intervals, values or categories."""
    return [_bin_name(one) for one in bins]


def _bin_name(one: Bin) -> str:
    if one.kind in ("category", "other", "missing", "invalid"):
        return {"other": "other", "missing": "missing", "invalid": "invalid"}.get(
            one.kind, one.category
        )
    lower = None if one.lower is None or one.lower == float("-inf") else one.lower
    upper = None if one.upper is None or one.upper == float("inf") else one.upper
    if one.kind == "point" or (lower is not None and lower == upper):
        return f"= {lower:.6g}"
    if lower is None or upper is None:
        return f"≤ {upper:.6g}" if lower is None else f"> {lower:.6g}"
    return f"{lower:.6g} to {upper:.6g}"


def shares(counts: Sequence[int]) -> list[float]:
    """Give counts as shares of their sum; zeros where there is nothing."""
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def histograms(detail: DriftDetail, bins: Sequence[Bin], most: int = 24) -> go.Figure:
    """Draw the shares of both sides in the bins of the baseline.

    Bins empty on both sides are left out. Of more than `most`, those that contribute most to the
    total variation distance stay, in their order, and the rest are one bar.
    """
    names = bin_names(bins)
    before, after = shares(detail.baseline_bin_counts), shares(detail.current_bin_counts)
    kept = [
        place
        for place in range(min(len(names), len(before), len(after)))
        if before[place] or after[place]
    ]
    rest: list[int] = []
    if len(kept) > most:
        by_difference = sorted(kept, key=lambda place: -abs(after[place] - before[place]))
        rest = by_difference[most - 1 :]
        kept = sorted(set(kept) - set(rest))
    # Numbers in their order; special values such as `= 0` stand before what follows them.
    kept.sort(key=lambda place: _bin_order(bins[place]))
    labels = [names[place] for place in kept]
    first, second = [before[place] for place in kept], [after[place] for place in kept]
    if rest:
        labels.append(f"{len(rest)} more")
        first.append(sum(before[place] for place in rest))
        second.append(sum(after[place] for place in rest))
    places = list(range(len(labels)))
    figure = go.Figure()
    for name, values, colour in (
        ("baseline", first, BASELINE),
        ("this window", second, BLUE),
    ):
        figure.add_bar(
            name=name,
            y=places,
            x=values,
            orientation="h",
            marker={"color": colour},
            customdata=[escape(label) for label in labels],
            hovertemplate="%{customdata}: %{x:.1%}<extra>" + name + "</extra>",
        )
    figure.update_layout(
        _layout(
            height=84 + 22 * max(len(labels), 3),
            margin={"l": 8, "r": 12, "t": 28, "b": 32},
            barmode="group",
            bargap=0.25,
            bargroupgap=0.05,
            xaxis=_axis(tickformat=".0%", rangemode="tozero", nticks=6),
            yaxis=_axis(
                autorange="reversed",
                tickvals=places,
                ticktext=[escape(label[:28]) for label in labels],
                showgrid=False,
                automargin=True,
            ),
        )
    )
    return figure


def _bin_order(one: Bin) -> tuple[bool, float, int]:
    is_special = one.kind in ("other", "missing", "invalid")
    if one.kind == "category" or is_special:
        return is_special, 0.0, one.bin_index
    edge = one.lower if one.lower is not None else float("-inf")
    return False, edge, 0 if one.kind == "point" else 1


def performance_over_time(rows: Sequence[PerformanceWindow], view: View, metric: str) -> go.Figure:
    """Draw `metric` (auc or f1) with its 95 % interval and the baseline's value.

    Final windows are filled dots; provisional ones, which labels may still change, are rings.
    """
    colour = BLUE if metric == "auc" else PURPLE
    figure = go.Figure()
    known = [row for row in rows if getattr(row, metric) is not None]
    baselines = [(row.window_start, getattr(row, f"baseline_{metric}")) for row in rows]
    if any(value is not None for _, value in baselines):
        figure.add_scatter(
            x=[start for start, _ in baselines],
            y=[value for _, value in baselines],
            mode="lines",
            name="baseline",
            line={"color": BASELINE, "width": 1.5, "dash": "dash"},
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[row.window_start for row in rows],
        y=[getattr(row, metric) for row in rows],
        mode="lines",
        line={"color": colour, "width": 1.2},
        opacity=0.55,
        showlegend=False,
        hoverinfo="skip",
    )
    for status, symbol in (("final", "circle"), ("provisional", "circle-open")):
        of_status = [row for row in known if row.status == status]
        if not of_status:
            continue
        figure.add_scatter(
            x=[row.window_start for row in of_status],
            y=[getattr(row, metric) for row in of_status],
            mode="markers",
            name=f"{status}, with 95% interval",
            marker={
                "color": colour,
                "size": 8,
                "symbol": symbol,
                "line": {"width": 1.8, "color": colour},
            },
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [_reach(row, metric, "upper") for row in of_status],
                "arrayminus": [_reach(row, metric, "lower") for row in of_status],
                "color": colour,
                "thickness": 1.3,
                "width": 3,
            },
            text=[_performance_text(row, view, metric) for row in of_status],
            hoverinfo="text",
        )
    figure.update_layout(
        _layout(
            height=270,
            margin={"l": 44, "r": 12, "t": 34, "b": 30},
            xaxis=_time_axis(view),
            yaxis=_axis(tickformat=".2f", nticks=7),
        )
    )
    return figure


def _reach(row: PerformanceWindow, metric: str, side: str) -> float | None:
    bound, value = getattr(row, f"{metric}_{side}"), getattr(row, metric)
    return None if bound is None or value is None else abs(bound - value)


def _performance_text(row: PerformanceWindow, view: View, metric: str) -> str:
    value, baseline = getattr(row, metric), getattr(row, f"baseline_{metric}")
    lower, upper = getattr(row, f"{metric}_lower"), getattr(row, f"{metric}_upper")
    lines = [
        f"<b>{wording.window(row.window_start.date(), view.granularity)}</b>, {row.status}",
        f"{metric.upper()} {wording.metric(value)}",
    ]
    if lower is not None and upper is not None:
        lines[-1] += f" [{wording.metric(lower)}, {wording.metric(upper)}]"
    if baseline is not None:
        beyond = getattr(row, f"is_{metric}_beyond_interval")
        lines.append(
            f"baseline {wording.metric(baseline)} ({wording.signed(value - baseline)}"
            + (", beyond the interval)" if beyond else ", within the interval)")
        )
    lines.append(
        f"{wording.count(row.labeled_count)} of {wording.count(row.prediction_count)} labelled"
    )
    if row.prevalence is not None:
        lines.append(f"positive: {wording.share(row.prevalence)}")
    return "<br>".join(lines)


RATES = (
    ("null_rate", "null", BLUE, "solid"),
    ("missing_rate", "missing", ORANGE, "dash"),
    ("type_mismatch_rate", "wrong type", PURPLE, "dot"),
)


def worst_excess(rows: Sequence[QualityWindow]) -> float:
    """Give by how much a rate of a feature lies above the baseline's in its worst window."""
    return max(
        (
            (getattr(row, rate) or 0.0) - (getattr(row, f"baseline_{rate}") or 0.0)
            for row in rows
            for rate, *_ in RATES
        ),
        default=0.0,
    )


def worst_rate(rows: Sequence[QualityWindow]) -> float:
    """Give the greatest rate of nulls, missing keys or wrong types in any window."""
    return max((getattr(row, rate) or 0.0 for row in rows for rate, *_ in RATES), default=0.0)


def quality_over_time(rows: Sequence[QualityWindow], view: View) -> go.Figure:
    """Draw the rates of one feature, with the baseline's share of nulls as a dashed line."""
    figure = go.Figure()
    starts = [row.window_start for row in rows]
    baseline = [row.baseline_null_rate for row in rows]
    if any(baseline):
        figure.add_scatter(
            x=starts,
            y=baseline,
            mode="lines",
            name="nulls in the baseline",
            line={"color": BASELINE, "width": 1.2, "dash": "dash"},
            hovertemplate="%{y:.1%} null in the baseline<extra></extra>",
        )
    for rate, name, colour, dash in RATES:
        values = [getattr(row, rate) for row in rows]
        if any(values):
            figure.add_scatter(
                x=starts,
                y=values,
                mode="lines+markers" if len(rows) < 3 else "lines",
                name=name,
                line={"color": colour, "width": 1.8, "dash": dash},
                fill="tozeroy" if rate == "null_rate" else None,
                fillcolor="rgba(11,100,160,0.08)",
                text=[
                    f"{wording.window(row.window_start.date(), view.granularity)}<br>"
                    f"{wording.share(getattr(row, rate))} {name} of {wording.count(row.row_count)}"
                    for row in rows
                ],
                hoverinfo="text",
            )
    top = max(worst_rate(rows), *(value or 0.0 for value in baseline)) if rows else 0.0
    figure.update_layout(
        _layout(
            height=118,
            margin={"l": 40, "r": 20, "t": 6, "b": 22},
            showlegend=False,
            hovermode="closest",
            xaxis=_time_axis(view, ticks=3),
            yaxis=_axis(tickformat=".0%", range=[0, max(top * 1.1, 0.01)], nticks=4),
        )
    )
    return figure


_LATENCIES = (
    ("latency_p50_ms", "p50", BLUE, "solid"),
    ("latency_p95_ms", "p95", ORANGE, "solid"),
    ("latency_p99_ms", "p99", PURPLE, "solid"),
)


def latencies(rows: Sequence[ServiceWindow] | Sequence[LiveMinute], view: View | None) -> go.Figure:
    """Draw latency percentiles; by window of `view`, or by minute where that is None."""
    figure = go.Figure()
    unit, factor = wording.latency_unit(
        max((row.latency_p99_ms for row in rows if row.latency_p99_ms is not None), default=None)
    )
    for column, name, colour, dash in _LATENCIES:
        values = [getattr(row, column) for row in rows]
        figure.add_scatter(
            x=[_start_of(row) for row in rows],
            y=[None if value is None else value * factor for value in values],
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 1.6, "dash": dash},
            marker={"size": 5},
            text=[
                f"{_name_of(row, view)}<br>{name} {wording.latency(getattr(row, column))}"
                for row in rows
            ],
            hoverinfo="text",
        )
    figure.update_layout(_service_layout(view, rows, unit))
    return figure


def throughput(
    rows: Sequence[ServiceWindow] | Sequence[LiveMinute], view: View | None
) -> go.Figure:
    """Draw predictions by window of `view`, or by minute where that is None."""
    figure = go.Figure()
    figure.add_bar(
        x=[_start_of(row) for row in rows],
        y=[row.prediction_count for row in rows],
        marker={"color": BLUE, "opacity": 0.8},
        # A single minute is not as wide as the chart.
        width=45_000 if view is None else None,
        text=[
            f"{_name_of(row, view)}<br>{wording.count(row.prediction_count)} predictions"
            for row in rows
        ],
        textposition="none",
        hoverinfo="text",
        name="predictions",
        showlegend=False,
    )
    figure.update_layout(_service_layout(view, rows, ""))
    return figure


def _service_layout(view: View | None, rows: Sequence[Any], unit: str) -> dict[str, Any]:
    x_axis = _time_axis(view, ticks=4) if view else _axis(showgrid=False, nticks=5, type="date")
    if view is None and rows:
        # The hour that the view covers, so that a burst looks like one.
        last = rows[-1].landed_minute.timestamp() * 1000
        x_axis["range"] = [last - 59.5 * 60_000, last + 0.5 * 60_000]
        x_axis["tickformat"] = "%H:%M"
    return _layout(
        height=170,
        margin={"l": 48, "r": 20, "t": 24 if unit else 8, "b": 26},
        bargap=0.15,
        xaxis=x_axis,
        yaxis=_axis(rangemode="tozero", nticks=5, ticksuffix=f" {unit}" if unit else ""),
    )


def _start_of(row: ServiceWindow | LiveMinute) -> datetime:
    return row.landed_minute if isinstance(row, LiveMinute) else row.window_start


def _name_of(row: ServiceWindow | LiveMinute, view: View | None) -> str:
    if view is None:
        return f"{_start_of(row):%H:%M} UTC"
    return wording.window(_start_of(row).date(), view.granularity)


def _time_axis(view: View, ticks: int = 7) -> dict[str, Any]:
    starts = view.window_starts()
    shown = _thinned(starts, ticks)
    return _axis(
        type="date",
        tickvals=[start.isoformat() for start in shown],
        ticktext=[_tick(start, view) for start in shown],
        ticklabeloverflow="allow",
        showgrid=False,
    )


def _tick(start: date, view: View) -> str:
    if view.granularity.value == "month":
        return f"{start:%b}<br>{start:%Y}" if start.month in (1,) else f"{start:%b}"
    return f"{start:%-d %b}"


def _thinned(starts: Sequence[date], most: int) -> list[date]:
    step = -(-len(starts) // most) if starts else 1
    # From the newest: the end of the axis always has its label.
    return list(starts[::-1][::step][::-1])
