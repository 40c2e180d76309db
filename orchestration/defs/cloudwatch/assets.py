"""The publication to CloudWatch as an asset: it hangs on dbt's run, not on dbt's success."""

# No postponed annotations here: Dagster compares that of the context as it stands.

from typing import TYPE_CHECKING, cast

import dagster as dg
from dagster import ResourceParam

from driftline.settings import SettingsError
from orchestration.defs.dbt.assets import DBT_BUILD
from orchestration.defs.owners import OWNERS
from orchestration.defs.systems import Systems, first_line

if TYPE_CHECKING:
    from orchestration.cloudwatch.publisher import CloudWatch

PUBLICATION = dg.AssetKey("cloudwatch_publication")
NOTHING_IS_LEFT = "nothing_is_left"


@dg.asset(
    key=PUBLICATION,
    deps=[DBT_BUILD],
    group_name="cloudwatch",
    owners=OWNERS,
    kinds={"cloudwatch"},
    description=(
        "Gauges of every model, a 0/1 gauge for each rule, alarms and dashboards in CloudWatch. "
        "Published after every run of dbt, whatever its tests say."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            NOTHING_IS_LEFT,
            asset=PUBLICATION,
            description="Everything was sent, and CloudWatch took it.",
        )
    ],
)
def cloudwatch_publication(
    context: dg.AssetExecutionContext, systems: ResourceParam[Systems]
) -> dg.MaterializeResult:  # type: ignore[type-arg] # with one, Dagster refuses it
    """Publish what the marts say now."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from orchestration.cloudwatch.publisher import CloudWatchSettings, PublishingError, publish

    try:
        settings = CloudWatchSettings.from_environment(systems.variables())
        with systems.exclusive(), systems.clickhouse() as client:
            report = publish(
                client,
                # Not connected to where it is off: the environment need not name a region.
                systems.cloudwatch() if settings.is_enabled else cast("CloudWatch", None),
                settings,
                now=systems.now(),
                run_id=context.run.run_id,
            )
    except (PublishingError, SettingsError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    except ClickHouseError as error:
        raise dg.Failure(
            f"the warehouse cannot be used: {first_line(error)}; see that ClickHouse runs "
            "(driftline sandbox status). What was not sent is sent by the next publication."
        ) from None
    return dg.MaterializeResult(
        metadata=report.as_metadata(),
        check_results=[
            dg.AssetCheckResult(
                check_name=NOTHING_IS_LEFT,
                passed=report.is_complete,
                severity=dg.AssetCheckSeverity.ERROR,
                metadata={"problems": "\n".join(report.problems)} if report.problems else {},
            )
        ],
    )
