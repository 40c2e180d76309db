"""How a part of the sandbox says which port it was given: a file that appears whole."""

from __future__ import annotations

import os
from pathlib import Path


def write_port(path: Path, port: int) -> None:
    """Write `port` so that a reader sees all of it or nothing."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(f"{port}\n")
    part.replace(path)


def read_port(path: Path) -> int | None:
    """Give the port in `path`, or None while it has not been written."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdecimal() else None
