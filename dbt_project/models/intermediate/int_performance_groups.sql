{#- What a run computes: only groups (window and segment) that a row or label has entered, left or changed
    since the last run, and new baselines. -#}
{%- set group_key = [
    'baseline_id', 'model_name', 'model_version', 'granularity', 'window_start', 'segment_key',
    'segment_value',
] | join(', ') -%}
{{ config(
    materialized='table',
    order_by='(model_name, model_version, granularity, window_start, segment_key, segment_value)',
) }}

with configured_models as (

    select
        model_name,
        task,
        positive_label,
        ifNull(threshold, {{ var('default_threshold', 0.5) }}) as threshold
    from {{ ref('models') }}

),

segment_sets as (

    select model_name, segment_key_sets from {{ ref('int_segment_sets') }}

),

changed_configurations as (

    select model_name
    from {{ ref('int_model_configurations') }}
    where run_version > {{ last_performance_run() }}

),

changed_rows as (

    select model_name, model_version, predicted_at, segments
    from {{ ref('int_labeled_predictions') }}
    where
        run_version > {{ last_performance_run() }}
        or model_name in (select changed_configurations.model_name from changed_configurations)
        or {{ is_recomputed_hour('predicted_hour') }}
    union all
    -- The segments of an event that gave way to another one of the same id and time.
    select model_name, model_version, predicted_at, segments
    from {{ ref('int_predictions') }}
    where is_deleted = 1 and run_version > {{ last_performance_run() }}

),

touched_groups as (

    select distinct
        '' as baseline_id,
        changed_rows.model_name as model_name,
        changed_rows.model_version as model_version,
        (arrayJoin({{ performance_windows('predicted_at') }}) as touched_window).1 as granularity,
        touched_window.2 as window_start,
        (
            arrayJoin({{ segment_pairs('segments', 'segment_sets.segment_key_sets') }})
            as touched_segment
        ).1 as segment_key,
        touched_segment.2 as segment_value
    from changed_rows
    left join segment_sets on changed_rows.model_name = segment_sets.model_name

),

baselines as (

    select baseline_id, model_name, model_version from {{ ref('dim_baselines') }}

),

new_baseline_rows as (

    select baseline_id, segments
    from {{ ref('int_baseline_rows') }}
    where
        run_version > {{ last_performance_run() }}
        or baseline_id in (
            select baselines.baseline_id
            from baselines
            where baselines.model_name in (
                select changed_configurations.model_name from changed_configurations
            )
        )

),

baseline_groups as (

    select distinct
        new_baseline_rows.baseline_id as baseline_id,
        baselines.model_name as model_name,
        baselines.model_version as model_version,
        'baseline' as granularity,
        toDateTime(0, 'UTC') as window_start,
        (
            arrayJoin({{ segment_pairs('segments', 'segment_sets.segment_key_sets') }})
            as baseline_segment
        ).1 as segment_key,
        baseline_segment.2 as segment_value
    from new_baseline_rows
    inner join baselines on new_baseline_rows.baseline_id = baselines.baseline_id
    left join segment_sets on baselines.model_name = segment_sets.model_name

),

unnumbered as (

    select {{ group_key }} from touched_groups
    union all
    select {{ group_key }} from baseline_groups

),

final as (

    select
        unnumbered.baseline_id as baseline_id,
        unnumbered.model_name as model_name,
        unnumbered.model_version as model_version,
        unnumbered.granularity as granularity,
        unnumbered.window_start as window_start,
        unnumbered.segment_key as segment_key,
        unnumbered.segment_value as segment_value,
        -- A number stands for the seven columns of the key where there are many rows.
        row_number() over (order by {{ group_key }}) as group_number,
        ifNull(configured_models.task, '') as task,
        multiIf(
            configured_models.model_name is null, 'not_configured',
            task not in ('binary', 'multiclass', 'regression'), 'unknown_task',
            task = 'binary' and configured_models.positive_label = '', 'no_positive_label',
            ''
        ) as obstacle,
        ifNull(configured_models.positive_label, '') as positive_label,
        ifNull(configured_models.threshold, {{ var('default_threshold', 0.5) }}) as threshold,
        {{ run_version() }} as run_version
    from unnumbered
    left join configured_models on unnumbered.model_name = configured_models.model_name

)

select * from final
