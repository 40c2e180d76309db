"""Once a day the landed offsets are verified."""

from __future__ import annotations

import dagster as dg

from orchestration.defs.runs import unfinished
from orchestration.defs.verification.assets import JOB


@dg.schedule(
    name="verify_landed_offsets_daily",
    job_name=JOB,
    # When the archive has taken what was due.
    cron_schedule="30 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks once a day whether each offset in the raw tables has landed once.",
)
def verify_landed_offsets_daily(
    context: dg.ScheduleEvaluationContext,
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run, unless one is under way."""
    waiting = unfinished(context.instance, JOB)
    if waiting:
        return dg.SkipReason(f"run {waiting[0].run_id} of the verification is not finished")
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y-%m-%d}")
