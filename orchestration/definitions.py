"""The Dagster definitions: `dagster-webserver -m orchestration.definitions`.

Nothing happens at import. Loading reads models.csv and dbt's manifest, which it has dbt parse when
the project has changed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import dagster as dg

from driftline import settings
from orchestration.dbt_manifest import read_manifest
from orchestration.defs.archive.assets import ARCHIVE, event_archive
from orchestration.defs.archive.schedules import archive_daily
from orchestration.defs.cloudwatch.assets import cloudwatch_publication
from orchestration.defs.dbt.assets import build_dbt_assets, dbt_verdict
from orchestration.defs.dbt.partitions import event_days
from orchestration.defs.dbt.recomputing import build_recompute_job
from orchestration.defs.jobs import asset_jobs
from orchestration.defs.loader.assets import loader_lag, raw_tables
from orchestration.defs.retraining.assets import RETRAINING, retraining_decisions
from orchestration.defs.retraining.sensors import sustained_breaches
from orchestration.defs.schedules import monitored_models, schedule_of
from orchestration.defs.systems import Systems
from orchestration.defs.verification.assets import landed_offsets
from orchestration.defs.verification.schedules import verify_landed_offsets_daily


def build_definitions(
    environment: Mapping[str, str], systems: Systems | None = None
) -> dg.Definitions:
    """Give the definitions for the project and configuration that `environment` names.

    `systems` are what runs use; None reads the environment of the process at each use. Raises
    ManifestError or SettingsError where the project or the configuration is wrong.
    """
    variables = dict(environment)
    settings.load_sandbox_environment(variables)
    manifest = read_manifest(variables)
    return dg.Definitions(
        assets=[
            loader_lag,
            *raw_tables(
                manifest,
                written_by={"retraining_runs": RETRAINING, "archive_manifest": ARCHIVE},
            ),
            landed_offsets,
            event_archive,
            build_dbt_assets(manifest),
            cloudwatch_publication,
            retraining_decisions,
        ],
        asset_checks=[dbt_verdict],
        jobs=[*asset_jobs(), build_recompute_job(manifest, event_days(variables))],
        schedules=[
            *map(schedule_of, monitored_models(variables)),
            archive_daily,
            verify_landed_offsets_daily,
        ],
        sensors=[sustained_breaches],
        resources={"systems": systems or Systems()},
        # One process a run: dbt is one of its own, and nothing else here is worth another start
        # of Python. A step that fails does not end the run's others.
        executor=dg.in_process_executor,
    )


@dg.definitions
def definitions() -> dg.Definitions:
    """Give the definitions for the environment of this process."""
    return build_definitions(os.environ)
