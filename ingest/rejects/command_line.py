"""The commands `driftline rejects list` and `replay`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.command_line import failures_explained, progress

if TYPE_CHECKING:
    from driftline.settings import ClickHouseSettings
    from ingest.rejects.replay import Selection

_SHOWN_BYTES = 60

_Topic = Annotated[str | None, typer.Option(help="Only events of this topic.")]
_Reason = Annotated[str | None, typer.Option(help="Only events rejected for this reason.")]
_Since = Annotated[
    datetime | None,
    typer.Option("--from", formats=["%Y-%m-%d"], metavar="DAY", help="First day of the messages."),
]
_Until = Annotated[
    datetime | None,
    typer.Option("--to", formats=["%Y-%m-%d"], metavar="DAY", help="Last day of the messages."),
]


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""
    rejects = typer.Typer(no_args_is_help=True, help="Events that break the contract.")
    rejects.command("list")(list_rejects)
    rejects.command("replay")(replay)
    app.add_typer(rejects, name="rejects")


def list_rejects(
    topic: _Topic = None, reason: _Reason = None, since: _Since = None, until: _Until = None
) -> None:
    """Count the rejected events by day, topic and reason, each with an example.

    Days are those of the messages' Kafka timestamps (UTC). All of them, with their bytes, are in
    fct_rejected_events.
    """
    with _warehouse() as (client, settings):
        from rich.console import Console
        from rich.table import Table

        from ingest.rejects.replay import count_rejects

        selection = _selection(topic, reason, since, until)
        counts = count_rejects(client, settings.database, selection)
    if not counts:
        typer.echo("no rejected events")
        return
    table = Table("day", "topic", "reason", box=None)
    table.add_column("events", justify="right")
    table.add_column("latest (partition@offset)")
    for each in counts:
        table.add_row(
            f"{each.day}",
            each.topic,
            each.reason,
            f"{each.count:,}",
            f"{each.example_at} {_shown(each.example)}",
        )
    # Redirected output is for programs: never wrapped.
    console = Console(markup=False, highlight=False)
    console.print(table, soft_wrap=True, no_wrap=not console.is_terminal, crop=console.is_terminal)
    typer.echo(
        "next: driftline rejects replay, once a newer driftline or a --fix function accepts them"
    )


def replay(
    topic: _Topic = None,
    reason: _Reason = None,
    since: _Since = None,
    until: _Until = None,
    fix: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Takes the bytes of an event and gives better ones, or None to leave it.",
        ),
    ] = None,
) -> None:
    """Have the next dbt build judge rejected events again, as they came or corrected.

    Nothing lands twice: an event that is accepted now leaves the rejects, one that is not stays
    there once. Doing it again changes nothing.
    """
    selection = _selection(topic, reason, since, until)
    with _warehouse() as (client, settings):
        from ingest.rejects.replay import correct_rejects, load_fix, replay_rejects

        if fix is None:
            replayed = replay_rejects(client, settings.database, settings.raw_database, selection)
            typer.echo(f"{replayed.requested:,} rejected events will be judged again")
            gone, done = replayed.gone, replayed.requested
        else:
            # Where the function is that a person has just written.
            sys.path.insert(0, str(Path.cwd()))
            function = load_fix(fix)
            with progress(f"correcting by {fix}", unit="events") as advance_to:
                corrected = correct_rejects(
                    client,
                    settings.database,
                    settings.raw_database,
                    selection,
                    function,
                    fix,
                    on_progress=advance_to,
                )
            typer.echo(f"{corrected.corrected:,} rejected events were corrected by {fix}")
            typer.echo(
                f"{corrected.left:,} it left as they are; {corrected.empty:,} have no value to "
                "correct"
            )
            gone, done = corrected.gone, corrected.corrected
    if gone:
        typer.echo(f"{gone:,} are in raw no more: driftline archive restore brings them back")
    if done:
        typer.echo("next: driftline dbt build")


@contextmanager
def _warehouse() -> Iterator[tuple[Any, ClickHouseSettings]]:
    from ingest.rejects.replay import RejectsError

    with failures_explained():
        from driftline.settings import ClickHouseSettings
        from ingest.warehouse import connect

        settings = ClickHouseSettings.from_environment()
        client = connect(settings)
        try:
            yield client, settings
        except RejectsError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
        finally:
            client.close()


def _selection(
    topic: str | None, reason: str | None, since: datetime | None, until: datetime | None
) -> Selection:
    from ingest.rejects.replay import Selection

    return Selection(
        topic, reason, since.date() if since else None, until.date() if until else None
    )


def _shown(value: bytes | None) -> str:
    if value is None:
        return "(null)"
    shown = repr(value[:_SHOWN_BYTES])[2:-1]
    return shown + ("…" if len(value) > _SHOWN_BYTES else "")
