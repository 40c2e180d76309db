"""Once a day the archive takes what has settled."""

from __future__ import annotations

import dagster as dg
from dagster import ResourceParam

from orchestration.defs.archive.assets import JOB, is_configured
from orchestration.defs.runs import unfinished
from orchestration.defs.systems import Systems


@dg.schedule(
    name="archive_daily",
    job_name=JOB,
    # A day is settled when it has been over for 24 hours: any hour would do.
    cron_schedule="30 1 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Archives the raw events of settled days, where DRIFTLINE_ARCHIVE_URL is set.",
)
def archive_daily(
    context: dg.ScheduleEvaluationContext, systems: ResourceParam[Systems]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run, unless there is no archive or one is under way."""
    if not is_configured(systems.variables()):
        return dg.SkipReason("DRIFTLINE_ARCHIVE_URL is not set: nothing is archived")
    waiting = unfinished(context.instance, JOB)
    if waiting:
        return dg.SkipReason(f"run {waiting[0].run_id} of the archive is not finished")
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y-%m-%d}")
