"""The command `driftline verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.command_line import failures_explained, progress

if TYPE_CHECKING:
    from ingest.verification.findings import Finding, PartitionReport, VerificationReport

_DAY = ["%Y-%m-%d"]


def register(app: typer.Typer) -> None:
    """Mount the command of this part."""
    app.command("verify")(verify)


def verify(
    first: Annotated[
        datetime | None,
        typer.Option(
            "--from", "--since", formats=_DAY, metavar="DAY", help="First day of landing (UTC)."
        ),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=_DAY, metavar="DAY", help="Last day of landing (UTC)."),
    ] = None,
    ask_kafka: Annotated[
        bool,
        typer.Option("--ask-kafka", help="Read gaps from the broker: was a message missed there?"),
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Land what was missed; asks Kafka, too.")
    ] = False,
    kafka_seconds: Annotated[
        float, typer.Option(min=1, help="How long Kafka is asked, in all.")
    ] = 300,
    allow_gaps: Annotated[
        bool,
        typer.Option(
            "--allow-gaps",
            help="Unexplained gaps are no failure (compacted, transactional topics).",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Look whether every offset has landed once: duplicates, gaps, rows that landed late.

    Exits with 1 where there is a duplicate, a missed message, or a gap that nothing explains.
    """
    from ingest.archive.manifest import END_OF_DAYS, FIRST_DAY

    with _verification(
        asks=ask_kafka or repair, repairs=repair, kafka_seconds=kafka_seconds
    ) as verification:
        report = verification.run(
            since=first.date() if first else FIRST_DAY,
            before=last.date() + timedelta(days=1) if last else END_OF_DAYS,
        )
    if as_json:
        typer.echo(json.dumps(_as_json(report), indent=2))
    else:
        _print(report)
    if not report.is_sound(allow_gaps=allow_gaps):
        _print_remedies(report, is_asked=ask_kafka or repair, allow_gaps=allow_gaps)
        raise typer.Exit(1)
    if not as_json:
        typer.echo("every offset has landed once")
        if report.landed_count:
            typer.echo("next: driftline dbt build")


@contextmanager
def _verification(*, asks: bool, repairs: bool, kafka_seconds: float) -> Iterator[Any]:
    with failures_explained():
        from driftline.settings import ClickHouseSettings, KafkaSettings
        from ingest.landing import ClickHouseSink
        from ingest.verification.broker import MissedMessages, open_gap_reader
        from ingest.verification.landed_offsets import Verification, VerificationError
        from ingest.warehouse import connect

        clickhouse = ClickHouseSettings.from_environment()
        kafka = KafkaSettings.from_environment() if asks else None
        with ExitStack() as opened:
            client = connect(clickhouse)
            opened.callback(client.close)
            advance_to = opened.enter_context(progress("verifying", unit="offsets"))
            ask = None
            if kafka is not None:
                missed = MissedMessages(
                    lambda table, topic: ClickHouseSink(
                        client, clickhouse.raw_database, {topic: table}
                    )
                )
                ask = opened.enter_context(
                    open_gap_reader(
                        kafka,
                        missed=missed if repairs else None,
                        seconds=kafka_seconds,
                        on_progress=advance_to,
                    )
                ).ask
            try:
                yield Verification(client, clickhouse.raw_database, ask=ask, on_progress=advance_to)
            except VerificationError as error:
                typer.echo(f"error: {error}", err=True)
                raise typer.Exit(1) from None


def _print(report: VerificationReport) -> None:
    from rich.console import Console
    from rich.table import Table

    is_asked = any(each.answer is not None for each in report.partitions)
    table = Table()
    for name in ("raw table", "partition", "topic id"):
        table.add_column(name, overflow="fold")
    columns = ["first", "last", "rows", "duplicates", "gaps"]
    columns += ["holes", "missed", "unknown"] if is_asked else []
    for name in (*columns, "backward"):
        table.add_column(name, justify="right")
    for each in report.partitions:
        table.add_row(*_cells(each, is_asked=is_asked))
    Console().print(table)
    for each in (*report.partitions, *report.files.duplicated):
        for line in _lines(each):
            typer.echo(line)
    if report.files.file_count:
        typer.echo(
            f"label files: {report.files.file_count:,} with {report.files.row_count:,} rows, "
            f"{len(report.files.duplicated):,} with duplicates"
        )
    if report.landed_count:
        typer.echo(f"landed {report.landed_count:,} messages that had been missed")


