{#- How much the baseline's own windows differ from the whole of it: what a drift must exceed,
    since real data are autocorrelated and sampling noise is not the only noise. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='(baseline_id, granularity, segment_key, segment_value, feature_name)',
) }}

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

windowed as (

    {% for granularity in ['day', 'week', 'month'] %}
    select
        baseline_id,
        '{{ granularity }}' as granularity,
        segment_key,
        segment_value,
        feature_name,
        {{ window_start('window_start', granularity) }} as window_of_baseline,
        sum(row_count) as window_row_count,
        sumForEach(bin_counts) as window_bin_counts
    from daily
    group by
        baseline_id, granularity, segment_key, segment_value, feature_name, window_of_baseline
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

whole as (

    select baseline_id, segment_key, segment_value, feature_name, bin_counts
    from {{ ref('int_baseline_histograms_latest') }}

),

compared as (

    select
        windowed.baseline_id as baseline_id,
        windowed.granularity as granularity,
        windowed.segment_key as segment_key,
        windowed.segment_value as segment_value,
        windowed.feature_name as feature_name,
        {{ kept_bins('whole.bin_counts', 'windowed.window_bin_counts') }} as kept,
        arraySum(kept.1) as baseline_count,
        arraySum(kept.2) as current_count,
        {{ smoothed_shares('kept', 'baseline_count', 'current_count') }} as shares,
        {{ population_stability_index('shares') }} as psi
    from windowed
    inner join whole
        on windowed.baseline_id = whole.baseline_id
        and windowed.segment_key = whole.segment_key
        and windowed.segment_value = whole.segment_value
        and windowed.feature_name = whole.feature_name
    inner join baselines on windowed.baseline_id = baselines.baseline_id
    left join configured_models on baselines.model_name = configured_models.model_name
    where
        windowed.window_row_count
        >= ifNull(configured_models.min_rows, {{ var('default_min_rows') }})

),

final as (

    select
        baseline_id,
        granularity,
        segment_key,
        segment_value,
        feature_name,
        quantileExactInclusive(0.95)(psi) as psi_baseline_p95,
        toUInt32(count()) as window_count,
        {{ run_version() }} as run_version
    from compared
    group by baseline_id, granularity, segment_key, segment_value, feature_name
    -- One window says nothing about how windows differ.
    having window_count >= 2

)

select * from final
