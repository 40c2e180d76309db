"""The page as it stands before the first row has come: sections, choices, timers."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from dashboard.panels import CHART_CONFIG, labelled
from dashboard.view import Granularity

# The icon is part of the page: a request less, and nothing from outside.
INDEX = """<!DOCTYPE html>
<html lang="en">
    <head>
        {%metas%}
        <title>{%title%}</title>
        <link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'\
 viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='3' fill='%230b64a0'/%3E%3Cpath\
 d='M2 11c3 0 3-5 6-5s3 3 6-2' fill='none' stroke='white' stroke-width='2'/%3E%3C/svg%3E">
        {%css%}
    </head>
    <body>
        {%app_entry%}
        <footer>
            {%config%}
            {%scripts%}
            {%renderer%}
        </footer>
    </body>
</html>"""


def layout(live_seconds: float, check_seconds: float) -> Any:
    """Give the page; it asks for what landed and for new runs at these intervals."""
    return html.Div(
        [
            dcc.Location(id="address", refresh=False),
            dcc.Store(id="view"),
            dcc.Store(id="cell"),
            dcc.Store(id="stamp"),
            dcc.Interval(id="check", interval=check_seconds * 1000),
            dcc.Interval(id="live-timer", interval=live_seconds * 1000),
            html.Header(
                [
                    html.H1("driftline"),
                    html.P("model monitoring", className="muted"),
                    html.P(id="as-of", className="muted", role="status"),
                ],
                className="top",
            ),
            html.Div(id="problem", role="alert"),
            html.Main(_sections(), id="page", className="is-empty"),
        ],
        className="all",
    )


def _sections() -> list[Any]:
    return [
        html.Section(id="cards", className="cards", **labelled("Health of each model")),
        _controls(),
        _section(
            "Breaches",
            "rules of monitors.csv, every segment of the model",
            html.Div(id="breaches"),
        ),
        html.Div(
            [
                _section(
                    "Drift from the baseline",
                    "",
                    html.Div(id="drift-note", className="muted small"),
                    html.Div(id="drift-message"),
                    html.Div(
                        dcc.Graph(
                            id="heat-map",
                            config=CHART_CONFIG,
                            responsive=True,
                            figure={"layout": {"height": 300}},
                        ),
                        id="heat-map-frame",
                        className="scrolls",
                        role="group",
                        **labelled("Heat map of PSI; the choices beside it open a cell too"),
                    ),
                    _legend(),
                ),
                _section(
                    "One feature, one window",
                    "click on a cell, or choose",
                    html.Div(
                        [
                            _choice("Feature", "feature", searchable=True),
                            _choice("Window", "window", searchable=True),
                        ],
                        className="pair",
                    ),
                    html.Div(id="detail"),
                ),
            ],
            className="columns drift",
        ),
        _section(
            "Performance",
            "by time of prediction; rings are provisional: labels may still change them",
            html.Div(id="performance", className="halves"),
        ),
        html.Div(
            [
                _section(
                    "Service, live",
                    "the last hour of events that landed, by minute; every segment",
                    html.Div(id="live-tiles", className="tiles"),
                    html.Div(
                        [
                            html.Div([html.H3("Predictions a minute"), _live_graph("throughput")]),
                            html.Div([html.H3("Latency"), _live_graph("latency")]),
                        ],
                        id="live-charts",
                        className="halves",
                    ),
                ),
                _section(
                    "Service, by window",
                    "",
                    html.Div(id="service", className="halves"),
                ),
            ],
            className="columns even",
        ),
        _section(
            "Nulls, missing keys and wrong types",
            "the largest rise over the baseline first; dashed grey: nulls in the baseline",
            html.Div(id="quality"),
        ),
    ]


def _section(title: str, note: str, *parts: Any) -> Any:
    return html.Section([html.H2([html.Span(title), html.Small(note)]), *parts], className="panel")


def _choice(label: str, name: str, searchable: bool = False) -> Any:
    identity = f"choose-{name}"
    return html.Div(
        [
            html.Label(label, htmlFor=identity, id=f"{identity}-label"),
            dcc.Dropdown(
                id=identity,
                options=[],
                clearable=False,
                searchable=searchable,
                placeholder=f"no {label.lower()}",
            ),
        ],
        className="choice",
    )


def _controls() -> Any:
    return html.Section(
        [
            _choice("Model", "model", searchable=True),
            _choice("Version", "version"),
            _choice("Segments by", "segment"),
            _choice("Segment", "value", searchable=True),
            html.Fieldset(
                [
                    html.Legend("Windows"),
                    dcc.RadioItems(
                        id="choose-by",
                        options=[{"label": one.value, "value": one.value} for one in Granularity],
                        value=Granularity.WEEK.value,
                        inline=True,
                        className="segmented",
                    ),
                ],
                className="choice",
            ),
            html.Div(
                [
                    html.Label("Days (UTC)", htmlFor="choose-start"),
                    dcc.DatePickerRange(
                        id="choose-days",
                        start_date_id="choose-start",
                        end_date_id="choose-end",
                        display_format="D MMM YYYY",
                        first_day_of_week=1,
                        minimum_nights=0,
                        updatemode="bothdates",
                        clearable=True,
                    ),
                ],
                className="choice days",
            ),
        ],
        className="controls panel",
        **labelled("What is shown"),
    )


def _legend() -> Any:
    return html.P(
        [
            html.Span("● drift", className="key"),
            html.Span("○ warning", className="key"),
            html.Span(
                [html.I(className="swatch unjudged"), "no verdict, the reason on hover"],
                className="key",
            ),
            html.Span([html.I(className="swatch"), "no row"], className="key"),
            html.Span(
                "a dark cell without a mark is usual for the baseline, or noise", className="key"
            ),
        ],
        className="legend muted small",
    )


def _live_graph(name: str) -> Any:
    return html.Div(
        dcc.Graph(
            id=f"live-{name}",
            config=CHART_CONFIG,
            responsive=True,
            figure={"layout": {"height": 170}},
        ),
        className="chart",
        style={"height": "170px"},
        role="img",
        **labelled(f"Live {name}, by minute; the figures above say the same"),
    )
