{#- Apart from those of features, because labels come later: a late label counts its hour's labels again,
    and not all features of it. -#}
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
    query_settings={'throw_on_max_partitions_per_insert_block': 0, 'optimize_on_insert': 0},
    meta={'vanished': ['mark_vanished_histograms', 'int_labeled_predictions']},
) }}

with active_baselines as (

    select baseline_id, model_name, model_version, registered_at, run_version
    from {{ ref('dim_baselines') }}
    where is_active = 1

),

touched_hours as (

    {{ hours_to_count('int_labeled_predictions') }}

),

configured_models as (

    select * from {{ ref('models') }}

),

segment_sets as (

    select * from {{ ref('int_segment_sets') }}

),

label_binning as (

    select * from {{ ref('int_feature_binning_latest') }}
    where feature_name = '__label__'

),

labeled as (

    select
        ifNull(active_baselines.baseline_id, '') as baseline_id,
        ifNull(configured_models.task, '') as task,
        segment_sets.segment_key_sets as segment_key_sets,
        latest.model_name as model_name,
        latest.model_version as model_version,
        latest.predicted_hour as predicted_hour,
        latest.label as label,
        latest.label_number as label_number,
        latest.segments as segments
    from {{ ref('int_labeled_predictions_latest') }} as latest
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
        {{ label_entries('task', 'label', 'label_number') }} as entries
    from labeled

),

{{ feature_histograms('entries', 'label_binning') }},

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
