"""The command `driftline publish`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestration.cloudwatch.publisher import OnProgress, Plan, PublicationReport


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""
    app.command("publish")(publish)


def publish(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be published; send nothing.")
    ] = False,
    run_id: Annotated[
        str | None,
        typer.Option(help="Publish once under this name: the same again sends nothing twice."),
    ] = None,
) -> None:
    """Publish gauges, alarms and dashboards to CloudWatch, from the marts as they are now."""
    from datetime import UTC, datetime
    from uuid import uuid4

    with _failures_explained():
        from driftline.settings import ClickHouseSettings
        from ingest.warehouse import connect
        from orchestration.cloudwatch import publisher

        settings = publisher.CloudWatchSettings.from_environment()
        client = connect(ClickHouseSettings.from_environment())
        try:
            now = datetime.now(UTC)
            if dry_run:
                _print_plan(publisher.plan(client, settings, now=now), settings.namespace)
                return
            if not settings.is_enabled:
                typer.echo("DRIFTLINE_CLOUDWATCH_ENABLED is false: nothing was published")
                return
            with _progress() as on_progress:
                report = publisher.publish(
                    client,
                    publisher.connect_cloudwatch(),
                    settings,
                    now=now,
                    run_id=run_id or f"publish-{uuid4()}",
                    on_progress=on_progress,
                )
        finally:
            client.close()
    _print_report(report, settings.namespace)


def _print_plan(planned: Plan, namespace: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"would be sent to namespace {namespace}")
    for column in ("metric", "dimensions"):
        table.add_column(column, overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for datum in planned.accepted:
        dimensions = ", ".join(f"{name}={value}" for name, value in datum.dimensions)
        values = ", ".join(f"{value:.6g}" for value in datum.values)
        table.add_row(*(Text(text) for text in (datum.name, dimensions, values, datum.unit)))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=200)).print(table)
    _print_list("alarms", [spec.name for spec in planned.alarms])
    _print_list("quarantined", [f"{bad.datum.name}: {bad.reason}" for bad in planned.quarantined])
    _print_list("left out, beyond DRIFTLINE_METRIC_BUDGET", [d.name for d in planned.left_out])
    _print_list("without a value now", planned.evaluation.undefined)
    _print_list("rules not evaluated", planned.evaluation.not_evaluated)
    _fail_for(planned.evaluation.problems)
    typer.echo("next: driftline publish")


def _print_report(report: PublicationReport, namespace: str) -> None:
    typer.echo(f"{report.sent:,} metrics sent to CloudWatch namespace {namespace}")
    if report.pending:
        typer.echo(f"{report.pending:,} metrics are pending: the next publish sends them")
    if report.expired:
        typer.echo(f"{report.expired:,} metrics expired: two weeks old before they could be sent")
    typer.echo(
        f"alarms: {len(report.alarms_put)} put, {len(report.alarms_deleted)} deleted, "
        f"{len(report.alarms_unchanged)} unchanged"
    )
    typer.echo(
        f"dashboards: {len(report.dashboards_put)} put, {len(report.dashboards_deleted)} deleted, "
        f"{len(report.dashboards_unchanged)} unchanged"
    )
    _print_list("rules breached", report.rules_breached)
    _print_list("quarantined", report.quarantined)
    _print_list("left out, beyond DRIFTLINE_METRIC_BUDGET", report.left_out)
    _print_list("without a value now", report.undefined)
    _print_list("rules not evaluated", report.not_evaluated)
    _fail_for(report.problems)


def _print_list(title: str, names: Sequence[str]) -> None:
    if names:
        typer.echo(f"{title} ({len(names)}):")
        for name in names:
            typer.echo(f"  {name}")


def _fail_for(problems: Sequence[str]) -> None:
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


@contextmanager
def _failures_explained() -> Iterator[None]:
    """Turn errors that a person can mend into one line and exit status 1."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from driftline.settings import SettingsError
    from orchestration.cloudwatch.publisher import PublishingError

    try:
        yield
    except (ClickHouseError, PublishingError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """Show what is being done on a terminal (nothing elsewhere)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("publishing", total=None)
        yield lambda doing, done, total: bar.update(
            task, description=doing, completed=done, total=total
        )
