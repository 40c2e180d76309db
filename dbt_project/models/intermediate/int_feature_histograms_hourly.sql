{#- A touched hour is counted whole; keys that are gone from it are marked as deleted. Rows are written in
    pieces of 64 MiB, since meanwhile the values of all groups are still in memory. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='''(
        model_name, model_version, baseline_id, predicted_hour,
        segment_key, segment_value, feature_name
    )''',
    partition_by='toYYYYMM(predicted_hour)',
    indexes=[{'name': 'run_version_range', 'definition': 'run_version TYPE minmax GRANULARITY 1'}],
    query_settings={
        'throw_on_max_partitions_per_insert_block': 0,
        'optimize_on_insert': 0,
        'min_insert_block_size_bytes': 64 * 1024 * 1024,
    },
    meta={'vanished': ['mark_vanished_histograms', 'int_predictions']},
) }}

with active_baselines as (

    select baseline_id, model_name, model_version, registered_at, run_version
    from {{ ref('dim_baselines') }}
    where is_active = 1

),

touched_hours as (

    {{ hours_to_count('int_predictions') }}

),

configured_models as (

    select * from {{ ref('models') }}

),

segment_sets as (

    select * from {{ ref('int_segment_sets') }}

),

predictions as (

    select
        ifNull(active_baselines.baseline_id, '') as baseline_id,
        ifNull(configured_models.task, '') as task,
        configured_models.threshold as threshold,
        ifNull(configured_models.positive_label, '') as positive_label,
        segment_sets.segment_key_sets as segment_key_sets,
        latest.model_name as model_name,
        latest.model_version as model_version,
        latest.predicted_hour as predicted_hour,
        latest.number_features as number_features,
        latest.string_features as string_features,
        latest.boolean_features as boolean_features,
        latest.null_features as null_features,
        latest.invalid_features as invalid_features,
        latest.score as score,
        latest.predicted_value as predicted_value,
        latest.predicted_label as predicted_label,
        latest.segments as segments
    from {{ ref('int_predictions_latest') }} as latest
    left join active_baselines
        on latest.model_name = active_baselines.model_name
        and latest.model_version = active_baselines.model_version
    left join configured_models on latest.model_name = configured_models.model_name
    left join segment_sets on latest.model_name = segment_sets.model_name
    where
        (latest.model_name, latest.model_version, latest.predicted_hour) in (
            select model_name, model_version, predicted_hour from touched_hours
        )

),

entries as (

    select
        baseline_id,
        model_name,
        model_version,
        predicted_hour as bucket,
        {{ segment_pairs('segments', 'segment_key_sets') }} as segment_pairs,
        {{ feature_entries('task', predicted_class('task', 'threshold', 'positive_label')) }} as entries
    from predictions

),

{{ feature_histograms('entries', ref('int_feature_binning_latest')) }},

final as (

    select
        baseline_id,
        model_name,
        model_version,
        bucket as predicted_hour,
        segment_key,
        segment_value,
        feature_name,
        {{ histogram_columns() }},
        toUInt8(0) as is_deleted,
        {{ run_version() }} as run_version
    from histograms

)

select * from final
