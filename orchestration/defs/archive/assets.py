"""The archive of raw events as an asset: what it lacks is uploaded, and all of it looked at."""

# No postponed annotations here: Dagster compares that of the context as it stands.

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster import ResourceParam

from driftline.settings import ArchiveSettings, SettingsError
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS
from orchestration.defs.owners import OWNERS
from orchestration.defs.systems import Systems, first_line

ARCHIVE = dg.AssetKey("event_archive")
ARCHIVE_IS_SOUND = "archive_is_sound"
GROUP = "archive"
JOB = "archive"

_NOT_SET = (
    "nothing is archived: DRIFTLINE_ARCHIVE_URL is not set. Set it to s3://bucket/prefix to keep "
    "raw events beyond ClickHouse"
)
_SHOWN = 20


def is_configured(environment: Mapping[str, str]) -> bool:
    """Say whether the environment names an archive."""
    return bool(environment.get("DRIFTLINE_ARCHIVE_URL"))


@dg.asset(
    key=ARCHIVE,
    deps=[dg.AssetKey(["raw", table]) for table in (PREDICTION_EVENTS, LABEL_EVENTS)],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"s3", "parquet"},
    description=(
        "Raw events of settled days as Parquet on S3. A run uploads what no object has yet, and "
        "compares the manifest with the objects' sizes and checksums and with the raw tables."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            ARCHIVE_IS_SOUND,
            asset=ARCHIVE,
            description=(
                "Every object is there with its size and checksum, and every row of a settled day "
                "is in one. Objects are not read: driftline archive verify does."
            ),
        )
    ],
)
def event_archive(
    context: dg.AssetExecutionContext, systems: ResourceParam[Systems]
) -> dg.MaterializeResult:  # type: ignore[type-arg] # with one, Dagster refuses it
    """Archive what is due and verify; without an archive's address say so, and fail nothing."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from ingest.archive.object_store import ArchiveError, ObjectStore, connect_s3
    from ingest.archive.operations import Archive
    from ingest.landing import LandingError

    variables = systems.variables()
    if not is_configured(variables):
        context.log.info(_NOT_SET)
        return _result(False, dg.AssetCheckSeverity.WARN, {"state": _NOT_SET}, _NOT_SET)
    try:
        store = ObjectStore(connect_s3(variables), ArchiveSettings.from_environment(variables))
        settings = systems.clickhouse_settings()
        with systems.exclusive(), systems.clickhouse() as client:
            archive = Archive(client, store, settings.raw_database, clock=systems.now)
            archived = archive.run()
            found = archive.verify(is_quick=True)
    except (ArchiveError, SettingsError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    except (ClickHouseError, LandingError) as error:
        raise dg.Failure(
            f"the raw tables cannot be read: {first_line(error)}; see that ClickHouse runs "
            "(driftline sandbox status). The next run archives what this one has not."
        ) from None
    problems = [*found.problems, *(f"gap: {gap}" for gap in found.gaps)]
    return _result(
        not problems,
        # A gap is no damage: compacted and transactional topics have such holes by nature.
        dg.AssetCheckSeverity.ERROR if found.problems else dg.AssetCheckSeverity.WARN,
        {
            "url": dg.MetadataValue.text(store.url),
            "archived_rows": archived.rows,
            "archived_objects": archived.objects,
            "objects": found.objects,
            "rows": found.rows,
            "bytes": found.bytes,
            "objects_expired_from_raw": found.expired,
            "objects_not_in_the_manifest": len(found.strays),
        },
        "\n".join(problems[:_SHOWN]) or None,
    )


def _result(
    passed: bool,
    severity: dg.AssetCheckSeverity,
    metadata: Mapping[str, Any],
    description: str | None,
) -> dg.MaterializeResult:  # type: ignore[type-arg] # with one, Dagster refuses it
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name=ARCHIVE_IS_SOUND,
                passed=passed,
                severity=severity,
                description=description,
            )
        ],
    )
