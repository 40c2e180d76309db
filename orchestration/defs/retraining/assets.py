"""Retraining as an asset: what is due, or the model that a person names."""

# No postponed annotations here: Dagster compares that of the context as it stands.

from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import ResourceParam

from driftline.settings import SettingsError
from orchestration.defs.owners import OWNERS
from orchestration.defs.systems import Systems, first_line

if TYPE_CHECKING:
    from orchestration.retraining.runs import RetrainingRun

RETRAINING = dg.AssetKey("retraining_decisions")
JOB = "retrain"


class RetrainingConfig(dg.Config):
    """What to retrain; `model_name` empty: every model whose breaches make it due."""

    model_name: str = ""
    trigger: str = "button"
    """What asked for that model, for the record."""


@dg.asset(
    key=RETRAINING,
    deps=["fct_breaches", "fct_predictions", "dim_baselines", "int_retraining_rules"],
    group_name="retraining",
    owners=OWNERS,
    kinds={"python"},
    description=(
        "Retrains models with sustained breaches: calls the trainer of retraining.csv, compares "
        "challenger and champion on labels that neither has seen, and registers the challenger "
        "only where it is better. Nothing happens where nothing is due. To retrain by hand, launch "
        f"the job {JOB} with model_name."
    ),
)
def retraining_decisions(
    context: dg.AssetExecutionContext, config: RetrainingConfig, systems: ResourceParam[Systems]
) -> dg.MaterializeResult:  # type: ignore[type-arg] # with one, Dagster refuses it
    """Run what is due, one model after another, and say what was decided."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from driftline import settings as driftline_settings
    from ingest.landing import LandingError
    from orchestration.retraining import RetrainingError
    from orchestration.retraining.runner import retrain
    from orchestration.retraining.triggers import read_due

    decisions: list[dict[str, Any]] = []
    problems: list[str] = []
    try:
        settings = systems.clickhouse_settings()
        work_folder = driftline_settings.home(systems.variables()) / "retraining"
        with systems.exclusive(), systems.clickhouse() as client:
            if config.model_name:
                wanted = [(config.model_name, config.trigger)]
            else:
                due = read_due(client, settings, systems.now())
                for one in due:
                    context.log.info(f"{one.model_name} is due: {one.reason}")
                wanted = [(one.model_name, "warehouse") for one in due]
            for model_name, trigger in wanted:
                try:
                    run = retrain(
                        client,
                        settings,
                        model_name,
                        now=systems.now(),
                        trigger=trigger,
                        # The same run of Dagster, tried again, is the same run of each model.
                        run_id=f"{context.run.run_id}-{model_name}",
                        on_progress=context.log.info,
                        work_folder=work_folder,
                    )
                except RetrainingError as error:
                    # One model's wrong rule must not keep the others from their turn.
                    problems.append(f"{model_name}: {error}")
                    continue
                decisions.append(_decision(run))
                context.log.info(f"{model_name}: {run.status}: {run.reason}")
    except (RetrainingError, SettingsError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    except (ClickHouseError, LandingError) as error:
        raise dg.Failure(
            f"the warehouse cannot be used: {first_line(error)}; see that ClickHouse runs "
            "(driftline sandbox status) and dbt has built the marts (dbt_build)"
        ) from None
    if problems:
        raise dg.Failure("\n".join(problems), metadata={"runs": decisions} if decisions else None)
    return dg.MaterializeResult(
        metadata={
            "decided": "; ".join(f"{one['model_name']}: {one['status']}" for one in decisions)
            or "nothing is due",
            "runs": decisions,
        }
    )


def _decision(run: "RetrainingRun") -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "model_name": run.model_name,
        "status": run.status,
        "reason": run.reason,
        "metric": run.metric,
        "champion_version": run.champion_version,
        "challenger_version": run.challenger_version,
        "evaluation_row_count": run.evaluation_row_count,
        "figures": dict(run.figures),
    }
