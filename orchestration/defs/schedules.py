"""A schedule for each model of models.csv: it runs the warehouse as often as its labels come."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence

import dagster as dg
from dagster import ResourceParam

from driftline.settings import ClickHouseSettings, SettingsError
from ingest.raw_tables import quoted
from orchestration.cadence import LONGEST, SHORTEST, turn
from orchestration.dbt_manifest import configuration_folder
from orchestration.defs.jobs import WAREHOUSE
from orchestration.defs.runs import MODEL_TAG, last_started, unfinished
from orchestration.defs.systems import Systems, first_line

# ClickHouse's code for a table or database that is not there (yet).
_UNKNOWN = ("code: 60.", "code: 81.", "UNKNOWN_TABLE", "UNKNOWN_DATABASE")
_OBSERVED_DAYS = 28

_LABEL_LAG = """
with

newest as (
    select label_lag_p95_seconds
    from {database}.fct_model_performance_daily
    where
        model_name = {{model:String}}
        and segment_key = 'all'
        and label_lag_p95_seconds is not null
    order by window_start desc
    limit {{days:UInt32}}
)

select
    if(count() = 0, null, quantileExact(0.5)(assumeNotNull(label_lag_p95_seconds))) as lag_seconds,
    count() as windows
from newest
"""


def monitored_models(environment: Mapping[str, str]) -> Sequence[str]:
    """Name the models of models.csv, each once; raises SettingsError where the file is missing."""
    path = configuration_folder(environment) / "models.csv"
    try:
        with path.open(newline="") as file:
            names = [row.get("model_name") or "" for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise SettingsError(
            f"{path} is missing: DRIFTLINE_CONFIGURATION names a folder with models.csv in it"
        ) from None
    return sorted({name for name in names if name})


def observed_label_lag(
    systems: Systems, settings: ClickHouseSettings, model_name: str
) -> tuple[float | None, int]:
    """Give the usual 95th percentile from prediction to label in seconds, and of how many days.

    The median of the newest 28 days with labels. None where no label has come, or the marts are
    not built. Raises ClickHouseError where ClickHouse does not answer.
    """
    from clickhouse_connect.driver.exceptions import DatabaseError

    statement = _LABEL_LAG.format(database=quoted(settings.database))
    bound = {"model": model_name, "days": _OBSERVED_DAYS}
    with systems.clickhouse() as client:
        try:
            [(lag, windows)] = client.query(statement, parameters=bound).result_rows
        except DatabaseError as error:
            if any(code in str(error) for code in _UNKNOWN):
                return None, 0
            raise
    return (None if lag is None else float(lag)), int(windows)


def schedule_of(model_name: str) -> dg.ScheduleDefinition:
    """Give the schedule of a model: an hourly tick that runs the warehouse when it is due."""

    @dg.schedule(
        name=f"follow_{re.sub(r'[^A-Za-z0-9_]', '_', model_name)}",
        job_name=WAREHOUSE,
        cron_schedule="0 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags={MODEL_TAG: model_name},
        description=(
            f"Runs the warehouse as often as the labels of {model_name} come: every "
            f"{SHORTEST.seconds // 3600} to {LONGEST.days * 24} hours."
        ),
    )
    def follow(
        context: dg.ScheduleEvaluationContext, systems: ResourceParam[Systems]
    ) -> dg.RunRequest | dg.SkipReason:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        waiting = unfinished(context.instance, WAREHOUSE)
        if waiting:
            return dg.SkipReason(f"run {waiting[0].run_id} of the warehouse is not finished")
        try:
            lag, windows = observed_label_lag(systems, systems.clickhouse_settings(), model_name)
        except SettingsError as error:
            return dg.SkipReason(str(error))
        except ClickHouseError as error:
            return dg.SkipReason(
                f"the label lag of {model_name} cannot be read: {first_line(error)}; see that "
                "ClickHouse runs (driftline sandbox status)"
            )
        now = context.scheduled_execution_time
        found = turn(now, last_started(context.instance, WAREHOUSE), lag, windows)
        if not found.is_due:
            return dg.SkipReason(f"{model_name}: {found.reason}")
        return dg.RunRequest(
            run_key=f"{model_name}/{now:%Y-%m-%dT%H}",
            tags={MODEL_TAG: model_name, "driftline/cadence": found.reason},
        )

    return follow
