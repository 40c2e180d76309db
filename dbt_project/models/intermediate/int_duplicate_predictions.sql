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
    union all
    select * from displaced
    union all
    select * from stored

),

-- The stored ones have those of the incoming.
candidate_ids as (

    select prediction_id from incoming
    union all
    select prediction_id from displaced

),

kept as (

    select {{ coordinates }}
    from {{ ref('int_predictions_latest') }}
    where prediction_id in (select candidate_ids.prediction_id from candidate_ids)

),

{% if is_incremental() %}
known as (

    select {{ coordinates }}
    from {{ this }}
    where prediction_id in (select candidate_ids.prediction_id from candidate_ids)

),
{% endif %}

final as (

    -- What is in two of the three.
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
