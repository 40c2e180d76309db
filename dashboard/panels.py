"""The parts of the page that are words and tables, from rows: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from dash import dcc, html

from dashboard import figures, wording
from dashboard.queries import (
    Bin,
    Breach,
    Breaches,
    DriftCell,
    DriftDetail,
    LiveMinute,
    ModelHealth,
    PerformanceWindow,
    QualityWindow,
    ServiceWindow,
)
from dashboard.rows_statement import rows_statement
from dashboard.view import Choices, Granularity, View
from dashboard.warehouse import Problem

# Charts answer to the pointer only; what they say stands in words and tables as well.
CHART_CONFIG: Any = {"displayModeBar": False, "responsive": True, "doubleClick": False}
_FEATURES_CHARTED = 12
_SHOWN_RATE = 0.0005  # below, every rate is written 0.0%


def labelled(words: str) -> dict[str, Any]:
    """Give what makes a screen reader call a part by `words`."""
    return {"aria-label": words}


def chart(figure: Any, label: str) -> Any:
    """Give a chart with `label` as what a screen reader says of it."""
    return html.Figure(
        dcc.Graph(figure=figure, config=CHART_CONFIG, responsive=True),
        className="chart",
        role="img",
        style={"height": f"{figure.layout.height}px"},
        **labelled(label),
    )


def message(title: str, remedy: str, detail: str = "") -> Any:
    """Give a calm note in the place of what cannot be shown."""
    return html.Div(
        [html.Strong(title), html.P(remedy), html.Small(detail) if detail else None],
        className="message",
    )


def problem(found: Problem) -> Any:
    """Give a problem of the warehouse as a note."""
    return message(found.title, found.remedy, found.detail)


def cards(models: Sequence[ModelHealth], shown_model: str, now: datetime) -> list[Any]:
    """Give a card per model, each a link to the page of that model."""
    return [_card(model, model.model_name == shown_model, now) for model in models]


def _card(model: ModelHealth, is_shown: bool, now: datetime) -> Any:
    state, words = _state(model)
    about = [f"version {model.model_version}" if model.model_version else "no version yet"]
    about += [word for word in (model.task, model.owner) if word]
    if not model.is_configured:
        about.append("not in models.csv")
    return html.Article(
        [
            html.Header(
                [
                    dcc.Link(
                        model.model_name,
                        href=Choices(model=model.model_name).to_search(),
                        className="card-name",
                    ),
                    html.Span(words, className=f"pill {state}"),
                    html.Span(" · ".join(about), className="muted"),
                ]
            ),
            html.Dl(_tiles(model, now)) if model.prediction_count else _no_predictions(model),
        ],
        className="card is-shown" if is_shown else "card",
        **_current(is_shown),
    )


def _current(is_shown: bool) -> dict[str, Any]:
    return {"aria-current": "true"} if is_shown else {}


def _state(model: ModelHealth) -> tuple[str, str]:
    if not model.prediction_count:
        return "quiet", "no data yet"
    if model.open_error_count:
        return "bad", "▲ in breach"
    if model.open_warning_count:
        return "warn", "○ warning"
    return "good", "✓ no open breach"


def _no_predictions(model: ModelHealth) -> Any:
    return message(
        "No predictions yet",
        f"Log them with PredictionLogger({model.model_name!r}, …), run driftline load, then "
        "driftline dbt build.",
    )


def _tiles(model: ModelHealth, now: datetime) -> list[Any]:
    breaches = [
        f"{number} {name}"
        for number, name in (
            (model.open_error_count, "error"),
            (model.open_warning_count, "warn"),
        )
        if number
    ]
    unevaluated = model.unevaluated_rule_count
    drifted = (
        f"{model.drifted_count} of {model.evaluated_count}"
        if model.evaluated_count
        else wording.NOTHING
    )
    if model.drift_window_start is None:
        drift_note = "no closed week yet"
    elif not model.evaluated_count:
        drift_note = f"{_week(model.drift_window_start)}: nothing evaluated"
    else:
        more = f", {model.warning_count} warning" if model.warning_count else ""
        drift_note = _week(model.drift_window_start) + more
    return [
        _tile(
            "Open breaches",
            ", ".join(breaches) or "none",
            f"{unevaluated} rule{'s' * (unevaluated != 1)} not evaluated"
            if unevaluated
            else "all rules evaluated",
            "bad" if model.open_error_count else "warn" if model.open_warning_count else "",
        ),
        _tile("Drifted features", drifted, drift_note, "warn" if model.drifted_count else ""),
        _metric_tile("AUC", model.auc, model.baseline_auc, model.is_auc_beyond_interval),
        _metric_tile("F1", model.f1, model.baseline_f1, model.is_f1_beyond_interval),
        _tile(
            "Labelled",
            wording.share(model.label_coverage),
            _week(model.performance_window_start)
            if model.performance_window_start
            else "no final week yet",
        ),
        _tile(
            "Last prediction",
            wording.ago(model.last_predicted_at, now),
            wording.moment(model.last_predicted_at),
        ),
        _tile(
            "Throughput",
            wording.rate(model.rate_per_second),
            f"{wording.count(model.service_prediction_count)}, {_week(model.service_window_start)}"
            if model.service_window_start
            else "no closed week yet",
        ),
        _tile(
            "Latency p99",
            wording.latency(model.latency_p99_ms),
            f"errors {wording.share(model.error_rate)}",
        ),
    ]


def _week(start: datetime) -> str:
    return f"week of {start:%-d %b}"


def _metric_tile(
    name: str, value: float | None, baseline: float | None, is_beyond: int | None
) -> Any:
    if value is None or baseline is None:
        note = "no final value yet" if value is None else "no baseline"
        return _tile(name, wording.metric(value), note)
    difference = value - baseline
    arrow = ("▲" if difference > 0 else "▼") if is_beyond else "≈"
    state = ("good-text" if difference > 0 else "bad-text") if is_beyond else ""
    return html.Div(
        [
            html.Dt(name),
            html.Dd(wording.metric(value), className="value"),
            html.Dd(
                [
                    html.Span(f"{arrow} {wording.signed(difference)}", className=state),
                    f" vs {wording.metric(baseline)}",
                ],
                className="note",
                title="difference from the baseline; an arrow where it is beyond the 95% interval",
            ),
        ]
    )


def _tile(name: str, value: str, note: str, state: str = "") -> Any:
    return html.Div(
        [
            html.Dt(name),
            html.Dd(value, className=f"value {state}-text" if state else "value"),
            html.Dd(note, className="note"),
        ]
    )


def drift_summary(cells: Sequence[DriftCell], view: View) -> str:
    """Say in words what the heat map shows."""
    counts = {name: sum(cell.verdict == name for cell in cells) for name in ("drift", "warning")}
    unjudged = sum(cell.verdict not in figures.EVALUATED for cell in cells)
    return (
        f"{wording.count(len(cells))} cells: {wording.count(counts['drift'])} drift, "
        f"{wording.count(counts['warning'])} warning, {wording.count(unjudged)} without a verdict. "
        f"{_span(view)}."
    )


def _span(view: View) -> str:
    return f"{wording.day(view.start)} to {wording.day(view.end)}, by {view.granularity}"


def detail(found: tuple[DriftDetail, list[Bin]] | None, view: View) -> Any:
    """Give a cell of the heat map opened: figures, both histograms, the way to its rows."""
    if found is None:
        return message(
            "No such cell",
            "Nothing was compared for this feature in this window. Choose another one.",
        )
    cell, bins = found
    statement = rows_statement(view, cell)
    facts = [
        ("PSI", wording.metric(cell.psi)),
        ("usual", wording.metric(cell.psi_baseline_p95)),
        ("q", wording.q_value(cell.q_value)),
        ("KL", wording.metric(cell.kl_current_baseline)),
        ("KL reverse", wording.metric(cell.kl_baseline_current)),
        ("JS distance", wording.metric(cell.js_distance)),
    ]
    scope = " (of all, the segment has too few)" if cell.baseline_scope == "all" else ""
    if view.segment_key == "all":
        scope = ""
    name, window = wording.feature(cell.feature_name), _cell_window(cell, view)
    has_histogram = bool(bins) and sum(cell.baseline_bin_counts) > 0
    return html.Div(
        [
            html.H3([html.Span(name), html.Small(window)]),
            html.P(
                [
                    html.Span(
                        wording.verdict(cell.verdict), className=f"pill {_tone(cell.verdict)}"
                    ),
                    html.Span(
                        [
                            wording.reason(cell.reason),
                            " · almost no bin in common: the smoothing sets the values"
                            if cell.is_saturated
                            else "",
                        ],
                        className="muted",
                    ),
                ]
            ),
            html.Dl(
                [html.Div([html.Dt(term), html.Dd(value)]) for term, value in facts],
                className="facts",
            ),
            chart(
                figures.histograms(cell, bins),
                f"Histogram of {name}: baseline and {window}",
            )
            if has_histogram
            else message("No histogram", "There is no baseline to compare this feature with."),
            html.P(
                f"{wording.counted(cell.current_count, 'row')} against "
                f"{wording.count(cell.baseline_count)} of the baseline{scope}. "
                "Usual: the 95th percentile of the baseline's own windows.",
                className="muted small",
            ),
            html.Details(
                [
                    html.Summary("SQL that opens these rows"),
                    html.Div(
                        [
                            html.Pre(statement, id="rows-statement", tabIndex=0),
                            dcc.Clipboard(
                                content=statement, title="copy the statement", className="copy"
                            ),
                        ],
                        className="statement",
                    ),
                ],
                open=True,
            ),
        ]
    )


def _cell_window(cell: DriftDetail, view: View) -> str:
    name = wording.window(cell.window_start.date(), view.granularity)
    if view.granularity is Granularity.WEEK:
        return f"{name} to {wording.day(wording.last_day_of(cell.window_end))}"
    return name


def _tone(verdict: str) -> str:
    return {"drift": "bad", "warning": "warn", "ok": "good"}.get(verdict, "quiet")


def performance(rows: Sequence[PerformanceWindow], view: View) -> list[Any]:
    """Give AUC and F1 over time, or say why there is none."""
    if not any(row.auc is not None or row.f1 is not None for row in rows):
        reasons = sorted({part for row in rows for part in row.reason.split(",") if part})
        return [
            message(
                "No performance yet",
                "Labels make it: log them with LabelLogger, or driftline labels import.",
                wording.reason(",".join(reasons)),
            )
        ]
    newest = next((row for row in reversed(rows) if row.status == "final"), None)
    said = "no final window yet"
    if newest is not None:
        auc, f1 = wording.metric(newest.auc), wording.metric(newest.f1)
        said = f"newest final window: AUC {auc}, F1 {f1}"
    return [_performance_of(metric, rows, view, said) for metric in ("auc", "f1")]


def _performance_of(metric: str, rows: Sequence[PerformanceWindow], view: View, said: str) -> Any:
    name = metric.upper()
    if all(getattr(row, metric) is None for row in rows):
        reasons = {part for row in rows for part in row.reason.split(",") if part}
        none = message(
            f"No {name} in these windows",
            "Choose longer windows or a larger segment.",
            wording.reason(",".join(sorted(reasons))),
        )
        return html.Div([html.H3(name), none])
    drawn = figures.performance_over_time(rows, view, metric)
    return html.Div([html.H3(name), chart(drawn, f"{name} over time with 95% intervals; {said}")])


def quality(rows: Sequence[QualityWindow], view: View) -> list[Any]:
    """Give a small chart per feature with nulls, missing keys or wrong types, worst first."""
    if not rows:
        return [message("No rows", "There are no predictions in this segment and time range.")]
    by_feature = {name: list(of) for name, of in groupby(rows, lambda row: row.feature_name)}
    ordered = sorted(
        by_feature,
        key=lambda name: (
            -figures.worst_excess(by_feature[name]),
            -figures.worst_rate(by_feature[name]),
            name,
        ),
    )
    spoiled = [name for name in ordered if figures.worst_rate(by_feature[name]) >= _SHOWN_RATE]
    clean = sorted(set(ordered) - set(spoiled))
    shown, hidden = spoiled[:_FEATURES_CHARTED], spoiled[_FEATURES_CHARTED:]
    parts = [_quality_of(name, by_feature[name], view) for name in shown]
    notes = []
    if hidden:
        notes.append(f"Less bad, not charted: {', '.join(hidden)}.")
    if clean:
        notes.append(f"Complete in every window: {', '.join(clean)}.")
    return [
        html.Div(parts, className="multiples") if parts else None,
        *(html.P(note, className="muted small") for note in notes),
    ]


def _quality_of(name: str, rows: Sequence[QualityWindow], view: View) -> Any:
    worst = max(rows, key=lambda row: max(getattr(row, rate) or 0.0 for rate, *_ in figures.RATES))
    rates = [
        f"{wording.share(getattr(worst, rate))} {word}"
        for rate, word, *_ in figures.RATES
        if (getattr(worst, rate) or 0.0) >= _SHOWN_RATE
    ]
    said = f"worst {', '.join(rates)}"
    return html.Div(
        [
            html.H3([html.Span(name), html.Small(said)]),
            chart(figures.quality_over_time(rows, view), f"{name}: {said}"),
        ]
    )


def service(rows: Sequence[ServiceWindow], view: View) -> list[Any]:
    """Give volume and latencies by window."""
    if not any(row.prediction_count for row in rows):
        return [message("No rows", "There are no predictions in this segment and time range.")]
    total = sum(row.prediction_count for row in rows)
    return [
        html.Div(
            [
                html.H3(
                    ["Predictions", html.Small(f"{wording.count(total)} by {view.granularity}")]
                ),
                chart(figures.throughput(rows, view), f"Predictions by {view.granularity}"),
            ]
        ),
        html.Div(
            [
                html.H3(["Latency", html.Small(f"by {view.granularity}")]),
                chart(figures.latencies(rows, view), f"Latency by {view.granularity}"),
            ]
        ),
    ]


def live_tiles(rows: Sequence[LiveMinute], now: datetime) -> list[Any]:
    """Give the last hour of landed events in figures."""
    if not rows:
        return [
            message(
                "Nothing has landed in the last hour of events",
                "Is driftline load running, and does the model server log?",
            )
        ]
    newest = max(row.last_landed_at for row in rows)
    predictions = sum(row.prediction_count for row in rows)
    rejected, errors = sum(row.rejected_count for row in rows), sum(row.error_count for row in rows)
    last = rows[-1]
    lately = newest - timedelta(minutes=5)
    recent = sum(row.prediction_count for row in rows if row.landed_minute >= lately)
    return [
        html.Dl(
            [
                _tile("Last landed", wording.ago(newest, now), f"{wording.moment(newest)}"),
                _tile(
                    "Last hour",
                    wording.count(predictions),
                    f"{wording.count(recent)} in its last 5 min",
                ),
                _tile(
                    "Rejected",
                    wording.count(rejected),
                    "see fct_rejected_events" if rejected else "every event is valid",
                    "bad" if rejected else "",
                ),
                _tile(
                    "Errors",
                    wording.count(errors),
                    f"{wording.share(errors / predictions)} of predictions" if predictions else "",
                    "bad" if errors else "",
                ),
                _tile(
                    "Latency p50 / p95 / p99",
                    " / ".join(
                        wording.latency(value)
                        for value in (
                            last.latency_p50_ms,
                            last.latency_p95_ms,
                            last.latency_p99_ms,
                        )
                    ),
                    f"in the minute {last.landed_minute:%H:%M}",
                ),
            ]
        )
    ]


def breaches(found: Breaches) -> list[Any]:
    """Give open breaches, rules that could not be evaluated, and the latest resolved ones."""
    parts: list[Any] = []
    if found.open:
        parts.append(_open_table(found))
        if found.open_count > len(found.open):
            parts.append(
                html.P(
                    f"{len(found.open)} of {wording.count(found.open_count)} are shown; "
                    "all are in fct_breaches.",
                    className="muted small",
                )
            )
    else:
        parts.append(
            html.P([html.Span("✓ no rule is in breach", className="pill good")], className="calm")
        )
    if found.not_evaluated:
        parts.append(_unevaluated_table(found.not_evaluated))
    if found.resolved:
        parts.append(
            html.Details(
                [
                    html.Summary(
                        f"Resolved: {wording.count(found.resolved_count)}"
                        + (
                            f", the latest {len(found.resolved)} here"
                            if found.resolved_count > len(found.resolved)
                            else ""
                        )
                    ),
                    _past_table(found.resolved, "Resolved breaches, the newest first"),
                ]
            )
        )
    for name, explanation, rows in (
        ("Retracted", "found no more after late data or a change of the rule", found.retracted),
        ("Muted", "these breach while mutes.csv silences their rule", found.muted),
    ):
        if rows:
            parts.append(
                html.Details(
                    [
                        html.Summary(f"{name}: {wording.count(len(rows))}, {explanation}"),
                        _past_table(rows, f"{name} breaches, the newest first"),
                    ]
                )
            )
    return parts


def _severity(breach: Breach) -> Any:
    is_error = breach.severity == "error"
    return html.Span(
        ("▲ " if is_error else "○ ") + breach.severity,
        className=f"pill {'bad' if is_error else 'warn'}",
    )


def _rule(breach: Breach) -> str:
    windows = (
        f", {breach.windows_breaching} of {breach.windows_considered} {breach.granularity}s"
        if breach.windows_considered > 1
        else f", by {breach.granularity}"
    )
    return f"{breach.metric} {breach.comparator} {wording.figure(breach.threshold)}{windows}"


def _silence(breach: Breach) -> str:
    """Say that an open incident does not alarm now, where it is so."""
    if breach.muted_until is None:
        return ""
    return f" (muted until {wording.moment(breach.muted_until)})"


def _where(breach: Breach) -> str:
    places = [wording.segment(breach.segment_key, breach.segment_value)]
    if breach.feature_name:
        places.insert(0, wording.feature(breach.feature_name))
    return ", ".join(places)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> Any:
    return html.Div(
        html.Table(
            [
                html.Caption(caption),
                html.Thead(html.Tr([html.Th(head, scope="col") for head in heads])),
                html.Tbody([html.Tr([html.Td(cell) for cell in row]) for row in rows]),
            ]
        ),
        className="table",
        tabIndex=0,
        role="region",
        **labelled(caption),
    )


def _open_table(found: Breaches) -> Any:
    return _table(
        [
            "severity",
            "rule",
            "breaches when",
            "where",
            "version",
            "since",
            "windows",
            "worst",
            "last",
            "runbook",
        ],
        [
            [
                _severity(breach),
                f"{breach.monitor_name}{_silence(breach)}",
                _rule(breach),
                _where(breach),
                breach.model_version,
                wording.moment(breach.opened_at),
                wording.count(breach.breaching_window_count),
                wording.figure(breach.worst_value),
                wording.figure(breach.last_value),
                _runbook(found.runbook_url),
            ]
            for breach in found.open
        ],
        "Open breaches",
    )


def _runbook(url: str) -> Any:
    # Only what is certainly a page: a javascript: link would run here.
    if url.startswith(("https://", "http://")):
        return html.A("open", href=url, target="_blank", rel="noopener noreferrer")
    return url or wording.NOTHING


def _unevaluated_table(found: Sequence[Breach]) -> Any:
    return _table(
        ["severity", "rule", "breaches when", "where", "why it was not evaluated"],
        [
            [
                _severity(breach),
                breach.monitor_name,
                _rule(breach),
                breach.feature_name or breach.segment_key,
                wording.reason(breach.reason),
            ]
            for breach in found
        ],
        "Rules not evaluated",
    )


def _past_table(found: Sequence[Breach], caption: str) -> Any:
    return _table(
        [
            "severity",
            "rule",
            "breaches when",
            "where",
            "since",
            "until",
            "windows",
            "worst",
            "reason",
        ],
        [
            [
                _severity(breach),
                breach.monitor_name,
                _rule(breach),
                _where(breach),
                wording.moment(breach.opened_at),
                wording.moment(breach.resolved_at or breach.retracted_at or breach.muted_until),
                wording.count(breach.breaching_window_count),
                wording.figure(breach.worst_value),
                wording.reason(breach.reason),
            ]
            for breach in found
        ],
        caption,
    )
