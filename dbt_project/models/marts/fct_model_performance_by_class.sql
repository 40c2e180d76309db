{{ config(materialized='view') }}
{%- set metrics = ['precision', 'recall', 'f1', 'auc'] -%}

-- A filter on model_name, model_version, granularity and window_start prunes: the statistics are in that
-- order.
with performance_windows as (

    select * from {{ ref('int_performance_windows') }}
    where task = 'multiclass'

),

window_statistics as (

    select * from {{ ref('int_performance_statistics') }}
    where granularity != 'baseline'

),

baseline_statistics as (

    select * from {{ ref('int_performance_statistics') }}
    where granularity = 'baseline'

),

joined as (

    select
        performance_windows.granularity as granularity,
        performance_windows.model_name as model_name,
        performance_windows.model_version as model_version,
        performance_windows.segment_key as segment_key,
        performance_windows.segment_value as segment_value,
        performance_windows.window_start as window_start,
        performance_windows.window_end as window_end,
        performance_windows.status as status,
        performance_windows.baseline_id as baseline_id,
        performance_windows.baseline_scope as baseline_scope,
        arrayJoin(arrayEnumerate(window_statistics.classes)) as place,
        window_statistics.classes[place] as class_name,
        window_statistics.class_label_counts[place] as label_count,
        window_statistics.class_predicted_counts[place] as predicted_count,
        window_statistics.class_true_positives[place] as true_positives,
        -- 0, and null at that place, where the baseline does not have the class.
        indexOf(baseline_statistics.classes, class_name) as baseline_place,
        baseline_statistics.class_label_counts[baseline_place] as baseline_label_count,
        {%- for metric in metrics %}
        window_statistics.class_{{ metric }}[place] as {{ metric }},
        window_statistics.class_{{ metric }}_lower[place] as {{ metric }}_lower,
        window_statistics.class_{{ metric }}_upper[place] as {{ metric }}_upper,
        baseline_statistics.class_{{ metric }}[baseline_place] as baseline_{{ metric }},
        {%- endfor %}
        window_statistics.run_version as run_version
    from performance_windows
    inner join window_statistics
        on performance_windows.model_name = window_statistics.model_name
        and performance_windows.model_version = window_statistics.model_version
        and performance_windows.granularity = window_statistics.granularity
        and performance_windows.window_start = window_statistics.window_start
        and performance_windows.segment_key = window_statistics.segment_key
        and performance_windows.segment_value = window_statistics.segment_value
    left join baseline_statistics
        on performance_windows.baseline_id = baseline_statistics.baseline_id
        and performance_windows.compared_segment_key = baseline_statistics.segment_key
        and performance_windows.compared_segment_value = baseline_statistics.segment_value

),

final as (

    select
        granularity,
        model_name,
        model_version,
        segment_key,
        segment_value,
        window_start,
        window_end,
        class_name,
        status,
        baseline_id,
        baseline_scope,
        label_count,
        predicted_count,
        true_positives,
        baseline_label_count,
        {%- for metric in metrics %}
        {{ metric }},
        {{ metric }}_lower,
        {{ metric }}_upper,
        baseline_{{ metric }},
        {{ metric }} - baseline_{{ metric }} as {{ metric }}_difference,
        toUInt8(
            baseline_{{ metric }} < {{ metric }}_lower or baseline_{{ metric }} > {{ metric }}_upper
        ) as is_{{ metric }}_beyond_interval,
        {%- endfor %}
        arrayStringConcat(
            arrayFilter(
                part -> part != '',
                [
                    if(label_count = 0, 'no_labels_of_class', ''),
                    if(predicted_count = 0, 'never_predicted', ''),
                    if(auc is null, 'no_class_auc', ''),
                    if(baseline_scope = 'none', 'no_baseline', ''),
                    if(baseline_scope != 'none' and baseline_place = 0, 'not_in_baseline', '')
                ]
            ),
            ','
        ) as reason
    from joined

)

select * from final
