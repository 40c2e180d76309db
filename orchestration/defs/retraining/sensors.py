"""The sensor that starts retraining where breaches last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import dagster as dg
from dagster import ResourceParam

from driftline.settings import SettingsError
from orchestration.defs.retraining.assets import JOB, RETRAINING
from orchestration.defs.runs import MODEL_TAG, unfinished
from orchestration.defs.systems import Systems, first_line

_SECONDS = 300


class Due(Protocol):
    """A retraining that `orchestration.retraining.triggers.read_due` finds due."""

    @property
    def model_name(self) -> str:
        """The model."""

    @property
    def breach_ids(self) -> Sequence[str]:
        """The breaches that make it due."""

    @property
    def reason(self) -> str:
        """Why, in words."""


def run_request(due: Due, now: datetime) -> dg.RunRequest:
    """Give the request for a retraining.

    Its key lets the same breaches ask once a day only: a run that dies before it is recorded, and
    so starts no cool-down, cannot come again at every tick.
    """
    breaches = hashlib.sha256("\n".join(sorted(due.breach_ids)).encode()).hexdigest()[:12]
    return dg.RunRequest(
        run_key=f"{due.model_name}/{breaches}/{now:%Y-%m-%d}",
        run_config=dg.RunConfig(
            ops={
                RETRAINING.to_python_identifier(): {
                    "config": {"model_name": due.model_name, "trigger": "sensor"}
                }
            }
        ),
        tags={MODEL_TAG: due.model_name, "driftline/reason": due.reason},
    )


@dg.sensor(
    name="sustained_breaches",
    job_name=JOB,
    minimum_interval_seconds=_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Starts the retraining of models whose breaches last (retraining.csv says from when on, "
        "and how long to wait between two runs)."
    ),
)
def sustained_breaches(
    context: dg.SensorEvaluationContext, systems: ResourceParam[Systems]
) -> dg.SensorResult | dg.SkipReason:
    """Ask what is due; the cool-down is in the answer."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from ingest.landing import LandingError
    from orchestration.retraining import RetrainingError
    from orchestration.retraining.triggers import read_due

    now = systems.now()
    try:
        settings = systems.clickhouse_settings()
        with systems.clickhouse() as client:
            found = read_due(client, settings, now)
    except (RetrainingError, SettingsError) as error:
        return dg.SkipReason(str(error))
    except (ClickHouseError, LandingError) as error:
        return dg.SkipReason(
            f"the breaches cannot be read: {first_line(error)}; see that ClickHouse runs "
            "(driftline sandbox status) and that the job warehouse has built the marts"
        )
    under_way = {run.tags.get(MODEL_TAG) for run in unfinished(context.instance, JOB)}
    due = [one for one in found if one.model_name not in under_way]
    # The cursor is for people: what the last tick that found something saw.
    cursor = json.dumps({one.model_name: sorted(one.breach_ids) for one in found})
    if not due:
        waiting = ", ".join(sorted(one.model_name for one in found))
        return dg.SensorResult(
            skip_reason=(
                f"under way already: {waiting}"
                if found
                else "no breach lasts long enough, or the cool-down after the last run is not over"
            ),
            cursor=cursor,
        )
    return dg.SensorResult(run_requests=[run_request(one, now) for one in due], cursor=cursor)
