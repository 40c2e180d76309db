{#- The labelled rows of the groups of int_performance_groups whose task fulfils a condition, once per
    group: the list `columns` of a row, and of its group `group_number` and `positive_label`. A row
    without a label is left out. -#}
{% macro performance_rows(task_condition, columns) -%}
    {%- set key = [
        'baseline_id', 'model_name', 'model_version', 'granularity', 'window_start', 'segment_key',
        'segment_value',
    ] | join(', ') -%}
    with task_groups as (

        select * from {{ ref('int_performance_groups') }} where {{ task_condition }}

    ),

    segment_sets as (

        select model_name, segment_key_sets from {{ ref('int_segment_sets') }}

    ),

    touched_months as (

        select model_name, model_version, window_start
        from task_groups
        where granularity = 'month' and segment_key = 'all'

    ),

    touched_weeks as (

        select model_name, model_version, window_start
        from task_groups
        where granularity = 'week' and segment_key = 'all'

    ),

    labeled as (

        select
            model_name, model_version, predicted_at, segments, label_lag_seconds,
            {{ columns | join(', ') }}
        from {{ ref('int_labeled_predictions_latest') }}
        where
            -- All but the last condition prune: a week reaches at most six days out of its month.
            model_name in (select touched_months.model_name from touched_months)
            and predicted_hour >= (
                select subtractDays(min(touched_months.window_start), 6) from touched_months
            )
            and predicted_hour < (
                select addDays({{ window_end('max(touched_months.window_start)', 'month') }}, 6)
                from touched_months
            )
            and (
                (model_name, model_version, {{ window_start('predicted_at', 'month') }}) in (
                    select
                        touched_months.model_name, touched_months.model_version,
                        touched_months.window_start
                    from touched_months
                )
                or (model_name, model_version, {{ window_start('predicted_at', 'week') }}) in (
                    select
                        touched_weeks.model_name, touched_weeks.model_version,
                        touched_weeks.window_start
                    from touched_weeks
                )
            )

    ),

    labeled_in_groups as (

        select
            '' as baseline_id,
            labeled.model_name as model_name,
            labeled.model_version as model_version,
            {%- for column in columns + ['label_lag_seconds'] %}
            labeled.{{ column }} as {{ column }},
            {%- endfor %}
            (arrayJoin({{ performance_windows('predicted_at') }}) as row_window).1 as granularity,
            row_window.2 as window_start,
            (
                arrayJoin({{ segment_pairs('segments', 'segment_sets.segment_key_sets') }})
                as row_segment
            ).1 as segment_key,
            row_segment.2 as segment_value
        from labeled
        left join segment_sets on labeled.model_name = segment_sets.model_name

    ),

    baselines as (

        select distinct baseline_id, model_name, model_version
        from task_groups
        where granularity = 'baseline'

    ),

    baseline_rows as (

        select baseline_id, segments, {{ columns | join(', ') }}
        from {{ ref('int_baseline_rows') }}
        where baseline_id in (select baselines.baseline_id from baselines) and label != ''
        order by run_version desc
        limit 1 by baseline_id, row_number

    ),

    baseline_in_groups as (

        select
            baselines.baseline_id as baseline_id,
            {%- for column in columns %}
            baseline_rows.{{ column }} as {{ column }},
            {%- endfor %}
            baselines.model_name as model_name,
            baselines.model_version as model_version,
            'baseline' as granularity,
            toDateTime(0, 'UTC') as window_start,
            (
                arrayJoin({{ segment_pairs('segments', 'segment_sets.segment_key_sets') }})
                as baseline_segment
            ).1 as segment_key,
            baseline_segment.2 as segment_value
        from baseline_rows
        inner join baselines on baseline_rows.baseline_id = baselines.baseline_id
        left join segment_sets on baselines.model_name = segment_sets.model_name

    ),

    rows_in_groups as (

        select {{ key }}, {{ columns | join(', ') }}, toNullable(label_lag_seconds) as label_lag_seconds
        from labeled_in_groups
        union all
        select {{ key }}, {{ columns | join(', ') }}, cast(null as Nullable(Float64)) as label_lag_seconds
        from baseline_in_groups

    )

    select
        task_groups.group_number as group_number,
        task_groups.positive_label as positive_label,
        {%- for column in columns %}
        rows_in_groups.{{ column }} as {{ column }},
        {%- endfor %}
        rows_in_groups.label_lag_seconds as label_lag_seconds
    from rows_in_groups
    inner join task_groups using ({{ key }})
{%- endmacro %}
