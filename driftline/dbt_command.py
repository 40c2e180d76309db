"""How dbt is run on the project that ships with driftline."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from driftline import settings

_ROOT = Path(__file__).resolve().parents[1]


def dbt_command(arguments: Sequence[str]) -> list[str]:
    """Give the command line of dbt with `arguments`, by this interpreter."""
    # Not -m dbt.cli.main: the package imports that module first, and Python warns of it.
    run = "from dbt.cli.main import cli; cli(prog_name='dbt')"
    return [sys.executable, "-P", "-c", run, *arguments]


def dbt_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give `environment` with the folders of the project, its profiles, artefacts and logs.

    What is set already wins. Artefacts go to DRIFTLINE_HOME, so that two homes
    (two sandboxes, two test runs) do not disturb one another. Raises SettingsError where
    DRIFTLINE_CONFIGURATION is absolute: dbt would write its compiled SQL over the seeds.
    """
    configuration = environment.get("DRIFTLINE_CONFIGURATION", "")
    if Path(configuration).is_absolute():
        raise settings.SettingsError(
            f"DRIFTLINE_CONFIGURATION={configuration!r} is absolute, and dbt would write over the "
            "files in it: put the folder inside dbt_project and name it relative to that"
        )
    artefacts = settings.home(environment) / "dbt"
    return {
        "DBT_PROJECT_DIR": str(_ROOT / "dbt_project"),
        "DBT_PROFILES_DIR": str(_ROOT / "profiles"),
        "DBT_TARGET_PATH": str(artefacts / "target"),
        "DBT_LOG_PATH": str(artefacts / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        **environment,
        # Beside the target: Dagster's runs have one each, and share this.
        "DRIFTLINE_DESCRIBED_COLUMNS": environment.get("DRIFTLINE_DESCRIBED_COLUMNS")
        or str(artefacts / "described_columns.json"),
    }
