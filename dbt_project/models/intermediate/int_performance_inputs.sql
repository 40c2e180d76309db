{#- What the statistics of a run are computed from: only groups (window and segment) that a row or label
    has entered, left or changed since the last run, each with all its labelled rows, counted by score. -#}
{%- set group_key = [
    'baseline_id', 'model_name', 'model_version', 'granularity', 'window_start', 'segment_key',
    'segment_value',
] | join(', ') -%}
{%- set windows -%}
[
            ('day', {{ window_start('predicted_at', 'day') }}),
            ('week', {{ window_start('predicted_at', 'week') }}),
            ('month', {{ window_start('predicted_at', 'month') }})
        ]
{%- endset -%}
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
        (arrayJoin({{ windows }}) as touched_window).1 as granularity,
        touched_window.2 as window_start,
        (
            arrayJoin({{ segment_pairs('segments', 'segment_sets.segment_key_sets') }})
            as touched_segment
        ).1 as segment_key,
        touched_segment.2 as segment_value
    from changed_rows
    left join segment_sets on changed_rows.model_name = segment_sets.model_name

),

labeled as (

    select
        '' as baseline_id,
        latest.model_name as model_name,
        latest.model_version as model_version,
        latest.predicted_at as predicted_at,
        latest.segments as segments,
        latest.score as score,
        toUInt8(ifNull(latest.label = configured_models.positive_label, 0)) as is_positive,
        toNullable(latest.label_lag_seconds) as label_lag_seconds
    from {{ ref('int_labeled_predictions_latest') }} as latest
    left join configured_models on latest.model_name = configured_models.model_name
    where
        -- The first two conditions prune: a week reaches at most six days out of its month.
        latest.predicted_hour >= (
            select subtractDays({{ window_start('min(changed_rows.predicted_at)', 'month') }}, 6)
            from changed_rows
        )
        and latest.predicted_hour < (
            select addDays(
                {{ window_end(window_start('max(changed_rows.predicted_at)', 'month'), 'month') }}, 6
            )
            from changed_rows
        )
        and (
            (latest.model_name, latest.model_version, {{ window_start('predicted_at', 'month') }}) in (
                select
                    changed_rows.model_name,
                    changed_rows.model_version,
                    {{ window_start('changed_rows.predicted_at', 'month') }}
                from changed_rows
            )
            or (latest.model_name, latest.model_version, {{ window_start('predicted_at', 'week') }}) in (
                select
                    changed_rows.model_name,
                    changed_rows.model_version,
                    {{ window_start('changed_rows.predicted_at', 'week') }}
                from changed_rows
            )
        )

),

labeled_in_groups as (

    select
        labeled.baseline_id as baseline_id,
        labeled.model_name as model_name,
        labeled.model_version as model_version,
        (arrayJoin({{ windows }}) as row_window).1 as granularity,
        row_window.2 as window_start,
        (
            arrayJoin({{ segment_pairs('segments', 'segment_sets.segment_key_sets') }})
            as row_segment
        ).1 as segment_key,
        row_segment.2 as segment_value,
        labeled.score as score,
        labeled.is_positive as is_positive,
        labeled.label_lag_seconds as label_lag_seconds
    from labeled
    left join segment_sets on labeled.model_name = segment_sets.model_name

),

baselines as (

    select baseline_id, model_name, model_version from {{ ref('dim_baselines') }}

),

new_baseline_ids as (

    select baseline_id
    from {{ ref('int_baseline_rows') }}
    where run_version > {{ last_performance_run() }}
    union distinct
    select baseline_id
    from baselines
    where model_name in (select changed_configurations.model_name from changed_configurations)

),

baseline_rows as (

    select baseline_id, segments, score, label
    from {{ ref('int_baseline_rows') }}
    where baseline_id in (select new_baseline_ids.baseline_id from new_baseline_ids)
    order by run_version desc
    limit 1 by baseline_id, row_number

),

