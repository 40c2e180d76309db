"""The command `driftline monitors test`."""

from __future__ import annotations

import os
import re
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from driftline.monitor_dry_run import DryRun

_WEEKS_NAMED = 5


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""
    monitors = typer.Typer(no_args_is_help=True, help="Try rules on the past before they ring.")
    # Without it, a group of one command would be that command.
    monitors.callback()(_group)
    monitors.command("test")(try_rule)
    app.add_typer(monitors, name="monitors")


def _group() -> None:
    """Try rules on the past before they ring."""


def try_rule(
    monitor: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A rule of monitors.csv; options below change it."),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="The model; * of topics.")] = (
        None
    ),
    metric: Annotated[
        str | None, typer.Option(help="psi, null_rate, auc, prediction_count, …")
    ] = None,
    comparator: Annotated[str | None, typer.Option(help="'>', '>=', '<' or '<='.")] = None,
    threshold: Annotated[str | None, typer.Option(help="The value compared with.")] = None,
    segment_set: Annotated[
        str | None,
        typer.Option(metavar="KEYS", help="A declared set, as origin or 'origin|carrier' [all]."),
    ] = None,
    feature: Annotated[
        str | None, typer.Option(help="A feature, or '*' for every one: drift and data quality.")
    ] = None,
    granularity: Annotated[
        str | None, typer.Option(help="hour, day, week or month [week].")
    ] = None,
    windows: Annotated[
        str | None,
        typer.Option(metavar="M/N", help="Fires when M of the last N windows breach [1/1]."),
    ] = None,
    min_rows: Annotated[
        str | None, typer.Option(help="Windows with fewer rows do not count [300].")
    ] = None,
    severity: Annotated[str | None, typer.Option(help="warn or error [warn].")] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"],
            help="What is over and labelled by this moment, UTC [now].",
        ),
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, metavar="ROWS", help="Incidents to list; --json gives all.")
    ] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a rule would have raised over the past, and write nothing.

    The rule is one of monitors.csv as the file stands, built or not, or one made of options. The
    SQL is that of fct_breaches, run as the read-only analyst.

    driftline monitors test --monitor features_drifted --threshold 0.4 --windows 3/4

    driftline monitors test --model m --metric auc --comparator '<' --threshold 0.6
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from driftline.monitor_dry_run import DryRunError
    from driftline.settings import SettingsError

    given = {
        "model_name": model,
        "metric": metric,
        "comparator": comparator,
        "threshold": threshold,
        "segment_key": segment_set,
        "feature_name": feature,
        "granularity": granularity,
        "min_rows": min_rows,
        "severity": severity,
    }
    try:
        chosen = {column: value for column, value in given.items() if value is not None}
        found = _try(monitor, {**chosen, **_windows(windows)}, as_of)
    except (ClickHouseError, DryRunError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        _print_json(found)
    else:
        _print(found, show)


def _windows(text: str | None) -> dict[str, str]:
    from driftline.monitor_dry_run import DryRunError

    if text is None:
        return {}
    matched = re.fullmatch(r"(\d+)/(\d+)", text)
    if matched is None:
        raise DryRunError(f"--windows {text!r} is not M/N: write 2/3 for 2 of the last 3 windows")
    return {"windows_breaching": matched[1], "windows_considered": matched[2]}


def _try(monitor: str | None, given: dict[str, str], as_of: datetime | None) -> DryRun:
    from driftline.monitor_dry_run import (
        compile_statements,
        configured_rule,
        dry_run,
        made_up_rule,
    )
    from driftline.settings import ClickHouseSettings
    from driftline.warehouse_commands import analyst_client

    # Before anything is asked of ClickHouse or dbt.
    rule = {} if monitor is not None else made_up_rule(given)
    database = ClickHouseSettings.for_analyst().database
    with closing(analyst_client()) as client:
        if monitor is not None:
            rule = {**configured_rule(client, database, monitor, os.environ), **given}
        statements = compile_statements(os.environ, as_of and as_of.replace(tzinfo=UTC))
        return dry_run(client, database, rule, statements)


def _print_json(found: DryRun) -> None:
    import json

    document = {
        "rule": found.rule,
        "incidents": found.incidents,
        "muted": found.muted,
        "obstacle": found.obstacle,
        "windows": found.windows,
        "weeks": found.weeks,
        "incidents_per_week": found.incidents_per_week,
        "incidents_by_week": {f"{week}": n for week, n in sorted(found.by_week.items())},
        "budget": {
            "incidents_per_week": found.budget.incidents_per_week,
            "weeks_over_budget": {
                f"{week}": {"this_rule": count, "other_rules": others}
                for week, (count, others) in found.weeks_over_budget.items()
            },
        },
        "incidents_in_place": found.in_place,
    }
    typer.echo(json.dumps(document, indent=2, default=str))


def _print(found: DryRun, show: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=160)
    for line in _lines(found):
        console.print(Text(line))
    rows = [*found.incidents, *found.muted]
    columns = {
        "status": "status", "version": "model_version", "segment": "segment_value",
        "feature": "feature_name", "opened": "opened_at", "last seen": "last_seen_at",
        "resolved": "resolved_at", "windows": "breaching_window_count", "worst": "worst_value",
        "last": "last_value", "reason": "reason",
    }  # fmt: skip
    if rows and show:
        table = Table()
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows[:show]:
            table.add_row(*(Text(_cell(row[column])) for column in columns.values()))
        console.print(table)
    if len(rows) > show:
        typer.echo(f"the first {show} of {len(rows)}: --show N lists more, --json all", err=True)


def _cell(value: Any) -> str:
    from driftline.warehouse_commands import shown

    if isinstance(value, datetime):
        # Windows mostly end at midnight.
        return f"{value:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    return shown(value)


def _lines(found: DryRun) -> list[str]:
    """Say in words what was found: the rule, its incidents, its windows, the budget."""
    rule = found.rule
    about = f" of {rule['feature_name']}" if rule["feature_name"] else ""
    where = "" if rule["segment_key"] == "all" else f" in every value of {rule['segment_key']}"
    lines = [
        f"{rule['monitor_name']}: {rule['metric']}{about} of {rule['model_name']}{where} "
        f"{rule['comparator']} {rule['threshold']}, {rule['windows_breaching']} of "
        f"{rule['windows_considered']} {rule['granularity']}s, severity {rule['severity']}"
    ]
    if found.obstacle:
        lines.append(f"It could not be evaluated in any window: {found.obstacle}.")
    else:
        still_open = sum(row["status"] == "open" for row in found.incidents)
        busiest = max(found.by_week.values(), default=0)
        lines.append(
            f"It would have raised {_count(len(found.incidents), 'incident')}, {still_open} still "
            f"open: {found.incidents_per_week:.2g} a week over {found.weeks:.3g} weeks, at most "
            f"{busiest} in one."
        )
    if found.in_place is not None:
        lines.append(f"The rule of this name in the warehouse has raised {found.in_place}.")
    lines += [_windows_in_words(row) for row in found.windows]
    over = found.weeks_over_budget
    lines.append(
        f"Alert budget: {found.budget.incidents_per_week} incidents a week of all rules; "
        + (f"exceeded in {_count(len(over), 'week')}:" if over else "kept in every week.")
    )
    lines += [
        f"  week of {week}: {count} of this rule, {others} of others"
        for week, (count, others) in list(over.items())[:_WEEKS_NAMED]
    ]
    if len(over) > _WEEKS_NAMED:
        lines.append(f"  and {len(over) - _WEEKS_NAMED} more (--json names all)")
    if found.muted:
        lines.append(f"Muted: {_count(len(found.muted), 'series')} breach in silence, listed last.")
    return lines


def _windows_in_words(row: dict[str, Any]) -> str:
    count = _count(row["window_count"], "window")
    if row["obstacle"]:
        return f"{count} did not count: {row['obstacle']}."
    return (
        f"{count} of {row['series_count']} series counted, from "
        f"{row['first_window_start']:%Y-%m-%d} to {row['last_window_end']:%Y-%m-%d}; "
        f"{row['breaching_count']} breach."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 or noun.endswith('s') else 's'}"
