{#- Labels and predictions join in both orders: an id is looked at again when its prediction or
    any of its labels came since the last run. -#}
{%- set columns = [
    'prediction_id', 'model_name', 'model_version', 'predicted_at', 'predicted_hour', 'score',
    'predicted_value', 'predicted_label', 'class_scores', 'segments', 'label', 'label_number',
    'label_observed_at', 'label_source', 'label_lag_seconds', 'revision_count',
] | join(', ') -%}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    sharding_key='cityHash64(prediction_id)',
    order_by='(model_name, model_version, predicted_hour, predicted_at, prediction_id)',
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

with touched as (

    select prediction_id
    from {{ ref('int_predictions') }}
    where run_version > {{ last_run_version() }}
    union distinct
    select prediction_id
    from {{ ref('int_label_events') }}
    where run_version > {{ last_run_version() }}

),

predictions as (

    select
        prediction_id, model_name, model_version, predicted_at, predicted_hour, score,
        predicted_value, predicted_label, class_scores, segments
    from {{ ref('int_predictions_latest') }}
    where prediction_id in (select touched.prediction_id from touched)

),

distinct_label_events as (

    select prediction_id, observed_at, source, value_hash, label
    from {{ ref('int_label_events') }}
    where prediction_id in (select touched.prediction_id from touched)
    order by observed_at desc, source desc, value_hash desc
    limit 1 by prediction_id, observed_at, source, value_hash

),

current_labels as (

    select
        prediction_id,
        argMax(label, (observed_at, source, value_hash)) as label,
        argMax(source, (observed_at, source, value_hash)) as label_source,
        max(observed_at) as label_observed_at,
        toUInt32(count() - 1) as revision_count
    from distinct_label_events
    group by prediction_id

),

joined as (

    select
        predictions.prediction_id as prediction_id,
        predictions.model_name as model_name,
        predictions.model_version as model_version,
        predictions.predicted_at as predicted_at,
        predictions.predicted_hour as predicted_hour,
        predictions.score as score,
        predictions.predicted_value as predicted_value,
        predictions.predicted_label as predicted_label,
        predictions.class_scores as class_scores,
        predictions.segments as segments,
        current_labels.label as label,
        toFloat64OrNull(current_labels.label) as label_number,
        current_labels.label_observed_at as label_observed_at,
        current_labels.label_source as label_source,
        dateDiff('millisecond', predictions.predicted_at, current_labels.label_observed_at) / 1000
            as label_lag_seconds,
        current_labels.revision_count as revision_count
    from predictions
    inner join current_labels on predictions.prediction_id = current_labels.prediction_id

),

{% if is_incremental() %}
stored as (

    select {{ columns }}, is_deleted
    from {{ this }}
    where prediction_id in (select touched.prediction_id from touched)
    order by run_version desc
    limit 1 by model_name, model_version, predicted_at, prediction_id

),

displaced as (

    select {{ columns }}
    from stored
    where
        is_deleted = 0
        and (model_name, model_version, predicted_at, prediction_id) not in (
            select model_name, model_version, predicted_at, prediction_id
            from joined
        )

),

changes as (

    select {{ columns }}, 0 as is_deleted from joined
    union all
    select {{ columns }}, 1 as is_deleted from displaced

),
{% else %}
changes as (

    select {{ columns }}, 0 as is_deleted from joined

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
