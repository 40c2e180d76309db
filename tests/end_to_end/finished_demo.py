"""The finished flights demo, unmoved in time, shared by every end-to-end test."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clickhouse_connect
import psutil
import pytest

from driftline.settings import read_env_file

_SAMPLE_SECONDS = 0.5


@dataclass
class Memory:
    """Most memory seen, of all processes together, and what each of them took then."""

    peak_mib: float = 0.0
    mib_of: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Demo:
    """A finished demo whose sandbox still runs."""

    home: Path
    output: str
    environment: Mapping[str, str]
    memory: Memory

    def driftline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_driftline(self.home, *arguments)

    def client(self, kind: str) -> Any:
        prefix = {"admin": "CLICKHOUSE_", "analyst": "CLICKHOUSE_ANALYST_"}[kind]
        return clickhouse_connect.get_client(
            host=self.environment["CLICKHOUSE_HOST"],
            port=int(self.environment["CLICKHOUSE_PORT"]),
            username=self.environment[f"{prefix}USER"],
            password=self.environment[f"{prefix}PASSWORD"],
            database=self.environment["CLICKHOUSE_DATABASE"],
        )

    def frame(self, statement: str, **parameters: object) -> Any:  # a pandas DataFrame
        with closing(self.client("analyst")) as client:
            return client.query_df(statement, parameters=parameters)


def clean_environment() -> dict[str, str]:
    """Give the environment without any of the machine's own configuration."""
    own = ("CLICKHOUSE_", "KAFKA_", "AWS_", "DRIFTLINE_", "DBT_", "DAGSTER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}


def run_driftline(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "driftline", *arguments],
        env={**clean_environment(), "DRIFTLINE_HOME": str(home), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    home = tmp_path_factory.mktemp("flights") / "home"
    try:
        with watched_memory(home) as memory:
            finished = run_driftline(home, "demo", "flights", "--shift-weeks", "0")
        assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-3000:]
        yield Demo(home, finished.stdout, read_env_file(home / "sandbox.env"), memory)
    finally:
        stopped = run_driftline(home, "sandbox", "down")
    assert stopped.returncode == 0, stopped.stderr
    assert processes_of(home) == []


@contextmanager
def watched_memory(home: Path) -> Iterator[Memory]:
    """Watch the proportional set sizes of all processes that work in a home, twice a second."""
    memory = Memory()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_SAMPLE_SECONDS):
            mib_of = memory_by_process(home)
            if (total := sum(mib_of.values())) > memory.peak_mib:
                memory.peak_mib, memory.mib_of = total, mib_of

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield memory
    finally:
        is_over.set()
        watcher.join()


def memory_by_process(home: Path) -> dict[str, float]:
    """Give MiB of each process that was started for a home; what is shared counts once."""
    mib_of = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get("DRIFTLINE_HOME") == str(home):
                memory = process.memory_full_info()
                name = f"{process.pid} {' '.join(process.cmdline())}"
                mib_of[name] = float(getattr(memory, "pss", memory.rss)) / 2**20
    return mib_of


def processes_of(home: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
