{{ config(materialized='view') }}

-- A filter on model_name, model_version, predicted_hour or predicted_at prunes predictions and labels alike,
-- because the join is on these columns too. What may be absent is made nullable here: a view runs under
-- the settings of whoever reads it, and join_use_nulls is off by default.
with predictions as (

    select * from {{ ref('int_predictions_latest') }}

),

labels as (

    select
        model_name,
        model_version,
        predicted_hour,
        predicted_at,
        prediction_id,
        toNullable(label) as current_label,
        label_number,
        toNullable(label_observed_at) as current_label_observed_at,
        toNullable(label_source) as current_label_source,
        toNullable(label_lag_seconds) as current_label_lag_seconds,
        revision_count
    from {{ ref('int_labeled_predictions_latest') }}

),

duplicates as (

    select
        prediction_id,
        uniqExact(topic, topic_id, kafka_partition, kafka_offset) as event_count
    from {{ ref('int_duplicate_predictions') }}
    group by prediction_id

),

final as (

    select
        predictions.prediction_id as prediction_id,
        predictions.model_name as model_name,
        predictions.model_version as model_version,
        predictions.predicted_at as predicted_at,
        predictions.predicted_hour as predicted_hour,
        predictions.number_features as number_features,
        predictions.string_features as string_features,
        predictions.boolean_features as boolean_features,
        predictions.null_features as null_features,
        predictions.invalid_features as invalid_features,
        predictions.score as score,
        predictions.predicted_value as predicted_value,
        predictions.predicted_label as predicted_label,
        predictions.class_scores as class_scores,
        predictions.latency_ms as latency_ms,
        predictions.status as status,
        predictions.segments as segments,
        predictions.entity_id as entity_id,
        predictions.metadata as metadata,
        labels.current_label as label,
        labels.label_number as label_number,
        labels.current_label_observed_at as label_observed_at,
        labels.current_label_source as label_source,
        labels.current_label_lag_seconds as label_lag_seconds,
        toUInt32(ifNull(labels.revision_count, 0)) as revision_count,
        toUInt64(ifNull(duplicates.event_count, 0)) as duplicate_count,
        predictions.landed_at as landed_at
    from predictions
    left join labels
        on predictions.model_name = labels.model_name
        and predictions.model_version = labels.model_version
        and predictions.predicted_hour = labels.predicted_hour
        and predictions.predicted_at = labels.predicted_at
        and predictions.prediction_id = labels.prediction_id
    left join duplicates on predictions.prediction_id = duplicates.prediction_id

)

select * from final
