"""The finished flights demo, unmoved in time, shared by every end-to-end test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import psutil
import pytest

from driftline.settings import read_env_file


@dataclass(frozen=True)
class Demo:
    """A finished demo whose sandbox still runs."""

    home: Path
    output: str
    environment: Mapping[str, str]

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
        finished = run_driftline(home, "demo", "flights", "--shift-weeks", "0")
        assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-3000:]
        yield Demo(home, finished.stdout, read_env_file(home / "sandbox.env"))
    finally:
        stopped = run_driftline(home, "sandbox", "down")
    assert stopped.returncode == 0, stopped.stderr
    assert processes_of(home) == []


def processes_of(home: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