baseline_in_groups as (

    select
        baseline_rows.baseline_id as baseline_id,
        baselines.model_name as model_name,
        baselines.model_version as model_version,
        'baseline' as granularity,
        toDateTime(0, 'UTC') as window_start,
        (
            arrayJoin({{ segment_pairs('segments', 'segment_sets.segment_key_sets') }})
            as baseline_segment
        ).1 as segment_key,
        baseline_segment.2 as segment_value,
        baseline_rows.score as score,
        toUInt8(ifNull(baseline_rows.label = configured_models.positive_label, 0)) as is_positive,
        cast(null as Nullable(Float64)) as label_lag_seconds,
        baseline_rows.label != '' as is_labeled
    from baseline_rows
    inner join baselines on baseline_rows.baseline_id = baselines.baseline_id
    left join configured_models on baselines.model_name = configured_models.model_name
    left join segment_sets on baselines.model_name = segment_sets.model_name

),

baseline_groups as (

    select distinct {{ group_key }} from baseline_in_groups

),

unnumbered_groups as (

    select {{ group_key }} from touched_groups
    union all
    select {{ group_key }} from baseline_groups

),

-- A number stands for the seven columns of the key where there are many rows.
groups as (

    select
        {{ group_key }},
        row_number() over (order by {{ group_key }}) as group_number
    from unnumbered_groups

),

rows_in_groups as (

    select {{ group_key }}, score, is_positive, label_lag_seconds from labeled_in_groups
    union all
    select {{ group_key }}, score, is_positive, label_lag_seconds from baseline_in_groups
    where is_labeled

),

group_rows as (

    select
        groups.group_number as group_number,
        rows_in_groups.score as score,
        rows_in_groups.is_positive as is_positive,
        rows_in_groups.label_lag_seconds as label_lag_seconds
    from rows_in_groups
    inner join groups using ({{ group_key }})

),

by_score as (

    select
        group_number,
        score,
        sum(is_positive) as positives,
        count() as row_count,
        groupArray(label_lag_seconds) as label_lags
    from group_rows
    group by group_number, score

),

counted as (

    select
        group_number,
        sum(row_count) as labeled_count,
        groupArrayIf(assumeNotNull(score), score is not null) as scores,
        groupArrayIf(toUInt64(positives), score is not null) as positives_by_score,
        groupArrayIf(toUInt64(row_count - positives), score is not null) as negatives_by_score,
        quantilesExactInclusiveArray(0.5, 0.95)(label_lags) as label_lag_quantiles,
        sum(length(label_lags)) as label_lag_count
    from by_score
    group by group_number

),

final as (

    select
        groups.baseline_id as baseline_id,
        groups.model_name as model_name,
        groups.model_version as model_version,
        groups.granularity as granularity,
        groups.window_start as window_start,
        groups.segment_key as segment_key,
        groups.segment_value as segment_value,
        multiIf(
            configured_models.model_name is null, 'not_configured',
            configured_models.task != 'binary', 'not_binary',
            configured_models.positive_label = '', 'no_positive_label',
            ''
        ) as obstacle,
        ifNull(configured_models.threshold, {{ var('default_threshold', 0.5) }}) as threshold,
        toUInt64(ifNull(counted.labeled_count, 0)) as labeled_count,
        if(counted.label_lag_count > 0, counted.label_lag_quantiles[1], null)
            as label_lag_p50_seconds,
        if(counted.label_lag_count > 0, counted.label_lag_quantiles[2], null)
            as label_lag_p95_seconds,
        -- One element per distinct score; empty where the obstacle leaves nothing to compute.
        if(obstacle = '', counted.scores, []) as scores,
        if(obstacle = '', counted.positives_by_score, []) as positives,
        if(obstacle = '', counted.negatives_by_score, []) as negatives,
        {{ run_version() }} as run_version
    from groups
    left join counted on groups.group_number = counted.group_number
    left join configured_models on groups.model_name = configured_models.model_name

)

select * from final
