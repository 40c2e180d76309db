"""The command `driftline dashboard`."""

from __future__ import annotations

import ipaddress
import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dash import Dash

_THREADS = 8


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""
    app.command("dashboard")(dashboard)


def dashboard(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8050,
    expose_without_authentication: Annotated[
        bool,
        typer.Option(
            "--expose-without-authentication",
            help="Listen on an address others reach, though the page asks nobody who they are.",
        ),
    ] = False,
) -> None:
    """Serve the live page over the marts, read as the read-only analyst, until Ctrl-C."""
    if not is_loopback(host) and not expose_without_authentication:
        typer.echo(
            f"error: {host} can be reached by others, and the page asks nobody who they are: put a "
            "proxy that does in front of 127.0.0.1, or say --expose-without-authentication",
            err=True,
        )
        raise typer.Exit(1)
    try:
        server = listening_server(_application(), host, port)
    except OSError as error:
        typer.echo(
            f"error: cannot listen on {host}:{port} ({error.strerror or error}): choose another "
            "--port (0 takes a free one)",
            err=True,
        )
        raise typer.Exit(1) from None
    shown_host = f"[{host}]" if ":" in host else host
    typer.echo(f"dashboard: http://{shown_host}:{server.effective_port}/ (Ctrl-C ends it)")
    # A supervisor's SIGTERM ends it like Ctrl-C: queries under way are waited for, not dropped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    typer.echo("the dashboard is down")


def is_loopback(host: str) -> bool:
    """Say whether only programs on this machine reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening_server(app: Dash, host: str, port: int) -> Any:
    """Give a waitress server of the page that listens already; `run()` serves until Ctrl-C.

    `effective_port` is its port. Raises OSError where the address is taken or not of this machine.
    """
    from waitress.server import create_server

    if is_loopback(host):
        # A page elsewhere whose name is made to point here (DNS rebinding) gets no answer.
        app.server.config["TRUSTED_HOSTS"] = ["localhost", "127.0.0.1", "[::1]"]
    return create_server(app.server, host=host, port=port, threads=_THREADS, ident=None)


def _application() -> Dash:
    import time
    from datetime import UTC, datetime

    from dashboard.app import create_app
    from dashboard.warehouse import Warehouse, connect_as_analyst

    warehouse = Warehouse(connect_as_analyst, time.monotonic)
    return create_app(warehouse, lambda: datetime.now(UTC))
