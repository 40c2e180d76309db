"""What Dagster knows of earlier runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

MODEL_TAG = "driftline/model"

_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def unfinished(instance: dg.DagsterInstance, job_name: str) -> Sequence[dg.DagsterRun]:
    """Give the runs of a job that wait or are under way."""
    return instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=_UNFINISHED))


def last_started(instance: dg.DagsterInstance, job_name: str) -> datetime | None:
    """Give when the last run of a job began, in UTC; None where there was none."""
    records = instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=1)
    if not records:
        return None
    record = records[0]
    if record.start_time is None:
        return record.create_timestamp.astimezone(UTC)
    return datetime.fromtimestamp(record.start_time, UTC)
