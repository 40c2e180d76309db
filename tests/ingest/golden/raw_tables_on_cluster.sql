create database if not exists `raw` on cluster `monitoring`;

create table if not exists `raw`.`prediction_events_local` on cluster `monitoring`
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
engine = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}/{shard}', '{replica}')
partition by toYYYYMM(batch_date)
order by (topic, topic_id, partition, offset)
settings replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

create table if not exists `raw`.`prediction_events` on cluster `monitoring` as `raw`.`prediction_events_local`
engine = Distributed('monitoring', 'raw', 'prediction_events_local', `partition`);

create table if not exists `raw`.`label_events_local` on cluster `monitoring`
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
engine = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}/{shard}', '{replica}')
partition by toYYYYMM(batch_date)
order by (topic, topic_id, partition, offset)
settings replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

create table if not exists `raw`.`label_events` on cluster `monitoring` as `raw`.`label_events_local`
engine = Distributed('monitoring', 'raw', 'label_events_local', `partition`);

create table if not exists `raw`.`offset_gaps` on cluster `monitoring`
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
engine = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}/all', '{shard}-{replica}')
order by (topic, topic_id, partition, first_offset)
settings replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

create table if not exists `raw`.`baselines` on cluster `monitoring`
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
engine = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}/all', '{shard}-{replica}')
order by (model_name, model_version, baseline_id)
settings replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

create table if not exists `raw`.`baseline_rows` on cluster `monitoring`
(
    baseline_id String,
    row_number UInt64,
    value String,
    landed_at DateTime64(3, 'UTC') default now64(3)
)
engine = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}/all', '{shard}-{replica}')
order by (baseline_id, row_number)
settings replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

create table if not exists `raw`.`retraining_runs` on cluster `monitoring`
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
engine = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}/all', '{shard}-{replica}')
order by (model_name, run_id)
settings replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

create table if not exists `raw`.`metric_publications` on cluster `monitoring`
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
engine = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}/all', '{shard}-{replica}')
partition by toYYYYMM(stamped_at)
order by (run_id, metric_name, dimensions)
settings replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

create table if not exists `raw`.`archive_manifest` on cluster `monitoring`
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
engine = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}/all', '{shard}-{replica}', archived_at)
order by (raw_table, topic, topic_id, partition, cluster, batch_date, first_offset, last_offset)
settings replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

create table if not exists `raw`.`replays` on cluster `monitoring`
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
engine = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}/all', '{shard}-{replica}', landed_at)
order by (raw_table, topic, topic_id, partition, offset, cluster, is_correction);

create table if not exists `raw`.`erasures` on cluster `monitoring`
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
engine = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}/all', '{shard}-{replica}')
order by (erased_at, erasure_id)
settings replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;
