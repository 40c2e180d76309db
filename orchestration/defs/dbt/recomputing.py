"""The job that recomputes days of events by hand: their bounds reach dbt as variables.

A job of an op, not of the assets: an asset is partitioned in every run or in none, and the usual
run of the warehouse has no days, since watermarks say what is new (docs/decisions/0027).
"""

# No postponed annotations here: Dagster compares that of the context as it stands.

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster import ResourceParam

from orchestration.dbt_arguments import dbt_arguments, window_of_days
from orchestration.dbt_manifest import Manifest
from orchestration.dbt_outcome import DbtOutcome
from orchestration.defs.dbt.assets import run_dbt
from orchestration.defs.systems import Systems

RECOMPUTE_DAYS = "recompute_days"


class RecomputeConfig(dg.Config):
    """What to recompute beside the day of the partition."""

    last_day: str = ""
    """An ISO date: all days until this one, included, in one run; empty: the partition's alone."""

    select: list[str] = []  # noqa: RUF012 - pydantic copies it
    """Names of dbt's nodes; empty: all."""


def build_recompute_job(manifest: Manifest, days: dg.DailyPartitionsDefinition) -> dg.JobDefinition:
    """Give the job with a partition for each day."""

    @dg.op(
        name="dbt_for_days",
        out={"done": dg.Out(dg.Nothing)},
        description="dbt build; the event hours of the chosen days are counted anew.",
    )
    def dbt_for_days(
        context: dg.OpExecutionContext, config: RecomputeConfig, systems: ResourceParam[Systems]
    ) -> Iterator[Any]:
        outcome = DbtOutcome()
        try:
            window = window_of_days(context.partition_key, config.last_day or None)
        except ValueError as error:
            raise dg.Failure(f"last_day: {error}", allow_retries=False) from None
        arguments = dbt_arguments(window, select=config.select)
        yield from run_dbt(context, systems, manifest, arguments, outcome)
        if outcome.exit_code:
            raise dg.Failure(outcome.failure, allow_retries=False)
        context.log.info(f"dbt: {outcome.summary}")
        yield dg.Output(None, "done")

    @dg.job(
        name=RECOMPUTE_DAYS,
        partitions_def=days,
        executor_def=dg.in_process_executor,
        description=(
            "dbt, counting the events of the chosen days anew whatever the watermarks say: after "
            "a repair of raw rows, say."
        ),
    )
    def recompute_days() -> None:
        dbt_for_days()

    return recompute_days
