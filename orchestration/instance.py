"""The Dagster instance of a DRIFTLINE_HOME: its folder, its settings, what an earlier one left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from driftline import settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

PROCESS_TAG = "driftline/process"

_DAGSTER_YAML = """\
# Written by driftline. To use settings of your own, set DAGSTER_HOME to a folder that has them.
telemetry:
  enabled: false
# No invitation to a newsletter on the first visit.
nux:
  enabled: false
# One run at a time: runs write to the same tables, and dbt already uses every core it may.
concurrency:
  runs:
    max_concurrent_runs: 1
run_monitoring:
  enabled: true
# Ticks are hourly for each model, and every five minutes for the sensor.
retention:
  schedule:
    purge_after_days: {skipped: 30, failure: 90, success: -1}
  sensor:
    purge_after_days: {skipped: 7, failure: 90, success: -1}
"""


def dagster_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the folder of the instance: DAGSTER_HOME where that is set."""
    given = environment.get("DAGSTER_HOME")
    return Path(given) if given else settings.home(environment) / "dagster"


def prepare_instance(environment: Mapping[str, str]) -> dict[str, str]:
    """Make the folder with its dagster.yaml, and give `environment` with DAGSTER_HOME.

    The file of a DAGSTER_HOME that the environment names is left alone.
    """
    folder = dagster_home(environment)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dagster.yaml"
    if not environment.get("DAGSTER_HOME") and (
        not path.exists() or path.read_text() != _DAGSTER_YAML
    ):
        path.write_text(_DAGSTER_YAML)
    return {**environment, "DAGSTER_HOME": str(folder)}


def open_instance(environment: Mapping[str, str]) -> DagsterInstance:
    """Open the instance of this home; the caller disposes of it."""
    from dagster import DagsterInstance

    return DagsterInstance.from_config(prepare_instance(environment)["DAGSTER_HOME"])


def end_abandoned_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs as failed whose process is gone, and give their ids.

    A process that was killed cannot say so, and its run would keep its place in the queue, which
    has one, for ever. Call it while no daemon of this instance runs: what such a daemon had
    started went with it.
    """
    import dagster as dg

    begun = [
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ]
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=begun)):
        if not _is_alive(run.tags.get(PROCESS_TAG, "")):
            instance.report_run_failed(run, "the process of this run was ended from outside")
            ended.append(run.run_id)
    return ended


def _is_alive(process_id: str) -> bool:
    if not process_id:
        return False
    try:
        os.kill(int(process_id), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
