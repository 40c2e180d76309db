{#- The CTEs of feature_drift that give each comparison both of its sides: one row per model version,
    comparison, window, segment and feature, with the counts of the window and of what it is compared with,
    and the rows and distinct clusters of both. The last CTE is `sides`. -#}
{% macro drift_sides(granularity) -%}
{%- set key = 'baseline_id, model_name, model_version, window_start, segment_key, segment_value' -%}
{%- set sides = [
    'baseline_id', 'model_name', 'model_version', 'comparison', 'window_start', 'segment_key',
    'segment_value', 'feature_name', 'min_rows', 'label_maturity_hours', 'row_count', 'bin_counts',
    'segment_row_count', 'clustered_rows', 'clusters', 'reference_counts', 'reference_clustered_rows',
    'reference_clusters',
] | join(', ') -%}
{#- What is outside of all windows need not be read to know that it is. -#}
{%- set is_near -%}
predicted_hour >= (select min(windows_to_read.window_to_read) from windows_to_read)
        and predicted_hour < (
            select {{ window_end('max(windows_to_read.window_to_read)', granularity) }} from windows_to_read
        )
{%- endset %}
{#- As plain strings: a union of these and of strings by dictionary would be a Variant. -#}
{%- set own_side -%}
toString(baseline_id) as baseline_id,
        toString(model_name) as model_name,
        toString(model_version) as model_version,
        window_start,
        toString(segment_key) as segment_key,
        toString(segment_value) as segment_value,
        toString(feature_name) as feature_name,
        min_rows, label_maturity_hours, row_count, bin_counts, segment_row_count, clustered_rows, clusters
{%- endset %}
changed_windows as (

    {{ changed_drift_windows(granularity) }}

),

-- The unit of recomputation; a changed window is also what the next one is compared with.
families as (

    select model_name, model_version, 'baseline' as comparison, window_start
    from changed_windows
    union distinct
    select model_name, model_version, 'previous' as comparison, window_start
    from changed_windows
    union distinct
    select
        model_name,
        model_version,
        'previous' as comparison,
        {{ window_end('window_start', granularity) }} as window_start
    from changed_windows

),

windows_to_read as (

    select model_name, model_version, window_start as window_to_read from families
    union distinct
    select
        model_name,
        model_version,
        {{ previous_window('window_start', granularity) }} as window_to_read
    from families

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
    where
        (model_name, model_version, window_of_row) in (
            select model_name, model_version, window_to_read from windows_to_read
        )
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

previous_windows as (

    select
        baseline_id,
        model_name,
        model_version,
        {{ window_end('window_start', granularity) }} as window_start,
        segment_key,
        segment_value,
        feature_name,
        bin_counts as previous_counts,
        clustered_rows as previous_clustered_rows,
        clusters as previous_clusters
    from against_active

),

beside_references as (

    select
        {{ own_side }},
        'baseline' as comparison,
        own_baseline_counts as reference_counts,
        own_baseline_clustered_rows as reference_clustered_rows,
        own_baseline_clusters as reference_clusters
    from against_active
    left join baseline_histograms using (baseline_id, segment_key, segment_value, feature_name)
    left join baseline_clusters using (baseline_id, segment_key, segment_value)
    union all
    select
        {{ own_side }},
        'previous' as comparison,
        previous_counts as reference_counts,
        previous_clustered_rows as reference_clustered_rows,
        previous_clusters as reference_clusters
    from against_active
    left join previous_windows using ({{ key }}, feature_name)

),

singles as (

    select {{ sides }}
    from beside_references
    where
        (model_name, model_version, comparison, window_start) in (
            select model_name, model_version, comparison, window_start from families
        )

),

-- Too small to judge one by one, perhaps large enough together.
pooled as (

    select
        baseline_id,
        model_name,
        model_version,
        comparison,
        window_start,
        segment_key,
        '__small__' as segment_value,
        feature_name,
        any(singles.min_rows) as min_rows,
        any(singles.label_maturity_hours) as label_maturity_hours,
        sum(singles.row_count) as row_count,
        sumForEach(singles.bin_counts) as bin_counts,
        sum(singles.segment_row_count) as segment_row_count,
        sum(singles.clustered_rows) as clustered_rows,
        uniqCombined64MergeState(singles.clusters) as clusters,
        sumForEach(singles.reference_counts) as reference_counts,
        sum(singles.reference_clustered_rows) as reference_clustered_rows,
        uniqCombined64MergeState(singles.reference_clusters) as reference_clusters
    from singles
    where singles.segment_row_count < singles.min_rows and singles.segment_key != 'all'
    group by
        baseline_id, model_name, model_version, comparison, window_start, segment_key, feature_name

),

sides as (

    select {{ sides }} from singles
    union all
    select {{ sides }} from pooled

)
{%- endmacro %}
