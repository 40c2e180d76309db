"""The lag of the loader, and the raw tables that it and the other parts of ingest fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster import ResourceParam

from driftline.settings import SettingsError, labels_topic, predictions_topic
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS, RETRAINING_RUNS
from orchestration.dbt_manifest import Manifest
from orchestration.defs.owners import OWNERS
from orchestration.defs.systems import Systems

LOADER_LAG = dg.AssetKey("loader_lag")
GROUP = "loader"
_DEFAULT_GREATEST_LAG = 100_000


def greatest_lag(environment: Mapping[str, str]) -> int:
    """Give how many messages a partition may be behind (DRIFTLINE_MAX_LAG, default 100,000)."""
    text = environment.get("DRIFTLINE_MAX_LAG", "")
    try:
        return int(text) if text else _DEFAULT_GREATEST_LAG
    except ValueError:
        raise SettingsError(f"DRIFTLINE_MAX_LAG={text!r} is not a whole number") from None


@dg.asset(
    key=LOADER_LAG,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"kafka"},
    description=(
        "Messages in Kafka that have not landed in the raw tables yet, by partition. Read from the "
        "broker, without joining the loader's group."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            "lag_is_small",
            asset=LOADER_LAG,
            description="No partition is behind by more than DRIFTLINE_MAX_LAG messages.",
        )
    ],
)
def loader_lag(systems: ResourceParam[Systems]) -> dg.MaterializeResult:  # type: ignore[type-arg] # with one, Dagster refuses it
    """Read the lag; a failure here stops neither dbt nor the publication."""
    from confluent_kafka import KafkaException

    from ingest.lag import LagReader

    try:
        kafka, most = systems.kafka_settings(), greatest_lag(systems.variables())
        with LagReader(kafka) as reader:
            lag = dict(reader.lag())
    except SettingsError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    except (KafkaException, KeyError) as error:
        raise dg.Failure(
            f"the lag cannot be read from {kafka.bootstrap_servers}: {_said(error)}; start the "
            "broker (driftline sandbox up), or set KAFKA_BOOTSTRAP_SERVERS to one that runs. dbt "
            "goes on with what has landed."
        ) from None
    behind = max(lag.values(), default=0)
    return dg.MaterializeResult(
        metadata={
            "messages_behind": sum(lag.values()),
            "greatest_of_a_partition": behind,
            "partitions": dg.TableMetadataValue(
                records=[
                    dg.TableRecord({"topic": topic, "partition": number, "behind": count})
                    for (topic, number), count in sorted(lag.items())
                ],
                schema=_LAG_SCHEMA,
            ),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="lag_is_small",
                passed=behind <= most,
                severity=dg.AssetCheckSeverity.ERROR,
                metadata={"greatest_of_a_partition": behind, "allowed": most},
                description=(
                    None
                    if behind <= most
                    else f"a partition is {behind:,} messages behind, {most:,} are allowed: is "
                    "the loader running (driftline load)? Start more of them, or raise "
                    "DRIFTLINE_MAX_LAG"
                ),
            )
        ],
    )


_LAG_SCHEMA = dg.TableSchema(
    columns=[
        dg.TableColumn("topic", "string"),
        dg.TableColumn("partition", "int"),
        dg.TableColumn("behind", "int", description="messages that have not landed"),
    ]
)


def _said(error: BaseException) -> str:
    from confluent_kafka import KafkaError

    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else f"no topic {cause}"


def raw_tables(manifest: Manifest, written_by: Mapping[str, dg.AssetKey]) -> list[dg.AssetSpec]:
    """Give the sources of the dbt project as assets that no run of Dagster makes.

    What comes through Kafka hangs on the loader; `written_by` says which asset writes another.
    """
    writers = {PREDICTION_EVENTS: LOADER_LAG, LABEL_EVENTS: LOADER_LAG, **written_by}
    return [_raw_table(source, writers) for source in manifest["sources"].values()]


def _raw_table(source: Mapping[str, Any], writers: Mapping[str, dg.AssetKey]) -> dg.AssetSpec:
    writer = writers.get(source["name"])
    topics = {PREDICTION_EVENTS: predictions_topic(), LABEL_EVENTS: labels_topic()}
    return dg.AssetSpec(
        key=dg.AssetKey([source["source_name"], source["name"]]),
        deps=[writer] if writer else [],
        group_name="retraining" if source["name"] == RETRAINING_RUNS else "raw",
        owners=OWNERS,
        kinds={"clickhouse"},
        description=source["description"],
        metadata={"topic": topics[source["name"]]} if source["name"] in topics else {},
    )
