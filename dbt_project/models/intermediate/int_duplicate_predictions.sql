{%- set columns = [
    'prediction_id', 'cluster', 'topic', 'topic_id', 'kafka_partition', 'kafka_offset',
    'predicted_at', 'value_hash', 'landed_at',
] | join(', ') -%}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    sharding_key='cityHash64(prediction_id)',
    order_by='(prediction_id, topic, topic_id, kafka_partition, kafka_offset)',
) }}

with judged as (

    {{ judged_events('prediction_events', columns ~ ', reject_reason') }}

),

incoming as (

    select {{ columns }} from judged where reject_reason = ''

),

displaced as (

    select {{ columns }}
    from {{ ref('int_predictions') }}
    where run_version > {{ last_run_version() }}

),

stored as (

    select {{ columns }}
    from {{ ref('int_predictions') }}
    where prediction_id in (select incoming.prediction_id from incoming)

),

candidates as (

    select * from incoming
    union distinct
    select * from displaced
    union distinct
    select * from stored

),

kept as (

    select topic, topic_id, kafka_partition, kafka_offset
    from {{ ref('int_predictions_latest') }}
    where prediction_id in (select candidates.prediction_id from candidates)

),

{% if is_incremental() %}
known as (

    select topic, topic_id, kafka_partition, kafka_offset
    from {{ this }}
    where prediction_id in (select candidates.prediction_id from candidates)

),
{% endif %}

final as (

    select
        {{ columns }},
        {{ run_version() }} as run_version
    from candidates
    where
        (topic, topic_id, kafka_partition, kafka_offset) not in (select * from kept)
        {% if is_incremental() %}
        and (topic, topic_id, kafka_partition, kafka_offset) not in (select * from known)
        {% endif %}

)

select * from final
