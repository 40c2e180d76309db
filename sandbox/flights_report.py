"""The report of the demo, laid out for a console (or a file, where there is none)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sandbox.flights_marts import Findings, Row

_VERDICTS = {
    "drift": "bold red",
    "warning": "yellow",
    "ok": "green",
    "insufficient_data": "",
    "not_evaluated": "",
}
_FEWEST_PREDICTIONS = 300
_BREACHES_SHOWN = 12
_SEVERITY_STYLES = {"error": "bold red", "warn": "yellow"}


def print_report(
    found: Findings, console: Console, published: Mapping[str, Any] | None = None
) -> None:
    """Print the whole report; `published` is what the publication said of itself."""
    console.print(_overview(found))
    console.print(_months(found))
    _note(
        console,
        "In brackets the 95 % interval; ▼ all of it below the baseline, ▲ above. The scores of the "
        "baseline are out of fold, by week. Months of 2013, by the time of prediction in UTC; the "
        "warehouse's own calendar months are in fct_model_performance_monthly.",
    )
    console.print(_drift(found.feature_drift, "Worst week of each input, all flights"))
    console.print(_drift(found.segment_drift, "Worst week of an input within segments"))
    _note(
        console,
        "Against January to March. Usual: what 95 % of the baseline's own weeks stay below, as "
        "weeks differ without any drift. KL: of the week from the baseline, then the reverse, in "
        "nats. q: the p-value after Benjamini-Hochberg over all comparisons of the week.",
    )
    console.print(_breaches(found))
    if published:
        console.print(_pushed(published))
        console.print(_gauges(found.gauges))
        for problem in str(published.get("problems", "")).splitlines():
            _note(console, problem)
    console.print(_retraining(found.retraining))
    console.print(Text("\nWhere to look next", style="bold"))
    for why, statement in next_steps(found.weeks):
        console.print(Text(f"\n{why}"))
        # Without a frame and unbroken, so that it can be pasted.
        console.print(Text(f'driftline query "{statement}"', style="cyan"), soft_wrap=True)


def next_steps(weeks: int) -> Sequence[tuple[str, str]]:
    """Give questions, each with the SQL that answers it."""
    return [
        (
            "Which inputs have drifted at which airport, and for how many weeks?",
            "select segment_value, feature_name, count() as weeks, max(psi) as worst "
            "from fct_feature_drift_weekly "
            "where verdict = 'drift' and comparison = 'baseline' and segment_key = 'origin' "
            "group by all order by weeks desc, worst desc limit 20",
        ),
        (
            "For which carriers has it become worse?",
            "select segment_value, window_start, labeled_count, auc, baseline_auc, f1, baseline_f1 "
            "from fct_model_performance_monthly "
            "where segment_key = 'carrier' and is_auc_beyond_interval "
            "order by auc_difference limit 20",
        ),
        (
            "The rows themselves: late flights that the model was surest would be on time",
            f"select predicted_at - toIntervalWeek({weeks}) as predicted, "  # noqa: S608
            "entity_id as flight, segments['origin'] as origin, score from fct_predictions "
            "where label = 'late' order by score limit 20",
        ),
    ]


def _overview(found: Findings) -> Panel:
    counts = found.counts
    rejects = [
        f"{row['events']:,} {row['event_type']} ({row['reject_reason']})" for row in found.rejects
    ]
    coverage = counts["labelled"] / counts["predictions"] if counts["predictions"] else 0.0
    verdicts = ", ".join(
        f"{found.verdicts.get(verdict, 0):,} {verdict.replace('_', ' ')}" for verdict in _VERDICTS
    )
    lines = [
        f"Landed: {counts['predictions']:,} predictions ({counts['duplicates']:,} duplicates). "
        f"Rejected events: {', '.join(rejects) or 'none'}.",
        f"Labelled: {counts['labelled']:,} ({coverage:.1%}); cancelled and diverted flights never "
        "get a label.",
        f"Dates: moved by {found.weeks} weeks, so that the last prediction was made on "
        f"{counts['last_predicted_at']:%d %B %Y}. Below they are those of 2013.",
        f"Drift: {sum(found.verdicts.values()):,} comparisons of an input in a segment and week: "
        f"{verdicts}.",
    ]
    return Panel(
        Text("\n".join(lines)), title="flights_delay, April to December 2013", title_align="left"
    )


def _months(found: Findings) -> Table:
    table = Table(title="Performance by month", title_justify="left")
    table.add_column("")
    for name in ("predictions", "labelled", "late"):
        table.add_column(name, justify="right")
    for name in ("AUC", "F1"):
        table.add_column(name)
    baseline = found.baseline
    table.add_row(
        "Jan-Mar (baseline)",
        _count(baseline.get("row_count")),
        "",
        _share(baseline.get("prevalence")),
        _decimal(baseline.get("auc")),
        _decimal(baseline.get("f1")),
        style="bold",
        end_section=True,
    )
    for row in found.months:
        # By UTC the last hours of 2013 fall into January 2014: too few flights to say anything.
        if row["predictions"] < _FEWEST_PREDICTIONS:
            continue
        table.add_row(
            f"{row['month']:%B}",
            _count(row["predictions"]),
            _share(row["labelled"] / row["predictions"]),
            _share(row["prevalence"]),
            _estimate(row, "auc", baseline.get("auc")),
            _estimate(row, "f1", baseline.get("f1")),
        )
    return table


def _estimate(row: Row, metric: str, baseline: float | None) -> Text:
    lower, upper = row[f"{metric}_lower"], row[f"{metric}_upper"]
    text = f"{_decimal(row[metric])} [{_decimal(lower)}, {_decimal(upper)}]"
    if baseline is not None and upper < baseline:
        return Text(f"{text} ▼", style="red")
    if baseline is not None and lower > baseline:
        return Text(f"{text} ▲", style="green")
    return Text(text)


def _drift(rows: Sequence[Row], title: str) -> Table:
    has_segment = any(row["segment_key"] != "all" for row in rows)
    table = Table(title=title, title_justify="left")
    table.add_column("input")
    if has_segment:
        table.add_column("segment")
    table.add_column("week of")
    for name in ("rows", "PSI", "usual", "KL", "KL reverse", "q"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for row in rows:
        segment = [f"{row['segment_key']} = {row['segment_value']}"] if has_segment else []
        table.add_row(
            *(Text(text) for text in (row["feature_name"], *segment)),
            f"{row['week']:%d %b}",
            _count(row["current_count"]),
            _decimal(row["psi"]),
            _decimal(row["psi_baseline_p95"]),
            _decimal(row["kl_current_baseline"]),
            _decimal(row["kl_baseline_current"]),
            _probability(row["q_value"]),
            Text(row["verdict"], style=_VERDICTS.get(row["verdict"], "")),
        )
    return table


def _breaches(found: Findings) -> Table:
    """Show every open breach, and beside them the gravest and longest that are over."""
    by_status = {
        status: [row for row in found.breaches if row["status"] == status]
        for status in ("open", "resolved", "not_evaluated")
    }
    is_open, is_over = by_status["open"], by_status["resolved"]
    title = f"Breaches: {len(is_open)} open, {len(is_over)} resolved"
    shown = is_over[: max(_BREACHES_SHOWN - len(is_open), 0)]
    if len(shown) < len(is_over):
        title += f" (of these {len(shown)} shown; all are in fct_breaches)"
    table = Table(title=title, title_justify="left")
    for name in ("severity", "rule", "where", "since", "until"):
        table.add_column(name)
    for name in ("breaching", "worst", "breaches when"):
        table.add_column(name, justify="right")
    for row in (*is_open, *shown):
        segment = row["segment_value"] if row["segment_key"] != "all" else ""
        table.add_row(
            Text(row["severity"], style=_SEVERITY_STYLES.get(row["severity"], "")),
            Text(row["monitor_name"]),
            Text(", ".join(filter(None, (row["feature_name"], segment))) or "all flights"),
            f"{row['opened_on']:%d %b}",
            Text("open", style="bold red")
            if row["status"] == "open"
            else f"{row['resolved_on']:%d %b}",
            _windows(row["breaching_window_count"], row["granularity"]),
            _decimal(row["worst_value"]),
            f"{row['metric']} {row['comparator']} {row['threshold']:g}",
        )
    for row in by_status["not_evaluated"]:
        table.add_row("-", Text(row["monitor_name"]), Text(f"not evaluated: {row['reason']}"))
    return table


def _pushed(published: Mapping[str, Any]) -> Text:
    alarms = [
        f"{published.get(f'alarms_{state}_count', 0)} {state}"
        for state in ("put", "unchanged", "deleted")
    ]
    return Text(
        f"\nPushed to CloudWatch: {published.get('sent', 0)} metrics; alarms: "
        f"{', '.join(alarms)}; dashboards: {published.get('dashboards_put_count', 0)} put, "
        f"{published.get('dashboards_unchanged_count', 0)} unchanged",
        style="italic",
    )


def _gauges(gauges: Sequence[Row]) -> Table:
    table = Table()
    table.add_column("metric")
    table.add_column("about")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for row in gauges:
        table.add_row(
            Text(row["metric_name"]),
            Text(row["about"] or "the model"),
            f"{row['value']:.6g}",
            "" if row["unit"] == "None" else Text(row["unit"]),
        )
    return table


def _retraining(run: Row) -> Panel:
    if not run:
        lines = ["Nothing was due: no breach has lasted as long as retraining.csv asks for."]
    else:
        lines = [f"{run['status'].upper()}: {run['reason']}"]
        if run["training_row_count"]:
            lines.append(
                f"Trained on {run['training_row_count']:,} labelled flights of "
                f"{run['trained_from']:%d %b} to {run['trained_until']:%d %b}, compared on "
                f"{run['evaluation_row_count']:,} until {run['compared_until']:%d %b} that neither "
                "version has seen."
            )
        for metric in ("auc", "f1"):
            if run[f"{metric}_difference"] is not None:
                lines.append(
                    f"{metric.upper()}: {_decimal(run[f'champion_{metric}'])} of version "
                    f"{run['champion_version']}, {_decimal(run[f'challenger_{metric}'])} of "
                    f"{run['challenger_version']}; difference {run[f'{metric}_difference']:+.4f} "
                    f"[{run[f'{metric}_difference_lower']:+.4f}, "
                    f"{run[f'{metric}_difference_upper']:+.4f}]"
                )
    return Panel(Text("\n".join(lines)), title="Retraining", title_align="left")


def _note(console: Console, text: str) -> None:
    console.print(Text(f"{text}\n", style="dim"))


def _windows(count: int, granularity: str) -> str:
    return f"{count} {granularity}{'' if count == 1 else 's'}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _decimal(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.1%}"


def _probability(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return "<1e-6" if value < 1e-6 else f"{value:.2g}"
