"""Landed offsets as an asset: what the verifier finds in the raw tables, once a day."""

# No postponed annotations here: Dagster compares that of the context as it stands.

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import ResourceParam

from driftline.settings import SettingsError
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS
from orchestration.defs.loader.assets import GROUP
from orchestration.defs.owners import OWNERS
from orchestration.defs.systems import Systems, first_line

if TYPE_CHECKING:
    from ingest.verification.findings import PartitionReport, VerificationReport
    from ingest.verification.landed_offsets import Ask

LANDED_OFFSETS = dg.AssetKey("landed_offsets")
LANDED_ONCE = "each_offset_landed_once"
JOB = "verify_landed_offsets"

_SHOWN = 20


@dg.asset(
    key=LANDED_OFFSETS,
    deps=[dg.AssetKey(["raw", table]) for table in (PREDICTION_EVENTS, LABEL_EVENTS)],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"clickhouse", "kafka"},
    description=(
        "What driftline verify finds in the raw tables, by partition: duplicates, gaps, rows that "
        "landed late. Kafka is asked about gaps where it can be reached."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            LANDED_ONCE,
            asset=LANDED_OFFSETS,
            description=(
                "No offset has two rows, and no message was missed. A gap that nothing explains "
                "is a warning."
            ),
        )
    ],
)
def landed_offsets(
    context: dg.AssetExecutionContext, systems: ResourceParam[Systems]
) -> dg.MaterializeResult:  # type: ignore[type-arg] # with one, Dagster refuses it
    """Verify the raw tables; a broker that cannot be reached leaves gaps unexplained, no more."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from ingest.landing import LandingError
    from ingest.verification.landed_offsets import Verification, VerificationError

    try:
        settings = systems.clickhouse_settings()
        with systems.clickhouse() as client, _kafka(context, systems) as ask:
            report = Verification(client, settings.raw_database, ask=ask).run()
    except (SettingsError, VerificationError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    except (ClickHouseError, LandingError) as error:
        raise dg.Failure(
            f"the raw tables cannot be read: {first_line(error)}; see that ClickHouse runs "
            "(driftline sandbox status). Nothing was changed; the next run looks again."
        ) from None
    return dg.MaterializeResult(
        metadata=_figures(report),
        check_results=[
            dg.AssetCheckResult(
                check_name=LANDED_ONCE,
                passed=report.is_sound(),
                # Holes that transactions and compaction leave are gaps, too: only what is certain
                # is an error.
                severity=dg.AssetCheckSeverity.WARN
                if report.is_sound(allow_gaps=True)
                else dg.AssetCheckSeverity.ERROR,
                description="\n".join(_problems(report)) or None,
            )
        ],
    )


@contextmanager
def _kafka(context: dg.AssetExecutionContext, systems: Systems) -> Iterator["Ask | None"]:
    """Give what asks the broker about gaps; None where the environment names no broker."""
    from ingest.verification.broker import open_gap_reader

    try:
        kafka = systems.kafka_settings()
    except SettingsError as error:
        context.log.info(f"gaps stay unexplained: {error}")
        yield None
        return
    with open_gap_reader(kafka) as reader:
        yield reader.ask


def _figures(report: "VerificationReport") -> Mapping[str, Any]:
    return {
        "rows": report.row_count,
        "duplicates": report.duplicate_count,
        "missed_messages": report.missed_count,
        "unexplained_gaps": report.unexplained_count,
        "landed_late": report.backward_count,
        "label_files": report.files.file_count,
        "partitions": dg.TableMetadataValue(
            records=[_record(each) for each in report.partitions], schema=_SCHEMA
        ),
    }


def _record(each: "PartitionReport") -> dg.TableRecord:
    return dg.TableRecord(
        {
            "raw_table": each.raw_table,
            "topic": each.partition.topic,
            "topic_id": each.partition.topic_id,
            "partition": each.partition.partition,
            "first_offset": each.offsets.first,
            "last_offset": each.offsets.last,
            "rows": each.row_count,
            "duplicates": each.duplicates.offset_count,
            "gaps": each.gaps.offset_count,
            "missed": each.missed_count,
            "unexplained": each.unexplained.offset_count,
            "landed_late": each.backward.offset_count,
        }
    )


_SCHEMA = dg.TableSchema(
    columns=[
        *(dg.TableColumn(name, "string") for name in ("raw_table", "topic", "topic_id")),
        *(dg.TableColumn(name, "int") for name in ("partition", "first_offset", "last_offset")),
        dg.TableColumn("rows", "int"),
        dg.TableColumn("duplicates", "int", description="offsets with more than one row"),
        dg.TableColumn("gaps", "int", description="offsets without a row between landed ones"),
        dg.TableColumn("missed", "int", description="gaps in which Kafka has a message"),
        dg.TableColumn("unexplained", "int", description="gaps of which nobody knows"),
        dg.TableColumn("landed_late", "int", description="offsets that landed after greater ones"),
    ]
)


def _problems(report: "VerificationReport") -> Iterator[str]:
    """Name what was found, and what to do; the first partitions only."""
    wrong = [
        each
        for each in (*report.partitions, *report.files.duplicated)
        if each.duplicates or each.missed_count or each.unexplained
    ]
    for each in wrong[:_SHOWN]:
        yield (
            f"{each.raw_table} {each.partition}: {each.duplicates.offset_count:,} duplicates, "
            f"{each.missed_count:,} missed, {each.unexplained.offset_count:,} unexplained"
        )
        yield from each.answer.reasons if each.answer else ()
    if wrong:
        yield "driftline verify --ask-kafka names the offsets, --repair lands what was missed"
