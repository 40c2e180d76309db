{#- The kept prediction of an id is the least (predicted_at, value hash), whatever order the
    events arrive in. Rows are only appended: a better event replaces the row under its own
    key, or marks the old key as deleted. Read it through int_predictions_latest. -#}
{%- set columns = [
    'cluster', 'topic', 'topic_id', 'kafka_partition', 'kafka_offset', 'prediction_id', 'model_name',
    'model_version', 'predicted_at', 'predicted_hour', 'number_features', 'string_features',
    'boolean_features', 'null_features', 'invalid_features', 'score', 'predicted_value',
    'predicted_label', 'class_scores', 'latency_ms', 'status', 'segments', 'entity_id', 'metadata',
    'value_hash', 'landed_at',
] | join(', ') -%}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    sharding_key='cityHash64(prediction_id)',
    order_by='''(
        model_name, model_version, predicted_hour, predicted_at, prediction_id, value_hash
    )''',
    partition_by='toYYYYMM(predicted_at)',
    indexes=[
        {
            'name': 'prediction_id_bloom',
            'definition': 'prediction_id TYPE bloom_filter(0.01) GRANULARITY 1',
        },
        {'name': 'run_version_range', 'definition': 'run_version TYPE minmax GRANULARITY 1'},
    ],
    query_settings={'throw_on_max_partitions_per_insert_block': 0, 'optimize_on_insert': 0},
) }}

with judged as (

    {{ judged_events('prediction_events', columns ~ ', reject_reason') }}

),

incoming as (

    select {{ columns }}
    from judged
    where reject_reason = ''
    -- Of one event delivered twice the first to land is kept.
    order by predicted_at, value_hash, landed_at, topic, topic_id, kafka_partition, kafka_offset
    limit 1 by prediction_id

),

{% if is_incremental() %}
stored as (

    select {{ columns }}, is_deleted
    from {{ this }}
    where prediction_id in (select incoming.prediction_id from incoming)
    order by run_version desc
    limit 1 by model_name, model_version, predicted_at, prediction_id, value_hash

),

live as (

    select {{ columns }} from stored where is_deleted = 0

),

candidates as (

    select {{ columns }}, 0 as is_stored from incoming
    union all
    select {{ columns }}, 1 as is_stored from live

),

winners as (

    select {{ columns }}, is_stored
    from candidates
    -- An event that is stored already comes first among equals, so it is not written again: its older
    -- row would go at the next merge, and with it the place where it was first seen.
    order by predicted_at asc, value_hash asc, is_stored desc
    limit 1 by prediction_id

),

displaced as (

    select live.*
    from live
    where
        -- Also where the winner is stored already: a run that died may have stored it alone.
        (prediction_id, predicted_at, value_hash) not in (
            select winners.prediction_id, winners.predicted_at, winners.value_hash from winners
        )

),

changes as (

    select {{ columns }}, 0 as is_deleted from winners where is_stored = 0
    union all
    select {{ columns }}, 1 as is_deleted from displaced

),
{% else %}
changes as (

    select {{ columns }}, 0 as is_deleted from incoming

),
{% endif %}

final as (

    select
        {{ columns }},
        toUInt8(is_deleted) as is_deleted,
        {{ run_version() }} as run_version
    from changes

)

select * from final
