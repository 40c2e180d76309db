"""The loader of the demo: `driftline load`, as the process of its own that it is in production."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from driftline.settings import KafkaSettings
from ingest.lag import LagReader
from sandbox.problems import MendableError

_POLL_SECONDS = 0.05
_STANDSTILL_SECONDS = 120.0
_STOP_SECONDS = 60.0


class LoaderProcessError(MendableError):
    """The loader ended or stands still. The message names its log."""


class LoaderProcess:
    """Runs the loader while the context lasts; its output goes to `log`."""

    def __init__(
        self, environment: Mapping[str, str], log: Path, arguments: tuple[str, ...] = ()
    ) -> None:
        self._environment = dict(environment)
        self._log = log
        self._arguments = arguments

    def __enter__(self) -> Self:
        """Start it."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._lag = LagReader(KafkaSettings.from_environment(self._environment))
        with self._log.open("w") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "driftline", "load", *self._arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def wait_until_behind_at_most(self, messages: int) -> None:
        """Wait until no partition has more than `messages` that have not landed.

        Raises LoaderProcessError when the loader has ended, or lands nothing for two minutes.
        """
        least, deadline = None, time.monotonic() + _STANDSTILL_SECONDS
        while True:
            lag = self._lag.lag().values()
            if max(lag, default=0) <= messages:
                return
            if self._process.poll() is not None:
                raise LoaderProcessError(
                    f"the loader ended with status {self._process.returncode}: see {self._log}"
                )
            if least is None or sum(lag) < least:
                least, deadline = sum(lag), time.monotonic() + _STANDSTILL_SECONDS
            elif time.monotonic() > deadline:
                raise LoaderProcessError(
                    f"the loader has landed nothing for {_STANDSTILL_SECONDS:.0f} seconds, with "
                    f"{sum(lag)} messages waiting: see {self._log}"
                )
            time.sleep(_POLL_SECONDS)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let it land what it holds, and end; by force when it does not."""
        self._lag.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
