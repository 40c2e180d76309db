from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from driftline.__main__ import __file__ as main_file
from tests.orchestration.cloudwatch.mart_tables import MartTables
from tests.warehouse_fixtures import ClickHouseProcess

REPOSITORY = Path(main_file).parents[1]


def driftline(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "driftline", *arguments],
        env=dict(environment),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def environment(
    clickhouse_server: ClickHouseProcess, empty_warehouse: MartTables, moto_url: str, tmp_path: Path
) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if "AWS_" not in name}
    return {
        **inherited,
        **clickhouse_server.environment(empty_warehouse.database, empty_warehouse.raw_database),
        "DRIFTLINE_HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }


def fill(warehouse: MartTables) -> None:
    warehouse.create()
    warehouse.record_builds(datetime.now(UTC))
    warehouse.fill("dim_models", {"model_name": "m"})
    warehouse.fill("int_monitor_rules", {"model_name": "m", "monitor_name": "[fell]"})
    warehouse.fill("fct_breaches", {"model_name": "m", "monitor_name": "[fell]"})


def test_publish_says_what_it_sent(
    environment: dict[str, str], empty_warehouse: MartTables, cloudwatch: Any
) -> None:
    fill(empty_warehouse)
    done = driftline(environment, "publish", "--run-id", "one")

    assert (done.returncode, done.stderr) == (0, "")
    assert "4 metrics sent to CloudWatch namespace Driftline" in done.stdout
    assert "alarms: 2 put, 0 deleted, 0 unchanged" in done.stdout
    assert "dashboards: 1 put" in done.stdout
    assert "rules breached (1):\n  [fell]" in done.stdout
    assert "AUC of m 1" in done.stdout
    listed = cloudwatch.list_metrics(Namespace="Driftline")["Metrics"]
    assert len(listed) == 4

    again = driftline(environment, "publish", "--run-id", "one")
    assert "0 metrics sent" in again.stdout
    assert "alarms: 0 put, 0 deleted, 2 unchanged" in again.stdout


def test_dry_run_shows_and_sends_nothing(
    environment: dict[str, str], empty_warehouse: MartTables, cloudwatch: Any
) -> None:
    fill(empty_warehouse)
    done = driftline(environment, "publish", "--dry-run")

    assert done.returncode == 0
    assert "Model=m, Rule=[fell]" in done.stdout
    assert "driftline-heartbeat/m" in done.stdout
    assert cloudwatch.list_metrics(Namespace="Driftline")["Metrics"] == []
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []
    assert empty_warehouse.publications() == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "driftline dbt build"),
        ({"DRIFTLINE_METRIC_BUDGET": "none"}, "DRIFTLINE_METRIC_BUDGET='none'"),
        ({"CLICKHOUSE_RAW_DATABASE": "nowhere"}, "driftline migrate"),
        ({"AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": ""}, "AWS_DEFAULT_REGION"),
    ],
    ids=["no marts", "wrong setting", "no outbox", "no region"],
)
def test_failure_is_one_line_that_names_the_remedy(
    environment: dict[str, str], changed: dict[str, str], words: str
) -> None:
    done = driftline({**environment, **changed}, "publish")

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_disabled_publisher_says_so(environment: dict[str, str]) -> None:
    done = driftline({**environment, "DRIFTLINE_CLOUDWATCH_ENABLED": "false"}, "publish")
    assert done.returncode == 0
    assert "nothing was published" in done.stdout


def test_help_needs_no_heavy_imports() -> None:
    script = (
        "import sys; from driftline.command_line import app\n"
        "try: app(['publish', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'boto3', 'botocore', 'dagster', 'clickhouse_connect'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "--dry-run" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