def _cells(each: PartitionReport, *, is_asked: bool) -> list[str]:
    numbers = [each.offsets.first, each.offsets.last, each.row_count]
    numbers += [each.duplicates.offset_count, each.gaps.offset_count]
    if is_asked:
        answer = each.answer
        numbers += [
            answer.holes.offset_count if answer else 0,
            answer.missed.offset_count if answer else 0,
            each.unexplained.offset_count,
        ]
    numbers.append(each.backward.offset_count)
    names = [each.raw_table, str(each.partition), each.partition.topic_id]
    return [*names, *(f"{number:,}" for number in numbers)]


def _lines(each: PartitionReport) -> Iterator[str]:
    """Name the offsets of what was found."""
    findings = {"duplicates": each.duplicates}
    if each.answer is None:
        findings["gaps"] = each.gaps
    else:
        findings["missed"] = each.answer.missed
        findings["gaps of which Kafka knows nothing"] = each.answer.unknown
    findings["landed after greater offsets"] = each.backward
    for name, finding in findings.items():
        if finding:
            yield f"{each.raw_table} {each.partition} {name}: {_ranges(finding)}"
    for reason in each.answer.reasons if each.answer else ():
        yield f"{each.raw_table} {each.partition}: {reason}"


def _ranges(finding: Finding) -> str:
    shown = ", ".join(
        str(one.first) if one.first == one.last else str(one) for one in finding.ranges
    )
    more = finding.range_count - len(finding.ranges)
    return f"{shown} and {more:,} more ranges" if more else shown


def _print_remedies(report: VerificationReport, *, is_asked: bool, allow_gaps: bool) -> None:
    if report.duplicate_count:
        typer.echo(
            f"error: {report.duplicate_count:,} offsets have more than one row; docs/ingest.md "
            "(Verifying) says how to remove them",
            err=True,
        )
    if report.missed_count:
        typer.echo(
            f"error: {report.missed_count:,} messages were missed; land them with driftline verify "
            "--repair while Kafka has them",
            err=True,
        )
    if report.unexplained_count and not allow_gaps:
        remedy = (
            "restore them from the archive or a backup, or accept them with --allow-gaps"
            if is_asked
            else "find out whether messages were missed with --ask-kafka, or accept them with "
            "--allow-gaps"
        )
        typer.echo(
            f"error: {report.unexplained_count:,} offsets between landed ones have no row; "
            + remedy,
            err=True,
        )


def _as_json(report: VerificationReport) -> dict[str, Any]:
    return {
        "rows": report.row_count,
        "duplicates": report.duplicate_count,
        "missed": report.missed_count,
        "repaired": report.landed_count,
        "unexplained_gaps": report.unexplained_count,
        "backward": report.backward_count,
        "partitions": [_partition_as_json(each) for each in report.partitions],
        "label_files": {
            "files": report.files.file_count,
            "rows": report.files.row_count,
            "duplicated": [_partition_as_json(each) for each in report.files.duplicated],
        },
    }


def _partition_as_json(each: PartitionReport) -> dict[str, Any]:
    found: dict[str, Any] = {
        "raw_table": each.raw_table,
        "cluster": each.partition.cluster,
        "topic": each.partition.topic,
        "topic_id": each.partition.topic_id,
        "partition": each.partition.partition,
        "first_offset": each.offsets.first,
        "last_offset": each.offsets.last,
        "rows": each.row_count,
        "duplicates": _finding_as_json(each.duplicates),
        "gaps": _finding_as_json(each.gaps),
        "backward": _finding_as_json(each.backward),
    }
    if each.answer is not None:
        found["kafka"] = {
            "holes": _finding_as_json(each.answer.holes),
            "missed": _finding_as_json(each.answer.missed),
            "repaired": each.landed_count,
            "unknown": _finding_as_json(each.answer.unknown),
            "reasons": list(each.answer.reasons),
        }
    return found


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "offsets": finding.offset_count,
        "ranges": finding.range_count,
        "first_ranges": [[each.first, each.last] for each in finding.ranges],
    }
