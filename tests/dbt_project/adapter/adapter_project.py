"""dbt projects of their own, run by real dbt on a real ClickHouse engine."""

from __future__ import annotations

import textwrap
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbt.cli.main import dbtRunner

from tests.warehouse_fixtures import ClickHouseProcess

PROFILE = """
adapter_test:
  target: test
  outputs:
    test:
      type: clickhousepy
      driver: http
      host: {host}
      port: {port}
      user: {user}
      password: {password}
      schema: {database}
      threads: {threads}
      use_lw_deletes: true
"""
PROJECT = """
name: adapter_test
version: "1.0.0"
profile: adapter_test
flags: {send_anonymous_usage_stats: false}
"""


@dataclass
class Project:
    """A dbt project in a folder of its own, with a database of its own."""

    server: ClickHouseProcess
    folder: Path
    threads: int = 1
    # Further keys of the profile, as YAML.
    profile: str = ""
    database: str = field(default_factory=lambda: f"adapter_{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        (self.folder / "models").mkdir()
        (self.folder / "dbt_project.yml").write_text(PROJECT)
        self.write_profile()
        self.client = self.server.client()

    def write_profile(self, **changed: object) -> None:
        values = {
            "host": self.server.host,
            "port": self.server.port,
            "user": self.server.user,
            "password": self.server.password,
            "database": self.database,
            "threads": self.threads,
        }
        text = PROFILE.format(**(values | changed))
        (self.folder / "profiles.yml").write_text(text + textwrap.indent(self.profile, " " * 6))

    def write(self, name: str, text: str) -> None:
        """Write a model or YAML file; the text may be indented."""
        (self.folder / "models" / name).write_text(textwrap.dedent(text).lstrip("\n"))

    def run(self, *arguments: str, command: str = "run") -> dict[str, Any]:
        """Run dbt and give each node's result (`status`, `message`) by name."""
        return {result.node.name: result for result in self._invoke(command, *arguments)}

    def manifest(self) -> Path:
        """Parse the project and give the manifest's file."""
        self._invoke("parse")
        return self.folder / "target" / "manifest.json"

    def _invoke(self, command: str, *arguments: str) -> Any:
        folders = ["--project-dir", str(self.folder), "--profiles-dir", str(self.folder)]
        outcome = dbtRunner().invoke(["--quiet", command, *folders, *arguments])
        assert outcome.result is not None, outcome.exception
        return outcome.result

    def statuses(self, *arguments: str, command: str = "run") -> dict[str, str]:
        """Run dbt and give each node's status by name."""
        found = self.run(*arguments, command=command)
        return {name: str(result.status) for name, result in found.items()}

    def succeed(self, *arguments: str) -> None:
        messages = {
            name: result.message
            for name, result in self.run(*arguments).items()
            if result.status != "success"
        }
        assert not messages, messages

    def fail(self, name: str, *arguments: str) -> str:
        """Run and give the message that model `name` failed with."""
        result = self.run(*arguments)[name]
        assert result.status == "error"
        return str(result.message)

    def rows(self, model: str, columns: str = "*") -> list[tuple[Any, ...]]:
        query = f"select {columns} from {self.database}.{model}"
        return sorted(tuple(row) for row in self.client.query(query).result_rows)

    def types(self, model: str) -> dict[str, str]:
        described = self.client.query(f"describe table {self.database}.{model}").result_rows
        return {row[0]: row[1] for row in described}

    def tables(self) -> set[str]:
        found = self.client.query(f"show tables from {self.database}").result_rows
        return {row[0] for row in found}
