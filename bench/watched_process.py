"""What a process takes while it runs: seconds, CPU seconds, memory over time."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_SAMPLE_SECONDS = 0.25


class ProcessFailedError(Exception):
    """A process under measurement ended with an error. The message has what it wrote."""


@dataclass(frozen=True)
class Usage:
    """What a process took. Memory is its proportional set (PSS; on macOS its resident set)."""

    seconds: float
    cpu_seconds: float
    memory_mib: Sequence[float] = field(repr=False)

    def third_mib(self, number: int) -> float:
        """Median memory over the first (0), second (1) or last (2) third of the run."""
        samples = len(self.memory_mib)
        start = min(number * samples // 3, samples - 1)
        return statistics.median(
            self.memory_mib[start : max((number + 1) * samples // 3, start + 1)]
        )

    @property
    def peak_mib(self) -> float:
        """Most memory seen."""
        return max(self.memory_mib)


class WatchedProcess:
    """A process that is started at once, and sampled four times a second until it ends."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> None:
        self._log = log
        self._started = time.monotonic()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._memory: list[float] = []
        self._cpu_seconds = 0.0
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def wait(self) -> Usage:
        """Wait until the process ends and give what it took; raises ProcessFailedError."""
        status = self.process.wait()
        seconds = time.monotonic() - self._started
        self._sampler.join()
        if status != 0:
            raise ProcessFailedError(
                f"{self.process.args!r} ended with {status}:\n{self._log.read_text()[-4000:]}"
            )
        return Usage(seconds, self._cpu_seconds, self._memory or [0.0])

    def stop(self) -> Usage:
        """Ask the process to end (SIGTERM), and give what it took."""
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """End the process at once, where it is still running."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _sample(self) -> None:
        try:
            process = psutil.Process(self.process.pid)
            while self.process.returncode is None:
                memory = process.memory_full_info()
                self._memory.append(getattr(memory, "pss", memory.rss) / 2**20)
                self._cpu_seconds = cpu_seconds(process)
                time.sleep(_SAMPLE_SECONDS)
        except psutil.Error:
            return  # it has ended


def cpu_seconds(process: psutil.Process) -> float:
    """Give the CPU time that a process has taken so far."""
    times = process.cpu_times()
    return float(times.user + times.system)
