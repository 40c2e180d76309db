"""The command `driftline erase`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ingest.command_line import failures_explained, progress

if TYPE_CHECKING:
    from ingest.erasure.operations import ErasureReport


def register(app: typer.Typer) -> None:
    """Mount the command of this part."""
    app.command("erase")(erase)


def erase(
    entity: Annotated[
        str, typer.Option(metavar="ID", help="Whom to erase: entity_id of the predictions.")
    ],
    model: Annotated[str, typer.Option(metavar="NAME", help="The model that logged them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Erase; without it, only look.")] = False,
    every_object: Annotated[
        bool,
        typer.Option(
            "--every-object",
            help="Search all of the archive, not only what raw has no more.",
        ),
    ] = False,
) -> None:
    """Erase an entity: its predictions and their labels, from raw tables, archive and marts.

    Without --yes it counts and changes nothing. Interrupted, it is ended by running it again.
    Aggregates stay; Kafka and backups are yours (docs/erasure.md).
    """
    if not entity or not model:
        raise typer.BadParameter("neither --entity nor --model may be empty")
    with failures_explained():
        import os

        from driftline.settings import ArchiveSettings, ClickHouseSettings
        from ingest.archive.object_store import ObjectStore, connect_s3
        from ingest.erasure.operations import Erasure, ErasureError
        from ingest.erasure.plan import Entity
        from ingest.warehouse import connect

        settings = ClickHouseSettings.from_environment()
        has_archive = bool(os.environ.get("DRIFTLINE_ARCHIVE_URL"))
        client = connect(settings)
        try:
            with progress("searching", unit="steps") as advance_to:
                erasure = Erasure(
                    client,
                    Entity(model, entity),
                    raw_database=settings.raw_database,
                    database=settings.database,
                    store=ObjectStore(connect_s3(), ArchiveSettings.from_environment())
                    if has_archive
                    else None,
                    reads_every_object=every_object,
                    on_progress=advance_to,
                )
                report = erasure.run() if yes else erasure.look()
        except ErasureError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
        finally:
            client.close()
    _print(report, has_archive=has_archive, is_done=yes)


def _print(report: ErasureReport, *, has_archive: bool, is_done: bool) -> None:
    if report.was_interrupted:
        typer.echo("an earlier erasure of this entity had not ended; it goes on where it was")
    if report.is_empty:
        typer.echo("there is no prediction of this entity")
    else:
        did = "erased" if is_done else "found"
        typer.echo(
            f"{did}: {report.predictions:,} predictions, in {report.prediction_events:,} messages "
            f"of predictions and {report.label_events:,} of labels"
        )
        if has_archive:
            rewritten = "rewritten" if is_done else "to rewrite"
            typer.echo(f"objects of the archive {rewritten}: {report.objects:,}")
        if report.earlier_versions:
            typer.echo(f"earlier versions of objects deleted: {report.earlier_versions:,}")
        for mart, count in report.marts.items():
            typer.echo(f"rows of {mart}: {count:,}")
    typer.echo(
        "not looked at: what is in Kafka and has not landed, backups, the model's own training data"
    )
    if not is_done and not report.is_empty:
        typer.echo("nothing was changed; next: the same command with --yes")
