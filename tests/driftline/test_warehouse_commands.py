"""`driftline query` and `driftline dbt`, against a running sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest

from driftline.dbt_command import dbt_environment
from driftline.settings import ClickHouseSettings, SettingsError
from sandbox import lifecycle

SYSTEM_VARIABLES = ("CLICKHOUSE_", "KAFKA_", "AWS_", "DRIFTLINE_", "DBT_")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give the environment of a sandbox whose marts have one table of two rows."""
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(SYSTEM_VARIABLES)
    } | {
        "DRIFTLINE_HOME": str(tmp_path_factory.mktemp("home")),
        "KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092",
        "AWS_PROFILE": "mine",
    }
    lifecycle.up(variables)
    try:
        clickhouse = ClickHouseSettings.from_environment(variables)
        with clickhouse_connect.get_client(
            host=clickhouse.host,
            port=clickhouse.port,
            username=clickhouse.user,
            password=clickhouse.password,
        ) as client:
            client.command("create database driftline")
            client.command(
                "create table driftline.verdicts (feature String, psi Float64, n UInt64, "
                "reason Nullable(String)) order by feature"
            )
            client.command(
                "insert into driftline.verdicts values ('[red]', 0.123456789, 1, null), "
                "('wind, gust', 2.5, 18446744073709551615, 'few')"
            )
        yield variables
    finally:
        lifecycle.down(variables)


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "driftline", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_query_prints_a_table(environment: dict[str, str]) -> None:
    result = run(environment, "query", "select feature, psi, reason from verdicts order by feature")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "feature" in lines[1]
    assert "[red]" in lines[3]
    assert "0.123457" in lines[3]
    assert "-" in lines[3]
    assert "wind, gust" in lines[4]


def test_query_shows_columns_of_an_empty_result(environment: dict[str, str]) -> None:
    result = run(environment, "query", "select feature, psi from verdicts where psi > 9")
    assert result.returncode == 0, result.stderr
    assert "feature" in result.stdout


def test_query_says_where_a_table_was_cut(environment: dict[str, str]) -> None:
    result = run(environment, "query", "--max-rows", "3", "select number from numbers(10)")
    assert result.returncode == 0, result.stderr
    assert "2" in result.stdout
    assert "3" not in result.stdout
    assert "the first 3 rows" in result.stderr


def test_query_prints_csv(environment: dict[str, str]) -> None:
    statement = "select feature, n, reason from verdicts order by feature"
    result = run(environment, "query", "--format", "csv", statement)
    assert result.stdout == (
        '"feature","n","reason"\n"[red]",1,\\N\n"wind, gust",18446744073709551615,"few"\n'
    )


def test_query_prints_one_json_object_a_line(environment: dict[str, str]) -> None:
    statement = "select feature, psi from verdicts order by feature"
    result = run(environment, "query", statement, "--format", "json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"feature": "[red]", "psi": 0.123456789},
        {"feature": "wind, gust", "psi": 2.5},
    ]


@pytest.mark.parametrize("output_format", ["table", "csv"])
def test_query_says_what_is_wrong_with_a_statement(
    environment: dict[str, str], output_format: str
) -> None:
    result = run(environment, "query", "--format", output_format, "select nonsense from verdicts")
    assert result.returncode == 1
    assert "nonsense" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "insert into verdicts values ('x', 1, 1, null)",
        "drop table verdicts",
        "create table mine (a Int8) order by a",
        "select * from file('/etc/passwd', 'LineAsString')",
    ],
)
def test_query_refuses_to_write_and_to_read_files(
    environment: dict[str, str], statement: str
) -> None:
    result = run(environment, "query", statement)
    assert result.returncode == 1
    assert "root:" not in result.stdout
    counted = run(environment, "query", "--format", "csv", "select count() from verdicts")
    assert counted.stdout.splitlines()[1:] == ["2"]


def test_query_without_an_address_names_the_remedy(tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "DRIFTLINE_HOME": str(tmp_path)}
    result = run(bare, "query", "select 1")
    assert result.returncode == 1
    assert "driftline sandbox up" in result.stderr
    assert "Traceback" not in result.stderr


def test_dbt_gets_its_folders_and_arguments(environment: dict[str, str], tmp_path: Path) -> None:
    own = environment | {"DBT_TARGET_PATH": str(tmp_path / "target")}
    result = run(own, "dbt", "debug", "--connection")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "OK connection ok" in result.stdout


def test_dbt_exit_status_is_dbts(environment: dict[str, str]) -> None:
    result = run(environment, "dbt", "build", "--no-such-option")
    assert result.returncode == 2
    assert "--no-such-option" in result.stdout + result.stderr


def test_dbt_help_is_dbts(environment: dict[str, str]) -> None:
    result = run(environment, "dbt", "run", "--help")
    assert result.returncode == 0
    assert "--full-refresh" in result.stdout


def test_dbt_refuses_a_configuration_that_it_would_write_over(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    with pytest.raises(SettingsError, match="DRIFTLINE_CONFIGURATION"):
        dbt_environment({"DRIFTLINE_CONFIGURATION": str(seeds)})


def test_dbt_remembers_columns_beside_its_target_unless_told_where(tmp_path: Path) -> None:
    def file(**variables: str) -> Path:
        environment = {"DRIFTLINE_HOME": str(tmp_path), **variables}
        return Path(dbt_environment(environment)["DRIFTLINE_DESCRIBED_COLUMNS"])

    assert file().is_relative_to(tmp_path)
    assert file(DRIFTLINE_DESCRIBED_COLUMNS="") == file()
    assert file(DBT_TARGET_PATH="/elsewhere") == file()
    assert file(DRIFTLINE_DESCRIBED_COLUMNS="/shared.json") == Path("/shared.json")
