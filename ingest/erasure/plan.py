"""The plan of an erasure: a table of the messages to erase, which lives until all is done.

The plan is what makes an erasure resumable. Which predictions are an entity's is written in the
messages alone, so once some are erased it could not be found out again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.external import ExternalData

from ingest.archive.ranges import EventRange
from ingest.landing import STATEMENT_FAILURES, LandingError, query_rows
from ingest.offsets import PartitionId
from ingest.raw_tables import (
    LABEL_EVENTS,
    PREDICTION_EVENTS,
    on_cluster,
    raw_table,
    replicated_engine,
    stored_table,
)

# What a message is found by, as dbt's staging models read it.
_FIELDS = (
    "JSONExtract(ifNull(value, ''), "
    "'Tuple(prediction_id String, model_name String, entity_id String)')"
)
_OF_ARCHIVE = """
    select
        {cluster:String} as cluster,
        {topic:String} as topic,
        {topic_id:String} as topic_id,
        {partition:Int32} as `partition`,
        `offset`,
        key,
        value
    from archived_events
"""
_OF_RAW = """
    select cluster, topic, topic_id, `partition`, `offset`, key, value
    from {events}
"""
# Other bytes in the place of an event: a reject that was corrected.
_OF_CORRECTIONS = """
    select
        cluster,
        topic,
        topic_id,
        `partition`,
        `offset`,
        cast(null as Nullable(String)) as key,
        value
    from {events}
    where raw_table = {{raw_table:String}}
"""
# Foreign producers may send what is no JSON: a message that has both names as JSON texts is taken
# for the entity's. What is no JSON is in no mart but among the rejects, so little is lost.
_IS_OF_ENTITY = """
    (fields.model_name = {model_name:String} and fields.entity_id = {entity_id:String})
    or (
        not isValidJSON(ifNull(value, ''))
        and multiSearchAny(ifNull(value, ''), {entity_texts:Array(String)})
        and multiSearchAny(ifNull(value, ''), {model_texts:Array(String)})
    )
"""
# All messages of a prediction's id are that prediction, also those that do not name the entity. The
# loggers send the id as the key, too, which is all that tells whose a broken message is.
_IS_OF_PREDICTIONS = """
    fields.prediction_id in (select prediction_id from {plan} where prediction_id != '')
    or (
        not isValidJSON(ifNull(value, ''))
        and ifNull(key, '') in (select prediction_id from {plan} where prediction_id != '')
    )
