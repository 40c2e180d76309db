"""The commands of `driftline`, gathered from the parts that implement them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import typer

from driftline.settings import SettingsError, load_sandbox_environment

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A model-monitoring warehouse: data quality, drift and performance of models, in SQL.",
)


@app.callback()
def _prepare() -> None:
    try:
        load_sandbox_environment()
    except SettingsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


# Each part owns its commands: a module with `register(app)`.
for _module in (
    "ingest.command_line",
    "driftline.warehouse_commands",
    "driftline.monitor_commands",
    "dashboard.command_line",
    "orchestration.command_line",
    "sandbox.command_line",
):
    if find_spec(_module) is not None:
        import_module(_module).register(app)
