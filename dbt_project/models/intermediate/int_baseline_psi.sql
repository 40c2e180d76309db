{#- How much the baseline's own windows differ from the whole of it, and each from the one before: what a
    drift must exceed, since real data are autocorrelated and sampling noise is not the only noise. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='(baseline_id, comparison, granularity, segment_key, segment_value, feature_name)',
) }}

{% set recounted_baselines -%}
select baseline_id from {{ ref('int_baseline_histograms_daily') }} where run_version > {{ last_run_version() }}
union all
select baseline_id from {{ ref('int_baseline_histograms_hourly') }} where run_version > {{ last_run_version() }}
{%- endset %}
{% if is_up_to_date(recounted_baselines) -%}
select * from {{ this }} where false
{%- else -%}
with daily as (

    select * from {{ ref('int_baseline_histograms_daily_latest') }}
    where
        run_version > {{ last_run_version() }}
        and window_start > toDateTime(0, 'UTC')

),

baselines as (

    select baseline_id, model_name from {{ ref('stg_raw__baselines') }}

),

configured_models as (

    select model_name, min_rows from {{ ref('models') }}

),

hourly as (

    select * from {{ ref('int_baseline_histograms_hourly_latest') }}
    where
        run_version > {{ last_run_version() }}
        and window_start > toDateTime(0, 'UTC')

),

windowed as (

    {% for granularity in ['hour', 'day', 'week', 'month'] %}
    select
        baseline_id,
        '{{ granularity }}' as granularity,
        segment_key,
        segment_value,
        feature_name,
        {{ window_start('window_start', granularity) }} as window_of_baseline,
        {{ window_end('window_of_baseline', granularity) }} as next_window,
        sum(row_count) as window_row_count,
        sumForEach(bin_counts) as window_bin_counts
    from {{ 'hourly' if granularity == 'hour' else 'daily' }}
    group by
        baseline_id, granularity, segment_key, segment_value, feature_name, window_of_baseline
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

large_enough as (

    select
        windowed.baseline_id as baseline_id,
        windowed.granularity as granularity,
        windowed.segment_key as segment_key,
        windowed.segment_value as segment_value,
        windowed.feature_name as feature_name,
        windowed.window_of_baseline as window_of_baseline,
        windowed.next_window as next_window,
        windowed.window_bin_counts as window_bin_counts
    from windowed
    inner join baselines on windowed.baseline_id = baselines.baseline_id
    left join configured_models on baselines.model_name = configured_models.model_name
    where
        windowed.window_row_count
        >= ifNull(configured_models.min_rows, {{ var('default_min_rows') }})

),

whole as (

    select baseline_id, segment_key, segment_value, feature_name, bin_counts
    from {{ ref('int_baseline_histograms_latest') }}

),

paired as (

    select
        large_enough.baseline_id as baseline_id,
        'baseline' as comparison,
        large_enough.granularity as granularity,
        large_enough.segment_key as segment_key,
        large_enough.segment_value as segment_value,
        large_enough.feature_name as feature_name,
        whole.bin_counts as reference_counts,
        large_enough.window_bin_counts as window_counts
    from large_enough
    inner join whole
        on large_enough.baseline_id = whole.baseline_id
        and large_enough.segment_key = whole.segment_key
        and large_enough.segment_value = whole.segment_value
        and large_enough.feature_name = whole.feature_name
    union all
    select
        later.baseline_id as baseline_id,
        'previous' as comparison,
        later.granularity as granularity,
        later.segment_key as segment_key,
        later.segment_value as segment_value,
        later.feature_name as feature_name,
        earlier.window_bin_counts as reference_counts,
        later.window_bin_counts as window_counts
    from large_enough as later
    inner join large_enough as earlier
        on later.baseline_id = earlier.baseline_id
        and later.granularity = earlier.granularity
        and later.segment_key = earlier.segment_key
        and later.segment_value = earlier.segment_value
        and later.feature_name = earlier.feature_name
        and later.window_of_baseline = earlier.next_window

),

compared as (

    select
        baseline_id,
        comparison,
        granularity,
        segment_key,
        segment_value,
        feature_name,
        {{ kept_bins('reference_counts', 'window_counts') }} as kept,
        arraySum(kept.1) as baseline_count,
        arraySum(kept.2) as current_count,
        {{ smoothed_shares('kept', 'baseline_count', 'current_count') }} as shares,
        {{ population_stability_index('shares') }} as psi
    from paired

),

final as (

    select
        baseline_id,
        comparison,
        granularity,
        segment_key,
        segment_value,
        feature_name,
        quantileExactInclusive(0.95)(psi) as psi_baseline_p95,
        toUInt32(count()) as window_count,
        {{ run_version() }} as run_version
    from compared
    group by baseline_id, comparison, granularity, segment_key, segment_value, feature_name
    -- One window says nothing about how windows differ.
    having window_count >= 2

)

select * from final
{%- endif %}
