"""Spills of tests: their records, files and clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingest.spill import Record, Spill, SpillSettings

MIB = 1024 * 1024
SMALL = 4 * MIB  # of four segments


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def record(number: int, size: int = 0) -> Record:
    return Record(f"id-{number}".encode(), b"x" * size, [("ce_id", f"id-{number}".encode())])


def spill(folder: Path, max_bytes: int = SMALL, **options: Any) -> Spill:
    return Spill(SpillSettings(folder, max_bytes), "predictions", **options)


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"topic=*/*.{suffix}"))


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def key(number: int) -> bytes:
    return record(number).key
