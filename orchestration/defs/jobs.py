"""What can be launched by name."""

from __future__ import annotations

import dagster as dg

from orchestration.defs.archive.assets import ARCHIVE
from orchestration.defs.archive.assets import JOB as ARCHIVE_JOB
from orchestration.defs.retraining.assets import JOB, RETRAINING
from orchestration.defs.verification.assets import JOB as VERIFICATION_JOB
from orchestration.defs.verification.assets import LANDED_OFFSETS

WAREHOUSE = "warehouse"


def asset_jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """Give the jobs of assets: the warehouse; archive, verification; retraining, the button."""
    return [
        dg.define_asset_job(
            WAREHOUSE,
            # These have a pace of their own: they compare all rows that raw has.
            selection=dg.AssetSelection.all() - dg.AssetSelection.assets(ARCHIVE, LANDED_OFFSETS),
            description="Loader lag, dbt with its tests, publication, retraining that is due.",
        ),
        dg.define_asset_job(
            ARCHIVE_JOB,
            selection=dg.AssetSelection.assets(ARCHIVE),
            description="Raw events of settled days to S3, and a quick look at all that is there.",
        ),
        dg.define_asset_job(
            VERIFICATION_JOB,
            selection=dg.AssetSelection.assets(LANDED_OFFSETS),
            description="Whether each offset in the raw tables has landed once; Kafka is asked.",
        ),
        dg.define_asset_job(
            JOB,
            selection=dg.AssetSelection.assets(RETRAINING),
            description=(
                "Retrains the model named in the configuration (model_name), breach or not; "
                "without a name those that are due."
            ),
        ),
    ]
