"""The commands `driftline query` and `driftline dbt`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from io import IOBase

    from clickhouse_connect.driver.client import Client


class OutputFormat(StrEnum):
    """How `driftline query` prints a result."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


_CLICKHOUSE_FORMATS = {OutputFormat.CSV: "CSVWithNames", OutputFormat.JSON: "JSONEachRow"}


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""
    app.command("query")(query)
    app.command(
        "dbt",
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            # So that `driftline dbt run --help` is dbt's.
            "help_option_names": [],
        },
    )(dbt)


def query(
    sql: Annotated[
        str, typer.Argument(help="A statement that reads; - takes it from standard input.")
    ],
    output_format: Annotated[
        OutputFormat, typer.Option("--format", help="csv has a header; json is one object a line.")
    ] = OutputFormat.TABLE,
    max_rows: Annotated[
        int,
        typer.Option(min=1, help="Rows that a table shows at most; csv and json give all of them."),
    ] = 200,
) -> None:
    """Query the marts as the read-only analyst (CLICKHOUSE_ANALYST_USER)."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from driftline.settings import SettingsError

    statement = sys.stdin.read() if sql == "-" else sql
    try:
        client = analyst_client()
        try:
            if output_format is OutputFormat.TABLE:
                _print_table(client, statement, max_rows)
            else:
                _copy_stream(client, statement, _CLICKHOUSE_FORMATS[output_format])
        finally:
            client.close()
    except (ClickHouseError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def dbt(context: typer.Context) -> None:
    """Run dbt on driftline's project, with every argument as it is; its exit status is dbt's."""
    import subprocess

    from driftline.dbt_command import dbt_command, dbt_environment
    from driftline.settings import SettingsError

    try:
        environment = dbt_environment()
    except SettingsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    process = subprocess.Popen(dbt_command(context.args), env=environment)  # noqa: S603
    while True:
        try:
            raise typer.Exit(process.wait())
        except KeyboardInterrupt:
            # The terminal sends it to dbt as well: let dbt cancel its queries and say so.
            continue


def analyst_client(environment: Mapping[str, str] = os.environ, **options: Any) -> Client:
    """Connect as the read-only analyst, in the database of the marts.

    `options` are further ones of clickhouse_connect.get_client. Raises SettingsError and the
    client's errors.
    """
    from driftline.clickhouse import clickhouse_client
    from driftline.settings import ClickHouseSettings

    analyst = ClickHouseSettings.for_analyst(environment)
    return clickhouse_client(analyst, database=analyst.database, **options)


def _print_table(client: Client, statement: str, max_rows: int) -> None:
    import json

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Names come even with no rows; ClickHouse writes times and decimals as it would show them.
    with _stream(client, statement, "JSONCompactEachRowWithNamesAndTypes") as lines:
        names, types = json.loads(next(lines)), json.loads(next(lines))
        table = Table()
        for name, of_type in zip(names, types, strict=True):
            is_number = any(word in of_type for word in ("Int", "Float", "Decimal"))
            # A long value goes on in the next line: nothing is cut off.
            table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
        is_cut = False
        for line in lines:
            if table.row_count == max_rows:
                is_cut = True
                break
            table.add_row(*(Text(shown(value)) for value in json.loads(line)))
    terminal = Console()
    # In a pipe or a file there is no width to keep to.
    (terminal if terminal.is_terminal else Console(width=100_000)).print(table)
    if is_cut:
        typer.echo(
            f"the first {max_rows} rows: --max-rows N shows more, --format csv all", err=True
        )


def shown(value: object) -> str:
    """Give a value as a cell of a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _copy_stream(client: Client, statement: str, clickhouse_format: str) -> None:
    with _stream(client, statement, clickhouse_format) as lines:
        for line in lines:
            sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


@contextmanager
def _stream(client: Client, statement: str, clickhouse_format: str) -> Iterator[Iterator[bytes]]:
    stream = cast(
        "IOBase",
        client.raw_stream(
            statement,
            fmt=clickhouse_format,
            # An error then comes as an error, not as text behind the first rows.
            settings={"wait_end_of_query": 1},
        ),
    )
    try:
        yield iter(stream)
    finally:
        stream.close()
