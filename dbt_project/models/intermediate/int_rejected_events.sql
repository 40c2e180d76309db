{#- An event that is accepted when it is judged again, or was erased, leaves a tombstone. -#}
{%- set columns = [
    'cluster', 'topic', 'topic_id', 'kafka_partition', 'kafka_offset', 'kafka_timestamp', 'landed_at',
    'reject_reason', 'raw_value', 'corrected_by', 'value_hash',
] | join(', ') -%}
{%- set key = 'topic, topic_id, kafka_partition, kafka_offset' -%}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    sharding_key='cityHash64(topic, topic_id, kafka_partition)',
    order_by='(topic, topic_id, kafka_partition, kafka_offset)',
    indexes=[
        {'name': 'kafka_timestamp_range', 'definition': 'kafka_timestamp TYPE minmax GRANULARITY 1'},
        {'name': 'run_version_range', 'definition': 'run_version TYPE minmax GRANULARITY 1'},
    ],
) }}

with judged_predictions as (

    {{ judged_events('prediction_events', columns) }}

),

judged_labels as (

    {{ judged_events('label_events', columns) }}

),

judged as (

    select 'prediction' as event_type, {{ columns }} from judged_predictions
    union all
    select 'label' as event_type, {{ columns }} from judged_labels

),

{% if is_incremental() %}
stored as (

    select
        {{ key }},
        argMax(is_deleted, run_version) as was_accepted,
        argMax((reject_reason, value_hash), run_version) as last_verdict
    from {{ this }}
    where ({{ key }}) in (select {{ key }} from judged)
    group by {{ key }}

),

live as (

    select {{ key }}, last_verdict.1 as reject_reason, last_verdict.2 as value_hash
    from stored
    where was_accepted = 0

),
{% endif %}

changes as (

    select event_type, {{ columns }}
    from judged
    where
        reject_reason not in ('', 'erased')
        {% if is_incremental() %}
        or ({{ key }}) in (select {{ key }} from live)
        {% endif %}

),

final as (

    select
        event_type,
        cluster,
        topic,
        topic_id,
        kafka_partition,
        kafka_offset,
        kafka_timestamp,
        landed_at,
        reject_reason,
        if(is_deleted, null, raw_value) as raw_value,
        corrected_by,
        value_hash,
        toUInt8(reject_reason in ('', 'erased')) as is_deleted,
        {{ run_version() }} as run_version
    from changes
    {% if is_incremental() %}
    -- Rows of the overlap are there already.
    where ({{ key }}, reject_reason, value_hash) not in (
        select {{ key }}, reject_reason, value_hash from live
    )
    {% endif %}

)

select * from final
