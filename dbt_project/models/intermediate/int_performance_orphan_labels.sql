{#- Labels whose prediction is not there. One that comes later marks its labels as deleted, so a run looks
    at new labels, new predictions and the orphans alone. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    sharding_key='cityHash64(prediction_id)',
    order_by='(prediction_id, observed_at, source, value_hash)',
) }}

with new_labels as (

    select model_name, prediction_id, observed_at, source, value_hash
    from {{ ref('int_label_events') }}
    where run_version > {{ last_run_version() }}
    order by run_version
    limit 1 by prediction_id, observed_at, source, value_hash

),

orphans as (

    select model_name, prediction_id, observed_at, source, value_hash, 0 as is_deleted
    from new_labels
    where prediction_id not in (
        select predictions.prediction_id
        from {{ ref('int_predictions') }} as predictions
        where predictions.prediction_id in (select new_labels.prediction_id from new_labels)
    )

),

{% if is_incremental() %}
stored as (

    select
        model_name, prediction_id, observed_at, source, value_hash,
        argMax(is_deleted, run_version) as was_deleted
    from {{ this }}
    group by model_name, prediction_id, observed_at, source, value_hash

),

found as (

    select model_name, prediction_id, observed_at, source, value_hash, 1 as is_deleted
    from stored
    where
        was_deleted = 0
        and prediction_id in (
            select new_predictions.prediction_id
            from {{ ref('int_predictions') }} as new_predictions
            where new_predictions.run_version > {{ last_run_version() }}
        )

),

changes as (

    select * from orphans
    union all
    select * from found

),
{% else %}
changes as (

    select * from orphans

),
{% endif %}

final as (

    select
        model_name,
        prediction_id,
        observed_at,
        source,
        value_hash,
        toUInt8(is_deleted) as is_deleted,
        {{ run_version() }} as run_version
    from changes

)

select * from final
