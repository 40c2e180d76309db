{#- The kept prediction of an id is the least (predicted_at, value hash), whatever order the
    events arrive in. Rows are only appended: a better event replaces the row under its own
    key, or marks the old key as deleted. Read it through int_predictions_latest. -#}
{%- set names = [
    'cluster', 'topic', 'topic_id', 'kafka_partition', 'kafka_offset', 'prediction_id', 'model_name',
    'model_version', 'predicted_at', 'predicted_hour', 'number_features', 'string_features',
    'boolean_features', 'null_features', 'invalid_features', 'score', 'predicted_value',
    'predicted_label', 'class_scores', 'latency_ms', 'status', 'segments', 'entity_id', 'metadata',
    'value_hash', 'landed_at',
] -%}
{%- set columns = names | join(', ') -%}
{%- set precedence = 'predicted_at, value_hash, landed_at, topic, topic_id, kafka_partition, kafka_offset' -%}
{%- set deciding = 'prediction_id, ' ~ precedence -%}
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

{% if is_incremental() %}
-- What decides is read apart from what is kept: to sort whole rows would take most of the time.
arrived as (

    select {{ deciding }}
    from judged
    where reject_reason = ''
    -- Of one event delivered twice the first to land is kept.
    order by {{ precedence }}
    limit 1 by prediction_id

),

stored as (

    select {{ columns }}, is_deleted
    from {{ this }}
    where prediction_id in (select judged.prediction_id from judged where judged.reject_reason = '')
    order by run_version desc
    limit 1 by model_name, model_version, predicted_at, prediction_id, value_hash

),

live as (

    select {{ columns }} from stored where is_deleted = 0

),

best_stored as (

    select
        prediction_id,
        min((live.predicted_at, live.value_hash)) as best,
        best.1 as best_predicted_at,
        best.2 as best_value_hash
    from live
    group by prediction_id

),

winners as (

    select {{ deciding }}
    from arrived
    left join best_stored using (prediction_id)
    where
        best_value_hash is null
        -- An event that is stored already comes first among equals, so it is not written again: its
        -- older row would go at the next merge, and with it the place where it was first seen.
        or (predicted_at, value_hash) < (assumeNotNull(best_predicted_at), assumeNotNull(best_value_hash))

),

displaced as (

    select
        {% for name in names -%}
        live.{{ name }} as {{ name }}{{ ',' if not loop.last }}
        {% endfor -%}
    from live
    inner join best_stored on live.prediction_id = best_stored.prediction_id
    inner join arrived on live.prediction_id = arrived.prediction_id
    where
        -- Also where the winner is stored already: a run that died may have stored it alone.
        (live.predicted_at, live.value_hash) > (best_stored.best_predicted_at, best_stored.best_value_hash)
        or (live.predicted_at, live.value_hash) > (arrived.predicted_at, arrived.value_hash)

),

changes as (

    select {{ columns }}, 0 as is_deleted
    from judged
    where reject_reason = '' and ({{ deciding }}) in (select {{ deciding }} from winners)
    -- The same message may have landed twice within a millisecond.
    limit 1 by prediction_id
    union all
    select {{ columns }}, 1 as is_deleted from displaced

),
{% else %}
changes as (

    select {{ columns }}, 0 as is_deleted
    from judged
    where reject_reason = ''
    order by {{ precedence }}
    limit 1 by prediction_id

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
