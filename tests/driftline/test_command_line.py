"""The command's frame: help without loading the systems' clients, failures with a remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ["", "migrate", "load", "labels", "labels import", "baseline", "baseline register"]


def run(command: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLICKHOUSE_", "KAFKA_", "DRIFTLINE_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "driftline", *command.split(), *options],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "Usage: driftline" in done.stdout


def test_help_loads_no_client() -> None:
    script = (
        "import sys; from driftline.command_line import app\n"
        "print(sorted({'confluent_kafka', 'clickhouse_connect', 'pyarrow', 'chdb', 'dbt'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["migrate", "load --until-caught-up"])
def test_missing_address_is_named_with_the_remedy(command: str, tmp_path: Path) -> None:
    done = run(command, DRIFTLINE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "is not set: start the sandbox (driftline sandbox up)" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_target_is_explained(tmp_path: Path) -> None:
    done = run("migrate", DRIFTLINE_HOME=str(tmp_path), DRIFTLINE_TARGET="staging")
    assert done.returncode == 1
    assert "DRIFTLINE_TARGET='staging'" in done.stderr
    assert "Traceback" not in done.stderr


def test_logger_comes_from_the_package_itself() -> None:
    import driftline
    from ingest.label_logger import LabelLogger
    from ingest.prediction_logger import PredictionLogger

    assert driftline.PredictionLogger is PredictionLogger
    assert driftline.LabelLogger is LabelLogger
    with pytest.raises(AttributeError, match="no attribute 'Logger'"):
        _ = driftline.Logger
