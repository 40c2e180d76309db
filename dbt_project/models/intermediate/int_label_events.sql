{%- set columns = [
    'prediction_id', 'observed_at', 'source', 'value_hash', 'model_name', 'label', 'label_number',
    'landed_at',
] | join(', ') -%}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    sharding_key='cityHash64(prediction_id)',
    order_by='(prediction_id, observed_at, source, value_hash)',
) }}

with judged as (

    {{ judged_events('label_events', columns ~ ', reject_reason') }}

),

incoming as (

    select {{ columns }}
    from judged
    where reject_reason = ''
    -- The same bytes sent twice are one revision.
    order by landed_at
    limit 1 by prediction_id, observed_at, source, value_hash

),

{% if is_incremental() %}
stored as (

    select prediction_id, observed_at, source, value_hash
    from {{ this }}
    where prediction_id in (select incoming.prediction_id from incoming)

),

new_events as (

    select incoming.*
    from incoming
    where (prediction_id, observed_at, source, value_hash) not in (select * from stored)

),
{% else %}
new_events as (

    select * from incoming

),
{% endif %}

final as (

    select
        {{ columns }},
        {{ run_version() }} as run_version
    from new_events

)

select * from final
