{#- The CTEs of feature_drift that give each comparison both of its sides: one row per model version,
    comparison, window, segment and feature, with the counts of the window and of what it is compared with,
    and the rows and distinct clusters of both. The last CTE is `sides`. -#}
{% macro drift_sides(granularity) -%}
{%- set key = 'baseline_id, model_name, model_version, window_start, segment_key, segment_value' -%}
{#- What is before all windows need not be read to know that it is. -#}
{%- set is_near -%}
predicted_hour >= (select min(windows_to_read.window_to_read) from windows_to_read)
{%- endset %}
changed_windows as (

    {{ changed_drift_windows(granularity) }}

),

-- The unit of recomputation; a changed window is also what the next one is compared with. (ClickHouse
-- evaluates a CTE anew wherever it is named, so each names the one before it once where that can be.)
families as (

    select distinct
        model_name,
        model_version,
        (
            arrayJoin([
                ('baseline', window_start),
                ('previous', window_start),
                ('previous', {{ window_end('window_start', granularity) }})
            ]) as family
        ).1 as comparison,
        family.2 as family_window
    from changed_windows

),

windows_to_read as (

    select distinct
        model_name,
        model_version,
        arrayJoin([
            {{ previous_window('window_start', granularity) }},
            window_start,
            {{ window_end('window_start', granularity) }}
        ]) as window_to_read
    from changed_windows

),

active_baselines as (

    select model_name, model_version, baseline_id as active_baseline_id
    from {{ ref('dim_baselines') }}
    where is_active = 1

),

configured_models as (

    select model_name, min_rows, label_maturity_hours from {{ ref('models') }}

),

baseline_histograms as (

    select
        baseline_id, segment_key, segment_value, feature_name, bin_counts as own_baseline_counts
    from {{ ref('int_baseline_histograms_latest') }}

),

baseline_clusters as (

    select
        baseline_id,
        segment_key,
        segment_value,
        row_count as own_baseline_clustered_rows,
        clusters as own_baseline_clusters
    from {{ ref('int_baseline_clusters_latest') }}

),

feature_counts as (

    {{ histograms_by_window(granularity) }}

),

label_counts as (

    select *, {{ window_start('predicted_hour', granularity) }} as window_of_row
    from {{ ref('int_label_histograms_hourly_latest') }}
    where
        {{ is_near }}
        {%- if granularity == 'hour' %}
        and {{ is_hourly_segment('model_name', 'segment_key') }}
        {%- endif %}

),

counts_to_sum as (

    {% for source in ['feature_counts', 'label_counts'] -%}
    select
        baseline_id, model_name, model_version, window_of_row, segment_key, segment_value,
        feature_name, row_count, bin_counts
    from {{ source }}
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

windowed as (

    select
        baseline_id,
        model_name,
        model_version,
        window_of_row as window_start,
        segment_key,
        segment_value,
        feature_name,
        sum(counts_to_sum.row_count) as row_count,
        sumForEach(counts_to_sum.bin_counts) as bin_counts
    from counts_to_sum
    where
        (model_name, model_version, window_of_row) in (
            select model_name, model_version, window_to_read from windows_to_read
        )
    group by {{ key }}, feature_name

),

windowed_clusters as (

    select
        model_name,
        model_version,
        {{ window_start('predicted_hour', granularity) }} as window_start,
        segment_key,
        segment_value,
        sum(hourly.row_count) as clustered_rows,
        uniqCombined64MergeState(hourly.clusters) as clusters
    from {{ ref('int_clusters_hourly') }} as hourly
    where
        {{ is_near }}
        and (model_name, model_version, {{ window_start('predicted_hour', granularity) }}) in (
            select model_name, model_version, window_to_read from windows_to_read
        )
    group by model_name, model_version, window_start, segment_key, segment_value

),

-- Rows of an older baseline of the same model version stay in the histograms; here the active one counts.
against_active as (

    select
        * except (active_baseline_id, min_rows, label_maturity_hours),
        ifNull(min_rows, {{ var('default_min_rows') }}) as min_rows,
        ifNull(label_maturity_hours, 0) as label_maturity_hours,
        -- Of the label only rows that have one count.
        if(
            feature_name = '__label__', row_count, max(row_count) over (partition by {{ key }})
        ) as segment_row_count
    from windowed
    left join active_baselines using (model_name, model_version)
    left join configured_models using (model_name)
    left join windowed_clusters
        using (model_name, model_version, window_start, segment_key, segment_value)
    where baseline_id = ifNull(active_baseline_id, '')

),

-- A row is the current side of its own window, and the previous one of the next.
beside_previous as (

    select
        baseline_id,
        model_name,
        model_version,
        (
            arrayJoin([
                (1, window_start), (0, {{ window_end('window_start', granularity) }})
            ]) as side
        ).2 as compared_window,
        segment_key,
        segment_value,
        feature_name,
        side.1 as is_current,
        row_count,
        bin_counts,
        min_rows,
        label_maturity_hours,
        segment_row_count,
        clustered_rows,
        clusters
    from against_active

),

compared_windows as (

    select
        baseline_id,
        model_name,
        model_version,
        compared_window,
        segment_key,
        segment_value,
        feature_name,
        any(beside_previous.min_rows) as min_rows,
        any(beside_previous.label_maturity_hours) as label_maturity_hours,
        sumIf(beside_previous.row_count, is_current = 1) as row_count,
        sumForEachIf(beside_previous.bin_counts, is_current = 1) as bin_counts,
        sumIf(beside_previous.segment_row_count, is_current = 1) as segment_row_count,
        sumIf(beside_previous.clustered_rows, is_current = 1) as clustered_rows,
        uniqCombined64MergeStateIf(beside_previous.clusters, is_current = 1) as clusters,
        sumForEachIf(beside_previous.bin_counts, is_current = 0) as previous_counts,
        sumIf(beside_previous.clustered_rows, is_current = 0) as previous_clustered_rows,
        uniqCombined64MergeStateIf(beside_previous.clusters, is_current = 0) as previous_clusters
    from beside_previous
    group by
        baseline_id, model_name, model_version, compared_window, segment_key, segment_value, feature_name
    having countIf(is_current = 1) > 0

),

-- Too small to judge one by one, perhaps large enough together: such a segment stands in two groups.
grouped as (

    select
        *,
        arrayJoin(if(
            segment_row_count < min_rows and segment_key != 'all',
            [toString(segment_value), '__small__'],
            [toString(segment_value)]
        )) as group_value
    from compared_windows
    left join baseline_histograms using (baseline_id, segment_key, segment_value, feature_name)
    left join baseline_clusters using (baseline_id, segment_key, segment_value)

),

summed as (

    select
        baseline_id,
        model_name,
        model_version,
        compared_window,
        segment_key,
        group_value,
        feature_name,
        any(grouped.min_rows) as min_rows,
        any(grouped.label_maturity_hours) as label_maturity_hours,
        sum(grouped.row_count) as row_count,
        sumForEach(grouped.bin_counts) as bin_counts,
        sum(grouped.segment_row_count) as segment_row_count,
        sum(grouped.clustered_rows) as clustered_rows,
        uniqCombined64MergeState(grouped.clusters) as clusters,
        sumForEach(grouped.own_baseline_counts) as own_counts,
        sum(grouped.own_baseline_clustered_rows) as own_clustered_rows,
        uniqCombined64MergeState(grouped.own_baseline_clusters) as own_clusters,
        sumForEach(grouped.previous_counts) as previous_counts,
        sum(grouped.previous_clustered_rows) as previous_clustered_rows,
        uniqCombined64MergeState(grouped.previous_clusters) as previous_clusters
    from grouped
    group by
        baseline_id, model_name, model_version, compared_window, segment_key, group_value, feature_name

),

expanded as (

    select
        * except (compared_window, group_value, own_counts, previous_counts),
        compared_window as window_start,
        group_value as segment_value,
        arrayJoin(['baseline', 'previous']) as comparison,
        if(comparison = 'baseline', own_counts, previous_counts) as reference_counts
    from summed

),

sides as (

    select *
    from expanded
    where
        (model_name, model_version, comparison, window_start) in (
            select model_name, model_version, comparison, family_window from families
        )

)
{%- endmacro %}
