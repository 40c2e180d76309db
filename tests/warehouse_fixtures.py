"""The sandbox's ClickHouse as a fixture: one server process for a whole test session."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

_REPOSITORY = Path(__file__).parents[1]
_START_DEADLINE = 60.0
_STOP_DEADLINE = 30.0


@dataclass
class ClickHouseProcess:
    """A running server, how to reach it, and how to stop it."""

    data: Path
    password: str = "admin-secret"
    analyst_password: str = "analyst-secret"
    arguments: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    user: str = "default"
    analyst_user: str = "analyst"
    # Further variables of those that connect to it.
    variables: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        return self.data.with_name(self.data.name + ".log")

    def start(self) -> ClickHouseProcess:
        """Start the process and wait until it answers; raise with its log if it does not."""
        port_file = self.data.with_name(self.data.name + ".port")
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "sandbox.clickhouse_server", "--with-parent"]
        command += ["--data", str(self.data), "--port", "0", "--port-file", str(port_file)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments],
                cwd=_REPOSITORY,
                stdin=subprocess.PIPE,  # which ends with this process, even if it is killed
                stderr=log,
                stdout=log,
                env={
                    **os.environ,
                    "SANDBOX_CLICKHOUSE_PASSWORD": self.password,
                    "SANDBOX_ANALYST_PASSWORD": self.analyst_password,
                },
            )
        deadline = time.monotonic() + _START_DEADLINE
        while not port_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the ClickHouse server did not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        self.port = int(port_file.read_text())
        return self

    def stop(self) -> int:
        """Stop the process (SIGTERM, at last SIGKILL) and give its exit status."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            if self.process.stdin:
                self.process.stdin.close()

    def environment(self, database: str = "driftline", raw_database: str = "raw") -> dict[str, str]:
        """Give the CLICKHOUSE_* variables that point driftline at this server."""
        return {
            "CLICKHOUSE_HOST": self.host,
            "CLICKHOUSE_PORT": str(self.port),
            "CLICKHOUSE_USER": self.user,
            "CLICKHOUSE_PASSWORD": self.password,
            "CLICKHOUSE_SECURE": "false",
            "CLICKHOUSE_DATABASE": database,
            "CLICKHOUSE_RAW_DATABASE": raw_database,
            "CLICKHOUSE_ANALYST_USER": self.analyst_user,
            "CLICKHOUSE_ANALYST_PASSWORD": self.analyst_password,
            **self.variables,
        }

    def client(self, user: str = "default", database: str | None = None, **options: Any) -> Any:
        """Give a clickhouse-connect client of one of the two users."""
        password = self.analyst_password if user == self.analyst_user else self.password
        return clickhouse_connect.get_client(
            host=self.host,
            port=self.port,
            username=user,
            password=options.pop("password", password),
            database=database or "__default__",
            **options,
        )


@pytest.fixture(scope="session")
def clickhouse_server() -> Iterator[ClickHouseProcess]:
    """Run one server over a folder of its own until the session ends.

    With DRIFTLINE_TEST_TARGET=cluster it is one that is told what a cluster is told.
    """
    if os.environ.get("DRIFTLINE_TEST_TARGET") == "cluster":
        from tests.cluster_front import cluster_front

        with (
            tempfile.TemporaryDirectory(prefix="driftline-cluster-") as folder,
            cluster_front(Path(folder)) as front,
        ):
            yield front.server
        return
    with tempfile.TemporaryDirectory(prefix="driftline-clickhouse-") as folder:
        server = ClickHouseProcess(Path(folder) / "data").start()
        try:
            yield server
            if server.process is not None and server.process.poll() is not None:
                raise RuntimeError(
                    f"the ClickHouse server ended by itself with {server.process.returncode}:\n"
                    f"{server.log.read_text()[-4000:]}"
                )
        finally:
            server.stop()
