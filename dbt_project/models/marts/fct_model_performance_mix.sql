{{ config(materialized='view') }}

-- A filter on model_name, model_version, granularity and window_start prunes: the statistics are in that
-- order.
-- What may be absent is made nullable here: a view runs under the settings of whoever reads it.
{%- set additive_metrics -%}
multiIf(
            task = 'regression', [('mae', mae), ('bias', bias)],
            task = 'binary', [('accuracy', accuracy), ('brier', brier), ('log_loss', log_loss)],
            [('accuracy', accuracy)]
        )
{%- endset %}
with performance_windows as (

    select * from {{ ref('int_performance_windows') }}
    where segment_key != 'all'

),

window_statistics as (

    select
        *,
        (arrayJoin({{ additive_metrics }}) as measured).1 as metric,
        measured.2 as metric_value
    from {{ ref('int_performance_statistics') }}
    where granularity != 'baseline' and scored_count > 0

),

baseline_statistics as (

    select
        baseline_id,
        segment_key,
        segment_value,
        scored_count,
        (arrayJoin({{ additive_metrics }}) as measured).1 as metric,
        measured.2 as baseline_value,
        toNullable(toUInt8(1)) as is_matched
    from {{ ref('int_performance_statistics') }}
    where granularity = 'baseline' and scored_count > 0

),

baseline_totals as (

    select
        baseline_id,
        segment_key,
        metric,
        if(
            countIf(baseline_value is null) = 0,
            sum(scored_count * baseline_value) / sum(scored_count),
            null
        ) as baseline_total
    from baseline_statistics
    group by baseline_id, segment_key, metric

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
        window_statistics.metric as metric,
        window_statistics.scored_count as scored_count,
        window_statistics.metric_value as metric_value,
        ifNull(baseline_statistics.is_matched, 0) as is_matched,
        baseline_statistics.baseline_value as baseline_value,
        baseline_totals.baseline_total as baseline_total
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
        and performance_windows.segment_key = baseline_statistics.segment_key
        and performance_windows.segment_value = baseline_statistics.segment_value
        and window_statistics.metric = baseline_statistics.metric
    left join baseline_totals
        on performance_windows.baseline_id = baseline_totals.baseline_id
        and performance_windows.segment_key = baseline_totals.segment_key
        and window_statistics.metric = baseline_totals.metric

),

-- With w1 and m1 of the window, m0 of the same segment and M0 of the whole baseline, the difference is
-- Σ w1 (m1 - M0), and of each segment that the baseline has m1 - M0 = (m1 - m0) + (m0 - M0).
summed as (

    select
        granularity,
        model_name,
        model_version,
        segment_key,
        window_start,
        metric,
        any(window_end) as end_of_window,
        any(status) as label_status,
        any(baseline_id) as compared_baseline_id,
        any(baseline_total) as compared_value,
        sum(scored_count) as row_count,
        sumIf(scored_count, is_matched = 0) as unmatched_count,
        arraySort(groupArrayIf(toString(segment_value), is_matched = 0)) as absent_segments,
        countIf(metric_value is null or is_matched = 1 and baseline_value is null) as undefined_count,
        sum(scored_count * metric_value) / row_count as total_value,
        sumIf(scored_count * (baseline_value - baseline_total), is_matched = 1) / row_count as mix,
        sumIf(scored_count * (metric_value - baseline_value), is_matched = 1) / row_count as within,
        sumIf(scored_count * (metric_value - baseline_total), is_matched = 0) / row_count as unmatched
    from joined
    group by granularity, model_name, model_version, segment_key, window_start, metric

),

final as (

    select
        granularity,
        model_name,
        model_version,
        segment_key,
        window_start,
        end_of_window as window_end,
        toLowCardinality(metric) as metric,
        label_status as status,
        toLowCardinality(toString(compared_baseline_id)) as baseline_id,
        row_count as scored_count,
        undefined_count = 0 and compared_value is not null as is_defined,
        if(undefined_count = 0, total_value, null) as metric_value,
        compared_value as baseline_value,
        if(is_defined, metric_value - baseline_value, null) as difference,
        if(is_defined, ifNull(mix, 0), null) as mix_effect,
        if(is_defined, ifNull(within, 0), null) as within_effect,
        if(is_defined, ifNull(unmatched, 0), null) as unmatched_effect,
        if(compared_baseline_id = '', null, unmatched_count / row_count) as unmatched_share,
        if(compared_baseline_id = '', [], absent_segments) as unmatched_segments,
        multiIf(
            compared_baseline_id = '', 'no_baseline',
            not is_defined, 'not_defined_in_every_segment',
            ''
        ) as reason
    from summed

)

select * except (is_defined) from final
