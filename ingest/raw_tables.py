"""The raw tables: events as they came, baselines, and what orchestration did.

Offsets are stored with the data: the greatest offset in a table, not Kafka's committed one, says
what has landed. Each event table is sorted by those coordinates, so reading them is cheap.

On a cluster the event tables are sharded by Kafka's partition: a batch is one block on one shard,
under a token that this shard knows. Every other raw table is whole on every node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

PREDICTION_EVENTS = "prediction_events"
LABEL_EVENTS = "label_events"
OFFSET_GAPS = "offset_gaps"
BASELINES = "baselines"
BASELINE_ROWS = "baseline_rows"
RETRAINING_RUNS = "retraining_runs"
METRIC_PUBLICATIONS = "metric_publications"
ARCHIVE_MANIFEST = "archive_manifest"
REPLAYS = "replays"
ERASURES = "erasures"

# The one header of a message that was erased; its key and its value are null. dbt's staging models
# know it by this name.
ERASED_HEADER = "driftline_erased"

# How many insert tokens a table remembers. The window covers the retries of one process many times
# over; across restarts the stored offsets decide, not the tokens.
_DEDUPLICATION_WINDOW = 10_000
# Replicated tables also forget tokens by age, after an hour if nothing is said.
_DEDUPLICATION_SECONDS = 7 * 24 * 3600

_EVENTS = """
create table if not exists {table}{on_cluster}
(
    cluster LowCardinality(String),
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64,
    kafka_timestamp DateTime64(3, 'UTC'),
    key Nullable(String),
    headers Array(Tuple(name String, value Nullable(String))),
    value Nullable(String),
    batch_date Date,
    landed_at DateTime64(3, 'UTC') default now64(3),
    index landed_at landed_at type minmax,
    index kafka_timestamp kafka_timestamp type minmax
)
engine = {engine}
partition by toYYYYMM(batch_date)
order by (topic, topic_id, partition, offset)
settings {window}
"""

# What the broker had dropped before it could be read: first and last offset, both included.
_OFFSET_GAPS = """
create table if not exists {table}{on_cluster}
(
    cluster LowCardinality(String),
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    first_offset Int64,
    last_offset Int64,
    reason LowCardinality(String),
    landed_at DateTime64(3, 'UTC') default now64(3)
)
engine = {engine}
order by (topic, topic_id, partition, first_offset)
settings {window}
"""

# One row a baseline, written after all its rows: a baseline without this row does not exist.
_BASELINES = """
create table if not exists {table}{on_cluster}
(
    baseline_id String,
    model_name LowCardinality(String),
    model_version LowCardinality(String),
    description String,
    row_count UInt64,
    roles String,
    feature_types Map(String, String),
    feature_importance Map(String, Float64),
    registered_at DateTime64(3, 'UTC'),
    landed_at DateTime64(3, 'UTC') default now64(3)
)
engine = {engine}
order by (model_name, model_version, baseline_id)
settings {window}
"""

_BASELINE_ROWS = """
create table if not exists {table}{on_cluster}
(
    baseline_id String,
    row_number UInt64,
    value String,
    landed_at DateTime64(3, 'UTC') default now64(3)
)
engine = {engine}
order by (baseline_id, row_number)
settings {window}
"""

# Two rows a run, when it starts and when it ends: one that has no second row was cut short.
_RETRAINING_RUNS = """
create table if not exists {table}{on_cluster}
(
    run_id String,
    model_name LowCardinality(String),
    status LowCardinality(String),
    reason String,
    trigger String,
    breach_ids Array(String),
    trainer String,
    metric LowCardinality(String),
    champion_version String,
    challenger_version String,
    as_of DateTime64(3, 'UTC'),
    training_from DateTime64(3, 'UTC'),
    cut_off DateTime64(3, 'UTC'),
    evaluation_until DateTime64(3, 'UTC'),
    training_row_count UInt64,
    evaluation_row_count UInt64,
    evaluation_positive_count UInt64,
    figures Map(String, Float64),
    challenger_threshold Nullable(Float64),
    baseline_id String,
    artefact String,
    started_at DateTime64(3, 'UTC'),
    ended_at Nullable(DateTime64(3, 'UTC')),
    landed_at DateTime64(3, 'UTC') default now64(3)
)
engine = {engine}
order by (model_name, run_id)
settings {window}
"""

# The outbox of CloudWatch: a row for each state that a datum has had, the greatest one counts.
_METRIC_PUBLICATIONS = """
create table if not exists {table}{on_cluster}
(
    run_id String,
    metric_name LowCardinality(String),
    dimensions Array(Tuple(name LowCardinality(String), value String)),
    metric_values Array(Float64),
    unit LowCardinality(String),
    stamped_at DateTime64(3, 'UTC'),
    state Enum8('pending' = 0, 'expired' = 1, 'quarantined' = 2, 'sent' = 3),
    reason String,
    landed_at DateTime64(3, 'UTC') default now64(3)
)
engine = {engine}
partition by toYYYYMM(stamped_at)
order by (run_id, metric_name, dimensions)
settings {window}
"""

# One row an object of the archive, written after the object was uploaded and checked. An object
# that is written again replaces its row.
_ARCHIVE_MANIFEST = """
create table if not exists {table}{on_cluster}
(
    raw_table LowCardinality(String),
    cluster LowCardinality(String),
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    batch_date Date,
    first_offset Int64,
    last_offset Int64,
    row_count UInt64,
    byte_count UInt64,
    sha256 String,
    key String,
    archived_at DateTime64(3, 'UTC')
)
engine = {engine}
order by (raw_table, topic, topic_id, partition, cluster, batch_date, first_offset, last_offset)
settings {window}
"""

# One row an erasure that is complete: how much was erased and when, and of whom only a hash.
_ERASURES = """
create table if not exists {table}{on_cluster}
(
    erasure_id String,
    model_name LowCardinality(String),
    entity_sha256 String,
    prediction_count UInt64,
    prediction_event_count UInt64,
    label_event_count UInt64,
    archived_object_count UInt64,
    erased_at DateTime64(3, 'UTC'),
    landed_at DateTime64(3, 'UTC') default now64(3)
)
engine = {engine}
order by (erased_at, erasure_id)
settings {window}
"""

# A rejected event that is to be judged again, as it came or (is_correction) with other bytes in its
# place. The latest request of each kind counts.
_REPLAYS = """
create table if not exists {table}{on_cluster}
(
    raw_table LowCardinality(String),
    cluster LowCardinality(String),
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64,
    is_correction UInt8,
    kafka_timestamp DateTime64(3, 'UTC'),
    value Nullable(String),
    corrected_by LowCardinality(String),
    reject_reason LowCardinality(String),
    landed_at DateTime64(3, 'UTC') default now64(3)
)
engine = {engine}
order by (raw_table, topic, topic_id, partition, offset, cluster, is_correction)
"""

_DEFINITIONS = {
    PREDICTION_EVENTS: _EVENTS,
    LABEL_EVENTS: _EVENTS,
    OFFSET_GAPS: _OFFSET_GAPS,
    BASELINES: _BASELINES,
    BASELINE_ROWS: _BASELINE_ROWS,
    RETRAINING_RUNS: _RETRAINING_RUNS,
    METRIC_PUBLICATIONS: _METRIC_PUBLICATIONS,
    ARCHIVE_MANIFEST: _ARCHIVE_MANIFEST,
    REPLAYS: _REPLAYS,
    ERASURES: _ERASURES,
}
_ENGINES = {
    ARCHIVE_MANIFEST: "ReplacingMergeTree(archived_at)",
    REPLAYS: "ReplacingMergeTree(landed_at)",
}
_SHARDED = (PREDICTION_EVENTS, LABEL_EVENTS)
# dbt-clickhouse's own suffix.
_LOCAL = "_local"


class CommandClient(Protocol):
    """The part of a clickhouse-connect client that runs statements."""

    def command(self, cmd: str, /) -> Any:
        """Run one statement; gives the value or values of its only row, if it has one."""


@dataclass(frozen=True)
class StoredTable:
    """The table that has the rows of another one: itself, or what a Distributed table stands for.

    ALTER works on this one only; with `cluster`, on every shard.
    """

    database: str
    name: str
    cluster: str | None = None

    def __str__(self) -> str:
        """Write it as ALTER takes it."""
        return raw_table(self.database, self.name) + on_cluster(self.cluster)


def quoted(identifier: str) -> str:
    """Quote a ClickHouse identifier (database, table or column) with backquotes."""
    escaped = identifier.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def raw_table(raw_database: str, table: str) -> str:
    """Give the quoted `database`.`table` of a raw table."""
    return f"{quoted(raw_database)}.{quoted(table)}"


def on_cluster(cluster: str | None) -> str:
    """Give the clause that runs DDL on every node of a cluster; empty without one."""
    return f" on cluster {quoted(cluster)}" if cluster else ""


def replicated_engine(engine: str, cluster: str | None, *, is_sharded: bool = False) -> str:
    """Give the engine of a table that is never renamed; on a cluster, the replicated kind of it.

    Its replicas are those of one shard where it `is_sharded`, and all nodes otherwise. They find
    each other by the table's name, so a node that is added later finds them, too.
    """
    if not cluster:
        return engine
    name, _, arguments = engine.rstrip(")").partition("(")
    place = "/clickhouse/tables/{database}/{table}/"
    replicas = ("{shard}", "{replica}") if is_sharded else ("all", "{shard}-{replica}")
    written = [f"'{place}{replicas[0]}'", f"'{replicas[1]}'", *filter(None, [arguments])]
    return f"Replicated{name}({', '.join(written)})"


def raw_statements(raw_database: str, cluster: str | None = None) -> Iterator[str]:
    """Give the statements that create the raw database and its tables where they are missing."""
    everywhere = on_cluster(cluster)
    yield f"create database if not exists {quoted(raw_database)}{everywhere}"
    window = f"non_replicated_deduplication_window = {_DEDUPLICATION_WINDOW}"
    if cluster:
        window = (
            f"replicated_deduplication_window = {_DEDUPLICATION_WINDOW}, "
            f"replicated_deduplication_window_seconds = {_DEDUPLICATION_SECONDS}"
        )
    for table, definition in _DEFINITIONS.items():
        is_sharded = cluster is not None and table in _SHARDED
        stored = raw_table(raw_database, table + _LOCAL if is_sharded else table)
        engine = replicated_engine(_ENGINES.get(table, "MergeTree"), cluster, is_sharded=is_sharded)
        yield definition.format(table=stored, on_cluster=everywhere, engine=engine, window=window)
        if is_sharded:
            place = ", ".join(map(_text, (str(cluster), raw_database, table + _LOCAL)))
            yield (
                f"create table if not exists {raw_table(raw_database, table)}{everywhere} "
                f"as {stored}\nengine = Distributed({place}, `partition`)"
            )


def create_raw_tables(
    client: CommandClient, raw_database: str, cluster: str | None = None
) -> tuple[str, ...]:
    """Create the raw database and its tables where missing; existing ones stay as they are.

    `cluster` is needed the first time only: tables that are there say of which cluster they are.
    Returns the names of all raw tables. Raises the client's error where the account may not
    create them.
    """
    found = cluster or stored_table(client, raw_database, PREDICTION_EVENTS).cluster
    for statement in raw_statements(raw_database, found):
        client.command(statement)
    return tuple(_DEFINITIONS)


def stored_table(client: CommandClient, database: str, table: str) -> StoredTable:
    """Find out which table has the rows of a table."""
    found = client.command(
        "select splitByChar('''', engine_full)[2], splitByChar('''', engine_full)[6] "  # noqa: S608
        f"from system.tables where database = {_text(database)} and name = {_text(table)} "
        "and engine = 'Distributed'"
    )
    if not isinstance(found, Sequence) or len(found) != 2:
        return StoredTable(database, table)
    cluster, local = found
    return StoredTable(database, str(local), str(cluster))


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
