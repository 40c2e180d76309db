"""The commands of orchestration, gathered from its packages."""

from __future__ import annotations

from importlib import import_module

import typer


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""
    for module in (
        "orchestration.cloudwatch.command_line",
        "orchestration.retraining.command_line",
    ):
        import_module(module).register(app)