"""
# The columns of an archived file that are looked at.
ARCHIVED_COLUMNS = ("offset", "key", "value")
_ARCHIVED_STRUCTURE = "`offset` Int64, key Nullable(String), value Nullable(String)"


@dataclass(frozen=True)
class Entity:
    """Whom to erase: an `entity_id` as logged with the predictions of one model."""

    model_name: str
    entity_id: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.model_name or not self.entity_id:
            raise ValueError("an erasure needs a model and an entity; neither may be empty")

    @property
    def sha256(self) -> str:
        """What stands for the entity where its id must not: a hash of model and id, in hex."""
        return sha256(json.dumps([self.model_name, self.entity_id]).encode()).hexdigest()


@dataclass(frozen=True)
class PlannedCounts:
    """Predictions by their ids, and messages of each topic, that a plan names."""

    predictions: int
    prediction_events: int
    label_events: int


class Plan:
    """The plan of erasing `entity`: a table of its own in `raw_database`.

    Every method may raise LandingError. The plan holds ids of predictions, not the entity's.
    """

    def __init__(self, client: Client, raw_database: str, entity: Entity) -> None:
        self._client = client
        self._raw_database = raw_database
        self._entity = entity
        self._name = f"erasure_plan_{entity.sha256[:16]}"
        self.table = raw_table(raw_database, self._name)

    @cached_property
    def _cluster(self) -> str | None:
        return stored_table(self._client, self._raw_database, PREDICTION_EVENTS).cluster

    @property
    def exists(self) -> bool:
        """Whether there is one: made by now, or left by an erasure that was interrupted."""
        return self.erasure_id is not None

    @property
    def erasure_id(self) -> str | None:
        """The id of the erasure that the plan belongs to; None where there is no plan."""
        rows = query_rows(
            self._client,
            "select comment from system.tables "
            "where database = {database:String} and name = {name:String}",
            {"database": self._raw_database, "name": self._name},
            "look for the plan of an erasure",
        )
        return str(rows[0][0]) if rows else None

    def create(self) -> None:
        """Make the table where there is none; on a cluster whole on every node, as each erases."""
        self._run(
            f"""
            create table if not exists {self.table}{on_cluster(self._cluster)}
            (
                raw_table LowCardinality(String),
                cluster LowCardinality(String),
                topic LowCardinality(String),
                topic_id LowCardinality(String),
                partition Int32,
                offset Int64,
                prediction_id String
            )
            engine = {replicated_engine("ReplacingMergeTree", self._cluster)}
            order by (raw_table, topic, topic_id, partition, cluster, offset)
            comment '{uuid.uuid4().hex}'
            """
        )

    def drop(self) -> None:
        """Remove the table; nothing of the entity's is left in it."""
        self._run(f"drop table if exists {self.table}{on_cluster(self._cluster)} sync")

    def sync(self) -> None:
        """Wait until every node of a cluster has the whole plan."""
        if self._cluster:
            self._run(f"system sync replica{on_cluster(self._cluster)} {self.table}")

    def add_of_entity(self, raw_table_name: str, corrections: str = "") -> None:
        """Plan the messages of a raw table that name the entity.

        `corrections` names the raw table in which other bytes stand for some of them; then those
        are looked at.
        """
        self._add(self._raw(raw_table_name, corrections), raw_table_name, _IS_OF_ENTITY)

    def add_of_predictions(self, raw_table_name: str, corrections: str = "") -> None:
        """Plan the messages of a raw table that belong to the predictions planned so far."""
        self._add(self._raw(raw_table_name, corrections), raw_table_name, self._of_predictions)

    def add_archived_of_entity(self, rows: EventRange, events: pa.Table) -> None:
        """Plan those of archived messages that name the entity."""
        self._add(_OF_ARCHIVE, rows.raw_table, _IS_OF_ENTITY, rows, events)

    def add_archived_of_predictions(self, rows: EventRange, events: pa.Table) -> None:
        """Plan those of archived messages that belong to the predictions planned so far."""
        self._add(_OF_ARCHIVE, rows.raw_table, self._of_predictions, rows, events)

    def counts(self) -> PlannedCounts:
        """Count what is planned."""
        [row] = query_rows(
            self._client,
            f"""
            select
                uniqExactIf(prediction_id, prediction_id != ''),
                countIf(raw_table = '{PREDICTION_EVENTS}'),
                countIf(raw_table = '{LABEL_EVENTS}')
            from {self.table} final
            """,  # noqa: S608 - quoted
            {},
            "count of what is to be erased",
        )
        return PlannedCounts(*(int(number) for number in row))

    def offsets(self) -> Mapping[tuple[str, PartitionId], Sequence[int]]:
        """Give the planned offsets, ascending, by raw table and partition."""
        rows = query_rows(
            self._client,
            "select raw_table, cluster, topic, topic_id, `partition`, "  # noqa: S608 - quoted
            f"arraySort(groupArray(`offset`)) from {self.table} final "
            "group by raw_table, cluster, topic, topic_id, `partition`",
            {},
            "planned offsets",
        )
        return {
            (str(table), PartitionId(str(cluster), str(topic), str(topic_id), int(number))): offsets
            for table, cluster, topic, topic_id, number, offsets in rows
        }

    @property
    def prediction_ids(self) -> str:
        """A query of the planned predictions' ids."""
        return f"select prediction_id from {self.table} where prediction_id != ''"  # noqa: S608

    @property
    def _of_predictions(self) -> str:
        return _IS_OF_PREDICTIONS.replace("{plan}", self.table)

    def _raw(self, raw_table_name: str, corrections: str) -> str:
        if corrections:
            return _OF_CORRECTIONS.format(events=raw_table(self._raw_database, corrections))
        return _OF_RAW.format(events=raw_table(self._raw_database, raw_table_name))

    def _add(
        self,
        source: str,
        raw_table_name: str,
        condition: str,
        rows: EventRange | None = None,
        events: pa.Table | None = None,
    ) -> None:
        entity = self._entity
        parameters: dict[str, Any] = {
            "raw_table": raw_table_name,
            "model_name": entity.model_name,
            "entity_id": entity.entity_id,
            "entity_texts": _json_texts(entity.entity_id),
            "model_texts": _json_texts(entity.model_name),
        }
        if rows is not None:
            parameters |= {
                "cluster": rows.partition.cluster,
                "topic": rows.partition.topic,
                "topic_id": rows.partition.topic_id,
                "partition": rows.partition.partition,
            }
        self._run(
            f"""
            insert into {self.table}
            with events as ({source}),

            parsed as (
                select *, {_FIELDS} as fields
                from events
                where value is not null or key is not null
            )

            select
                {{raw_table:String}},
                cluster,
                topic,
                topic_id,
                `partition`,
                `offset`,
                fields.prediction_id
            from parsed
            where {condition}
            """,  # noqa: S608 - quoted
            parameters,
            events,
        )

    def _run(
        self,
        statement: str,
        parameters: dict[str, Any] | None = None,
        archived: pa.Table | None = None,
    ) -> None:
        try:
            self._client.command(
                statement,
                parameters=parameters,
                external_data=None if archived is None else _external(archived),
                settings={"wait_end_of_query": 1, "async_insert": 0},
            )
        except STATEMENT_FAILURES as error:
            raise LandingError.of(error, "plan of an erasure") from error


def _external(events: pa.Table) -> ExternalData:
    body = pa.BufferOutputStream()
    with pa.ipc.new_stream(body, events.schema) as stream:
        stream.write_table(events)
    return ExternalData(
        file_name="archived_events",
        fmt="ArrowStream",
        structure=_ARCHIVED_STRUCTURE,
        data=body.getvalue().to_pybytes(),
    )


def _json_texts(text: str) -> list[str]:
    """Give a text as JSON writes it, with and without escapes."""
    return sorted({json.dumps(text), json.dumps(text, ensure_ascii=False)})
