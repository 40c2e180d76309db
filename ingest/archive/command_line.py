"""The commands `driftline archive run`, `verify`, `restore` and `expire`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.command_line import failures_explained, progress

if TYPE_CHECKING:
    from ingest.archive.operations import Archive

_DAY = ["%Y-%m-%d"]
_From = Annotated[
    datetime | None,
    typer.Option("--from", formats=_DAY, metavar="DAY", help="First day of landing (UTC)."),
]
_To = Annotated[
    datetime | None,
    typer.Option("--to", formats=_DAY, metavar="DAY", help="Last day of landing (UTC)."),
]


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""
    archive = typer.Typer(no_args_is_help=True, help="The archive of raw events on S3.")
    archive.command("run")(run)
    archive.command("verify")(verify)
    archive.command("restore")(restore)
    archive.command("expire")(expire)
    app.add_typer(archive, name="archive")


def run(
    before: Annotated[
        datetime | None,
        typer.Option(
            formats=_DAY,
            metavar="DAY",
            help="First day (UTC) that is left out; without it, days over for 24 hours.",
        ),
    ] = None,
) -> None:
    """Archive the raw events that no object holds yet.

    Running it again adds nothing; after an interruption it writes the same objects.
    """
    with _archive("archiving") as (archive, url):
        report = archive.run(before=_day(before))
    typer.echo(
        f"{url}: {report.rows:,} rows archived in {report.objects:,} objects, "
        f"{report.bytes:,} bytes for {report.event_bytes:,} of events"
    )
    typer.echo("next: driftline archive verify")


def verify(
    first: _From = None,
    last: _To = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Ask S3 for sizes and checksums, read no object.")
    ] = False,
    allow_gaps: Annotated[
        bool,
        typer.Option(
            "--allow-gaps",
            help="Offsets without a message are no failure (compacted, transactional topics).",
        ),
    ] = False,
) -> None:
    """Compare the manifest with the objects and with the raw tables."""
    with _archive("verifying") as (archive, url):
        report = archive.verify(since=_first(first), before=_end(last), is_quick=quick)
    typer.echo(
        f"{url}: {report.objects:,} objects, {report.rows:,} rows, {report.bytes:,} bytes; "
        f"{report.expired:,} objects whose rows raw has no more"
    )
    for stray in report.strays:
        typer.echo(f"not in the manifest: {stray}")
    for gap in report.gaps:
        typer.echo(f"gap: {gap}", err=not allow_gaps)
    for problem in report.problems:
        typer.echo(f"error: {problem}", err=True)
    if report.problems or (report.gaps and not allow_gaps):
        typer.echo(
            f"error: {len(report.problems)} problems, {len(report.gaps)} gaps in the archive",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo("the archive is sound")


def restore(first: _From = None, last: _To = None) -> None:
    """Land the archived rows that the raw tables lack, byte for byte.

    Into an empty warehouse: restore before the loader starts. Running it again adds nothing.
    """
    from ingest.archive.manifest import END_OF_DAYS

    with _archive("restoring") as (archive, url):
        report = archive.restore(since=_first(first), before=_end(last) or END_OF_DAYS)
    if report.adopted:
        typer.echo(f"{report.adopted:,} objects were not in the manifest and are now")
    typer.echo(f"{url}: {report.rows:,} rows restored from {report.objects:,} objects")
    if report.rows_before:
        typer.echo(f"{report.rows_before:,} rows were there before")
    typer.echo("next: driftline dbt build")


def expire(
    before: Annotated[
        datetime,
        typer.Option(
            formats=_DAY, metavar="DAY", help="Months (UTC) that end before this day are dropped."
        ),
    ],
) -> None:
    """Drop whole months of raw events, after reading every one of their objects.

    Refuses, and drops nothing, where the archive lacks a row of them.
    """
    with _archive("verifying") as (archive, _):
        dropped = archive.expire(before=before.date())
    for each in dropped:
        typer.echo(f"dropped {each.month} of {each.raw_table}: {each.rows:,} rows")
    if not dropped:
        typer.echo(f"no month of raw events ends before {before.date()}")
    typer.echo("bring them back with: driftline archive restore --from DAY --to DAY")


@contextmanager
def _archive(doing: str) -> Iterator[tuple[Archive, str]]:
    with failures_explained():
        from driftline.settings import ArchiveSettings, ClickHouseSettings
        from ingest.archive.object_store import ObjectStore, connect_s3
        from ingest.archive.operations import Archive
        from ingest.warehouse import connect

        clickhouse = ClickHouseSettings.from_environment()
        store = ObjectStore(connect_s3(), ArchiveSettings.from_environment())
        client = connect(clickhouse)
        try:
            with progress(doing, unit="rows") as advance_to:
                yield (
                    Archive(client, store, clickhouse.raw_database, on_progress=advance_to),
                    store.url,
                )
        finally:
            client.close()


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _first(moment: datetime | None) -> date:
    from ingest.archive.manifest import FIRST_DAY

    return moment.date() if moment else FIRST_DAY


def _end(last: datetime | None) -> date | None:
    return last.date() + timedelta(days=1) if last else None
