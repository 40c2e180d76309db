{%- set columns = [
    'prediction_id', 'cluster', 'topic', 'topic_id', 'kafka_partition', 'kafka_offset',
    'predicted_at', 'value_hash', 'landed_at',
] | join(', ') -%}
{%- set coordinates = 'topic, topic_id, kafka_partition, kafka_offset' -%}
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

-- Also what a better event has taken the place of, in this run or in one that died after that.
stored as (

    select {{ columns }}
    from {{ ref('int_predictions') }}
    where prediction_id in (select incoming.prediction_id from incoming)

),

candidates as (

    select * from incoming
    union all
    select * from stored

),

kept as (

    select {{ coordinates }}
    from {{ ref('int_predictions_latest') }}
    where prediction_id in (select incoming.prediction_id from incoming)

),

{% if is_incremental() %}
known as (

    select {{ coordinates }}
    from {{ this }}
    where prediction_id in (select incoming.prediction_id from incoming)

),
{% endif %}

final as (

    -- What was kept until now may be an incoming one, too, and stand there as deleted once more.
    select distinct
        {{ columns }},
        {{ run_version() }} as run_version
    from candidates
    where
        ({{ coordinates }}) not in (select * from kept)
        {% if is_incremental() %}
        and ({{ coordinates }}) not in (select * from known)
        {% endif %}

)

select * from final
