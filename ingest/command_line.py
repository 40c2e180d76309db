"""The commands `driftline migrate`, `load`, `labels import` and `baseline register`.

Those of the archive are in `ingest.archive.command_line`, those of rejected events in
`ingest.rejects.command_line`, `driftline verify` in `ingest.verification.command_line`.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from ingest.offsets import StartPolicy

if TYPE_CHECKING:
    from rich.progress import Progress

    from ingest.loader_report import LoadReport


class AdvanceTo(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, total: int | None, description: str | None = None, /) -> None:
        """Show so many done of a total (None: unknown), and what is being done now."""


class CellType(StrEnum):
    """What the labels of a CSV file are."""

    AUTO = "auto"
    STRING = "string"
    NUMBER = "number"


class AssignmentStrategy(StrEnum):
    """How the loaders of a group share the partitions."""

    COOPERATIVE = "cooperative-sticky"
    RANGE = "range"


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""
    from ingest.archive.command_line import register as register_archive
    from ingest.erasure.command_line import register as register_erasure
    from ingest.rejects.command_line import register as register_rejects
    from ingest.verification.command_line import register as register_verification

    app.command("migrate")(migrate)
    app.command("load")(load)
    labels = typer.Typer(no_args_is_help=True, help="Labels: the truth about predictions.")
    labels.command("import")(import_labels)
    app.add_typer(labels, name="labels")
    baseline = typer.Typer(no_args_is_help=True, help="Baselines: what models are compared with.")
    baseline.command("register")(register_baseline)
    app.add_typer(baseline, name="baseline")
    register_archive(app)
    register_erasure(app)
    register_rejects(app)
    register_verification(app)


def migrate() -> None:
    """Create the raw database and its tables where they are missing."""
    with failures_explained():
        from driftline.settings import ClickHouseSettings
        from ingest.raw_tables import create_raw_tables
        from ingest.warehouse import connect

        settings = ClickHouseSettings.from_environment()
        client = connect(settings)
        try:
            tables = create_raw_tables(
                client, settings.raw_database, settings.cluster.name if settings.cluster else None
            )
        finally:
            client.close()
    typer.echo(f"database {settings.raw_database} has {', '.join(tables)}")
    typer.echo("next: driftline load")


def load(
    until_caught_up: Annotated[
        bool,
        typer.Option("--until-caught-up", help="End once all that is in Kafka now has landed."),
    ] = False,
    once_idle: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="End once all has landed and nothing came for so long.",
        ),
    ] = None,
    batch_rows: Annotated[int, typer.Option(min=1, help="Most rows of an insert.")] = 100_000,
    batch_mib: Annotated[float, typer.Option(min=0.001, help="Most MiB of an insert.")] = 32,
    batch_seconds: Annotated[
        float, typer.Option(min=0, help="How long a message waits for company.")
    ] = 1.0,
    memory_mib: Annotated[float, typer.Option(min=1, help="Most MiB held in memory.")] = 256,
    max_rows_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Land no faster, to spare a small server.")
    ] = None,
    session_seconds: Annotated[
        float,
        typer.Option(
            min=1, help="After so long without a heartbeat other loaders of the group take over."
        ),
    ] = 10.0,
    request_seconds: Annotated[
        int, typer.Option(min=1, help="An insert that takes longer has failed, and is repeated.")
    ] = 60,
    assignment: Annotated[
        AssignmentStrategy, typer.Option(help="How loaders of a group share partitions.")
    ] = AssignmentStrategy.COOPERATIVE,
    start: Annotated[
        StartPolicy,
        typer.Option(help="Where to begin while nothing has landed and nothing was committed."),
    ] = StartPolicy.EARLIEST,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Serve /metrics, /healthz and /readyz there, by HTTP."
        ),
    ] = None,
) -> None:
    """Load predictions and labels from Kafka into the raw tables, until stopped.

    Start it as often as you like: loaders share the partitions. SIGTERM or Ctrl-C lands what is
    buffered, commits and leaves; a second one leaves at once, and what had not landed is read
    again.
    """
    _log_to_standard_error()
    with failures_explained():
        from driftline.settings import ClickHouseSettings, KafkaSettings
        from ingest.batches import BatchLimits
        from ingest.landing import PacedSink, Sink
        from ingest.loader import StopWhen
        from ingest.open_loader import open_loader, watched

        def paced(sink: Sink) -> Sink:
            return PacedSink(sink, max_rows_per_second) if max_rows_per_second else sink

        kafka = KafkaSettings.from_environment()
        address = _address(listen)
        with (
            progress("loading", unit="messages") as advance_to,
            _rare_collections() as collect_rarely,
            ExitStack() as watching,
        ):

            def on_progress(report: LoadReport) -> None:
                advance_to(report.rows, max(report.expected, report.rows))
                collect_rarely()

            loader = open_loader(
                kafka,
                ClickHouseSettings.from_environment(),
                make_sink=paced,
                assignment_strategy=assignment.value,
                session_seconds=session_seconds,
                request_seconds=request_seconds,
                start=start,
                limits=BatchLimits(batch_rows, int(batch_mib * 1024 * 1024), batch_seconds),
                memory_bytes=int(memory_mib * 1024 * 1024),
                on_progress=on_progress,
            )
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: loader.stop())
            if address is not None:
                watching.enter_context(watched(loader, kafka, address))
            report = loader.run(StopWhen(until_caught_up, once_idle))
    _print_load_report(report)
    if loader.is_aborted:
        typer.echo("error: told twice to stop; what had not landed is read again", err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        # An insert that hangs would hold the interpreter until it times out.
        os._exit(1)


_ROW_FILE = "CSV, Parquet or JSONL (CSV and JSONL also .gz, .zst), on disk or s3://bucket/key."


def import_labels(
    file: Annotated[str, typer.Argument(metavar="LABEL_FILE", help=_ROW_FILE)],
    model_name: Annotated[str, typer.Option(help="The model whose predictions these label.")],
    prediction_id_column: Annotated[str, typer.Option(metavar="COLUMN")] = "prediction_id",
    label_column: Annotated[str, typer.Option(metavar="COLUMN")] = "label",
    observed_at_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="When the truth became known.")
    ] = "observed_at",
    observed_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="One time for all rows (ISO 8601), instead of a column."),
    ] = None,
    label_type: Annotated[
        CellType,
        typer.Option(help="What the labels of a CSV are; auto: numbers where all of them are."),
    ] = CellType.AUTO,
    source: Annotated[
        str | None, typer.Option(help="Where the labels come from [default: file:NAME].")
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Import the valid rows of a file with others.")
    ] = False,
) -> None:
    """Import the labels of a file; importing the same content again adds nothing."""
    with failures_explained():
        from driftline.settings import ClickHouseSettings, labels_topic
        from ingest.label_files import LabelColumns
        from ingest.label_files import import_labels as import_file
        from ingest.warehouse import connect

        columns = LabelColumns(
            model_name=model_name,
            prediction_id=prediction_id_column,
            label=label_column,
            observed_at=observed_at_column,
            observed_at_constant=_moment(observed_at),
            label_type=label_type.value,
            source=source,
        )
        settings = ClickHouseSettings.from_environment()
        client = connect(settings)
        try:
            with progress(f"finding {file}", unit="") as advance_to:
                imported = import_file(
                    client,
                    file,
                    columns,
                    raw_database=settings.raw_database,
                    topic=labels_topic(),
                    skip_invalid=skip_invalid,
                    on_progress=lambda phase, done, total: advance_to(
                        done, total, f"{phase} of {file}"
                    ),
                )
        finally:
            client.close()
    typer.echo(f"{file}: {imported.landed:,} labels landed")
    if imported.landed_before:
        typer.echo(f"{imported.landed_before:,} had landed before")
    if imported.invalid:
        typer.echo(f"{imported.invalid:,} invalid rows were skipped")
    typer.echo("next: driftline dbt build")


def register_baseline(
    file: Annotated[str, typer.Argument(metavar="BASELINE_FILE", help=_ROW_FILE)],
    model_name: Annotated[str, typer.Option()],
    model_version: Annotated[str, typer.Option()],
    score: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Out-of-fold probability of the positive.")
    ] = None,
    value: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A regression's prediction.")
    ] = None,
    predicted_label: Annotated[str | None, typer.Option(metavar="COLUMN")] = None,
    class_score: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=COLUMN", help="Out-of-fold probability of a class."),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The truth.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="When each row was predicted.")
    ] = None,
    segment: Annotated[list[str] | None, typer.Option(metavar="COLUMN")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A feature too, beside its other roles."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="COLUMN")] = None,
    importance: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help='JSON: {"feature": importance, …}.'),
    ] = None,
    description: Annotated[str, typer.Option()] = "",
    any_score: Annotated[
        bool, typer.Option("--any-score", help="Scores are no probabilities in [0, 1].")
    ] = False,
) -> None:
    """Register a training set as the baseline of a model version.

    A column without a role is a feature; a segment column is one only where --feature says so.
    Registering the same again changes nothing.
    """
    with failures_explained():
        from driftline.settings import ClickHouseSettings
        from ingest import baselines
        from ingest.typed_rows import open_rows
        from ingest.warehouse import connect

        settings = ClickHouseSettings.from_environment()
        roles = baselines.Roles(
            score=score,
            value=value,
            predicted_label=predicted_label,
            class_scores=_pairs(class_score or []),
            label=label,
            time=time,
            segments=tuple(segment or ()),
            features=tuple(feature or ()),
            excluded=tuple(exclude or ()),
        )
        rows = open_rows(file)
        client = connect(settings)
        try:
            with progress(f"registering {file}", unit="rows") as advance_to:
                baseline = baselines.register_baseline(
                    client,
                    rows,
                    roles,
                    model_name=model_name,
                    model_version=model_version,
                    raw_database=settings.raw_database,
                    description=description,
                    feature_importance=baselines.read_importance(importance) if importance else {},
                    is_probability=not any_score,
                    on_progress=advance_to,
                )
        finally:
            client.close()
    state = "registered" if baseline.is_new else "was registered before; nothing changed"
    typer.echo(
        f"baseline {baseline.baseline_id} of {model_name} {model_version}: "
        f"{baseline.row_count:,} rows, {len(baseline.feature_types)} features; {state}"
    )
    typer.echo("next: driftline dbt build")


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"--observed-at {text!r} is not an ISO 8601 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, column = text.rpartition("=")
        if not separator or not name or not column:
            raise typer.BadParameter(f"--class-score {text!r} is not CLASS=COLUMN")
        pairs[name] = column
    return pairs


def _address(listen: str | None) -> tuple[str, int] | None:
    if listen is None:
        return None
    host, separator, port = listen.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise typer.BadParameter(f"{listen!r} is not HOST:PORT, as in 127.0.0.1:9469")
    return host.strip("[]"), int(port)


def _print_load_report(report: LoadReport) -> None:
    typer.echo(f"landed {report.rows:,} messages in {report.batches:,} inserts")
    if report.skipped:
        typer.echo(f"skipped {report.skipped:,} that had landed before")
    if report.retries:
        failures = ", ".join(f"{code}: {count}" for code, count in sorted(report.retries.items()))
        typer.echo(f"tried again after failures ({failures})")
    if report.lost:
        typer.echo(
            f"LOST {report.lost:,} messages that the broker no longer had: see the table "
            "offset_gaps of the raw database",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo("next: driftline dbt build")


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn errors that a person can mend into one line and exit status 1."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from confluent_kafka import KafkaException

    from driftline.settings import SettingsError
    from ingest.archive.object_store import ArchiveError
    from ingest.baselines import BaselineError
    from ingest.json_columns import ColumnError
    from ingest.landing import LandingError
    from ingest.loader import LoaderError
    from ingest.loader_endpoint import EndpointError
    from ingest.row_files import RowFileError

    try:
        yield
    except (
        ArchiveError,
        BaselineError,
        ClickHouseError,
        ColumnError,
        EndpointError,
        LandingError,
        LoaderError,
        RowFileError,
        SettingsError,
    ) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KafkaException as error:
        typer.echo(f"error: Kafka: {error.args[0].str()}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _rare_collections(seconds: float = 30.0) -> Iterator[Callable[[], None]]:
    """Look for cycles of garbage every so many seconds, when what is given is called.

    Messages that wait to land are millions of small tuples, none in a cycle. To go through them
    after every so many new ones, as Python does, took more time than all else the loader does.
    """
    collected_at = time.monotonic()

    def collect() -> None:
        nonlocal collected_at
        if time.monotonic() - collected_at >= seconds:
            gc.collect()
            collected_at = time.monotonic()

    gc.disable()
    try:
        yield collect
    finally:
        gc.enable()


def _log_to_standard_error() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("driftline").setLevel(logging.INFO)
    # Broker connections come and go; what matters to loading is logged by the loader itself.
    logging.getLogger("driftline.kafka").setLevel(logging.CRITICAL)
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)


@contextmanager
def progress(doing: str, *, unit: str) -> Iterator[AdvanceTo]:
    """Show a progress bar on a terminal (nothing elsewhere)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as ProgressBar

    console = Console(stderr=True)
    bar: Progress = ProgressBar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(doing, total=None)

        def advance_to(done: int, total: int | None, description: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=description)

        yield advance_to
