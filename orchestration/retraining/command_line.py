"""The command `driftline retrain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from orchestration.retraining.runs import RetrainingRun


def register(app: typer.Typer) -> None:
    """Mount the command of this part."""
    app.command("retrain")(retrain)


def retrain(
    model_name: Annotated[str, typer.Argument(metavar="MODEL", help="A model of retraining.csv.")],
    force: Annotated[
        bool,
        typer.Option("--force", help="Whether or not a breach asks, and in the cool-down too."),
    ] = False,
    run_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Go on with a run that was cut short (default: a new id)."),
    ] = None,
) -> None:
    """Retrain a model where it is due, and say whether the challenger is promoted.

    The exit status is 0 where a decision was reached (promoted or refused), else 1.
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from driftline.settings import SettingsError
    from ingest.landing import LandingError
    from orchestration.retraining import RetrainingError

    try:
        run = _run(model_name, force=force, run_id=run_id)
    except (ClickHouseError, LandingError, RetrainingError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    _print(run)
    if run.status == "failed":
        typer.echo(f"error: run {run.run_id} failed: {run.reason}", err=True)
        raise typer.Exit(1)


def _run(model_name: str, *, force: bool, run_id: str | None) -> RetrainingRun:
    from contextlib import closing
    from datetime import UTC, datetime
    from uuid import uuid4

    from rich.console import Console

    from driftline.settings import ClickHouseSettings
    from ingest.warehouse import connect
    from orchestration.retraining import RetrainingError, runner, triggers

    settings = ClickHouseSettings.from_environment()
    now = datetime.now(UTC)
    with closing(connect(settings)) as client:
        # A run that is continued was due when it started.
        if not force and run_id is None:
            judgement = triggers.judge_model(client, settings, model_name, now)
            if isinstance(judgement, triggers.NotDue):
                raise RetrainingError(
                    f"{model_name} is not due: {judgement.reason}. To retrain it all the same: "
                    f"driftline retrain {model_name} --force"
                )
            typer.echo(f"due: {judgement.reason}")
        console = Console(stderr=True)
        with console.status(f"retraining {model_name}") as status:

            def show(step: str) -> None:
                _show(console, step)
                status.update(step)

            return runner.retrain(
                client,
                settings,
                model_name,
                now=now,
                trigger="command",
                run_id=run_id or f"retrain-{uuid4().hex[:16]}",
                on_progress=show,
            )


def _show(console: Console, step: str) -> None:
    if console.is_terminal:
        console.print(step, markup=False, highlight=False)


def _print(run: RetrainingRun) -> None:
    typer.echo(f"run {run.run_id} of {run.model_name}: {run.status}, {run.reason}")
    typer.echo(
        f"trained on {run.training_row_count:,} rows of {run.training_from:%Y-%m-%d} to "
        f"{run.cut_off:%Y-%m-%d}; compared on {run.evaluation_row_count:,} rows "
        f"({run.evaluation_positive_count:,} positive) until {run.evaluation_until:%Y-%m-%d}"
    )
    for metric in ("auc", "f1") if run.figures else ():
        sides = ", ".join(
            f"{words} {_interval(run, side, metric)}"
            for side, words in (
                ("champion", f"champion {run.champion_version}"),
                ("challenger", f"challenger {run.challenger_version}"),
                ("difference", "difference"),
            )
        )
        decides = ", decides" if metric == run.metric else ""
        typer.echo(f"{metric} (95 %{decides}): {sides}")
    if run.status == "promoted":
        typer.echo(f"baseline {run.baseline_id} is registered; the model: {run.artefact or '-'}")
        typer.echo(
            f"next: serve version {run.challenger_version}, name it and its threshold "
            f"({run.challenger_threshold:g}) in models.csv, then driftline dbt build"
        )
    else:
        typer.echo("next: driftline dbt build --select +fct_retraining_runs")


def _interval(run: RetrainingRun, side: str, metric: str) -> str:
    name = f"{side}_{metric}"
    sign = "+" if side == "difference" else ""
    value, lower, upper = (
        f"{run.figures[name + part]:{sign}.4f}" if name + part in run.figures else "-"
        for part in ("", "_lower", "_upper")
    )
    return f"{value} [{lower}, {upper}]"
