"""The raw tables: events as they came, baselines, and what orchestration did.

Offsets are stored with the data: the greatest offset in a table, not Kafka's committed one, says
what has landed. Each event table is sorted by those coordinates, so reading them is cheap.
"""

from __future__ import annotations

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

_EVENTS = """
create table if not exists {table}
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
engine = MergeTree
partition by toYYYYMM(batch_date)
order by (topic, topic_id, partition, offset)
settings non_replicated_deduplication_window = {window}
"""

# What the broker had dropped before it could be read: first and last offset, both included.
_OFFSET_GAPS = """
create table if not exists {table}
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
engine = MergeTree
order by (topic, topic_id, partition, first_offset)
settings non_replicated_deduplication_window = {window}
"""

# One row a baseline, written after all its rows: a baseline without this row does not exist.
_BASELINES = """
create table if not exists {table}
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
engine = MergeTree
order by (model_name, model_version, baseline_id)
settings non_replicated_deduplication_window = {window}
"""

_BASELINE_ROWS = """
create table if not exists {table}
(
    baseline_id String,
    row_number UInt64,
    value String,
    landed_at DateTime64(3, 'UTC') default now64(3)
)
engine = MergeTree
order by (baseline_id, row_number)
settings non_replicated_deduplication_window = {window}
"""

# Two rows a run, when it starts and when it ends: one that has no second row was cut short.
_RETRAINING_RUNS = """
create table if not exists {table}
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
engine = MergeTree
order by (model_name, run_id)
settings non_replicated_deduplication_window = {window}
"""

# The outbox of CloudWatch: a row for each state that a datum has had, the greatest one counts.
_METRIC_PUBLICATIONS = """
create table if not exists {table}
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
engine = MergeTree
partition by toYYYYMM(stamped_at)
order by (run_id, metric_name, dimensions)
settings non_replicated_deduplication_window = {window}
"""

# One row an object of the archive, written after the object was uploaded and checked. An object
# that is written again replaces its row.
_ARCHIVE_MANIFEST = """
create table if not exists {table}
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
engine = ReplacingMergeTree(archived_at)
order by (raw_table, topic, topic_id, partition, cluster, batch_date, first_offset, last_offset)
settings non_replicated_deduplication_window = {window}
"""

# One row an erasure that is complete: how much was erased and when, and of whom only a hash.
_ERASURES = """
create table if not exists {table}
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
engine = MergeTree
order by (erased_at, erasure_id)
settings non_replicated_deduplication_window = {window}
"""

# A rejected event that is to be judged again, as it came or (is_correction) with other bytes in its
# place. The latest request of each kind counts.
_REPLAYS = """
create table if not exists {table}
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
engine = ReplacingMergeTree(landed_at)
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


class CommandClient(Protocol):
    """The part of a clickhouse-connect client that runs a statement."""

    def command(self, cmd: str, /) -> Any:
        """Run one statement that returns no rows."""


def quoted(identifier: str) -> str:
    """Quote a ClickHouse identifier (database, table or column) with backquotes."""
    escaped = identifier.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def raw_table(raw_database: str, table: str) -> str:
    """Give the quoted `database`.`table` of a raw table."""
    return f"{quoted(raw_database)}.{quoted(table)}"


def create_raw_tables(client: CommandClient, raw_database: str) -> tuple[str, ...]:
    """Create the raw database and its tables where missing; existing ones stay as they are.

    Returns the names of all raw tables. Raises the client's error where the account may not
    create them.
    """
    client.command(f"create database if not exists {quoted(raw_database)}")
    for table, definition in _DEFINITIONS.items():
        client.command(
            definition.format(table=raw_table(raw_database, table), window=_DEDUPLICATION_WINDOW)
        )
    return tuple(_DEFINITIONS)
