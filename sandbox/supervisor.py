"""The process that keeps the parts of the sandbox: starts them, logs them, stops them together.

Run as `python -m sandbox.supervisor --home DIR PART…`; honcho supervises. When one part ends,
for whatever reason, honcho ends the others: a mock broker that died has lost its offsets anyway,
so a sandbox of halves would mislead. `logs/supervisor.log` says which part ended and how.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
from logging.handlers import RotatingFileHandler
from pathlib import Path

import honcho.manager
from honcho.printer import Message

from sandbox.parts import PARTS

_LOG_BYTES = 10_000_000
_STOP_SECONDS = 20


class PartLogs:
    """What honcho calls a printer: writes each part's lines to `logs/<part>.log`."""

    width = 0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loggers: dict[str, logging.Logger] = {}

    def write(self, message: Message) -> None:
        """Write the line, or lines, of one part; honcho's own go to supervisor.log."""
        name = "supervisor" if message.name in (None, "system") else str(message.name)
        data = message.data
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
        for line in text.splitlines():
            self._logger(name).info(line)

    def _logger(self, name: str) -> logging.Logger:
        if name not in self._loggers:
            logger = logging.Logger(name)
            handler = RotatingFileHandler(
                self._folder / f"{name}.log", maxBytes=_LOG_BYTES, backupCount=1
            )
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            logger.addHandler(handler)
            self._loggers[name] = logger
        return self._loggers[name]


def main() -> None:
    """Keep the parts until SIGTERM or until one of them ends."""
    arguments = argparse.ArgumentParser(prog="sandbox.supervisor")
    arguments.add_argument("--home", type=Path, required=True)
    arguments.add_argument("parts", nargs="+", choices=[part.name for part in PARTS])
    options = arguments.parse_args()

    # Five seconds, honcho's own, is short for ClickHouse to write what it holds.
    honcho.manager.KILL_WAIT = _STOP_SECONDS
    supervisor = honcho.manager.Manager(PartLogs(options.home / "logs"))
    secret_names = {name for part in PARTS for name in part.credentials()}
    for part in PARTS:
        if part.name in options.parts:
            # Each part gets its own secrets and no other's.
            hidden = secret_names - part.credentials().keys()
            supervisor.add_process(
                part.name,
                "exec " + shlex.join(part.command(options.home, os.environ)),
                env={name: value for name, value in os.environ.items() if name not in hidden},
            )
    supervisor.loop()
    raise SystemExit(supervisor.returncode)


if __name__ == "__main__":
    main()
