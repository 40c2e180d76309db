{{ config(materialized='view') }}

-- One row per baseline row, with its features as one array.
with baseline_rows as (

    select * from {{ ref('int_baseline_rows_latest') }}

),

baselines as (

    select * from {{ ref('stg_raw__baselines') }}

),

configured_models as (

    select * from {{ ref('models') }}

),

segment_sets as (

    select * from {{ ref('int_segment_sets') }}

),

described as (

    select
        baselines.model_name as model_name,
        baselines.model_version as model_version,
        ifNull(configured_models.task, '') as task,
        configured_models.threshold as threshold,
        ifNull(configured_models.positive_label, '') as positive_label,
        segment_sets.segment_key_sets as segment_key_sets,
        baseline_rows.baseline_id as baseline_id,
        baseline_rows.row_number as row_number,
        baseline_rows.number_features as number_features,
        baseline_rows.string_features as string_features,
        baseline_rows.boolean_features as boolean_features,
        baseline_rows.null_features as null_features,
        baseline_rows.invalid_features as invalid_features,
        baseline_rows.score as score,
        baseline_rows.predicted_value as predicted_value,
        baseline_rows.predicted_label as predicted_label,
        baseline_rows.label as label,
        baseline_rows.label_number as label_number,
        baseline_rows.segments as segments,
        baseline_rows.predicted_at as predicted_at,
        baseline_rows.run_version as run_version
    from baseline_rows
    inner join baselines on baseline_rows.baseline_id = baselines.baseline_id
    left join configured_models on baselines.model_name = configured_models.model_name
    left join segment_sets on baselines.model_name = segment_sets.model_name

),

final as (

    select
        baseline_id,
        row_number,
        model_name,
        model_version,
        task,
        predicted_at,
        run_version,
        {{ segment_pairs('segments', 'segment_key_sets') }} as segment_pairs,
        arrayConcat(
            {{ feature_entries('task', predicted_class('task', 'threshold', 'positive_label')) }},
            {{ label_entries('task', 'label', 'label_number') }}
        ) as entries
    from described

)

select * from final
