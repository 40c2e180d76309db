{#- Drift of every feature in every segment and window of one granularity against the baseline; every
    column is defined in docs/metrics.md. The unit of recomputation is a window with all its segments and
    features, because q-values belong to the family. -#}
{% macro feature_drift(granularity) -%}
{%- set ranks = {'': 0, 'hour': 1, 'day': 2, 'week': 3, 'month': 4} -%}
with touched_windows as (

    {{ changed_drift_windows(granularity) }}

),

active_baselines as (

    select model_name, model_version, baseline_id as active_baseline_id
    from {{ ref('dim_baselines') }}
    where is_active = 1

),

configured_models as (

    select model_name, min_rows from {{ ref('models') }}

),

binning as (

    select
        baseline_id,
        feature_name,
        feature_type as binned_type,
        min_granularity as binned_min_granularity,
        length(edges) + notEmpty(edges) as interval_count,
        importance
    from {{ ref('int_feature_binning_latest') }}

),

baseline_histograms as (

    select
        baseline_id, segment_key, segment_value, feature_name, bin_counts as own_baseline_counts
    from {{ ref('int_baseline_histograms_latest') }}

),

whole_baseline_histograms as (

    select baseline_id, feature_name, own_baseline_counts as whole_baseline_counts
    from baseline_histograms
    where segment_key = 'all'

),

baseline_psi as (

    select
        baseline_id,
        segment_key as baseline_segment_key,
        segment_value as baseline_segment_value,
        feature_name,
        psi_baseline_p95
    from {{ ref('int_baseline_psi_latest') }}
    where granularity = '{{ granularity }}'

),

daily as (

    select
        *,
        {{ window_start('window_start', granularity) }} as window_of_day
    from {{ ref('int_feature_histograms_daily') }}

),

windowed as (

    select
        daily.baseline_id as baseline_id,
        daily.model_name as model_name,
        daily.model_version as model_version,
        daily.window_of_day as window_start,
        daily.segment_key as segment_key,
        daily.segment_value as segment_value,
        daily.feature_name as feature_name,
        sum(daily.row_count) as row_count,
        sumForEach(daily.bin_counts) as bin_counts
    from daily
    where
        (daily.model_name, daily.model_version, daily.window_of_day) in (
            select model_name, model_version, window_start from touched_windows
        )
    group by
        baseline_id, model_name, model_version, window_start, segment_key, segment_value, feature_name

),

-- Rows of an older baseline of the same model version stay in the histograms; here the active one counts.
against_active as (

    select
        * except (active_baseline_id, min_rows),
        ifNull(min_rows, {{ var('default_min_rows') }}) as min_rows,
        max(row_count) over (
            partition by model_name, model_version, window_start, segment_key, segment_value
        ) as segment_row_count
    from windowed
    left join active_baselines using (model_name, model_version)
    left join configured_models using (model_name)
    where baseline_id = ifNull(active_baseline_id, '')

),

beside_own_baseline as (

    select *
    from against_active
    left join baseline_histograms using (baseline_id, segment_key, segment_value, feature_name)

),

-- Too small to judge one by one, perhaps large enough together.
small_segments as (

    select * from beside_own_baseline
    where segment_row_count < min_rows and segment_key != 'all'

),

pooled as (

    select
        baseline_id,
        model_name,
        model_version,
        window_start,
        segment_key,
        '__small__' as segment_value,
        feature_name,
        sum(row_count) as row_count,
        sumForEach(bin_counts) as bin_counts,
        any(min_rows) as min_rows,
        sum(segment_row_count) as segment_row_count,
        sumForEach(own_baseline_counts) as own_baseline_counts
    from small_segments
    group by baseline_id, model_name, model_version, window_start, segment_key, feature_name

),

unioned as (

    select
        baseline_id, model_name, model_version, window_start, segment_key, segment_value, feature_name,
        row_count, bin_counts, min_rows, segment_row_count, own_baseline_counts
    from beside_own_baseline
    union all
    select
        baseline_id, model_name, model_version, window_start, segment_key, segment_value, feature_name,
        row_count, bin_counts, min_rows, segment_row_count, own_baseline_counts
    from pooled

),

beside_baseline as (

    select
        * except (
            bin_counts, own_baseline_counts, whole_baseline_counts, binned_type, binned_min_granularity
        ),
        ifNull(binned_type, '') as feature_type,
        ifNull(binned_min_granularity, '') as min_granularity,
        arrayMap(bin_count -> toUInt64(bin_count), bin_counts) as current_bin_counts,
        multiIf(
            baseline_id = '' or feature_type = '', 'none',
            arraySum(own_baseline_counts) >= min_rows, 'segment',
            'all'
        ) as baseline_scope,
        multiIf(
            baseline_scope = 'segment', own_baseline_counts,
            baseline_scope = 'all', whole_baseline_counts,
            []
        ) as baseline_bin_counts,
        if(baseline_scope = 'all', 'all', segment_key) as baseline_segment_key,
        if(baseline_scope = 'all', 'all', segment_value) as baseline_segment_value,
        -- Deciles are those of the whole baseline; a segment's counts in them are its own.
        if(baseline_segment_key = 'all', ifNull(interval_count, 0), 0) as decile_bins
    from unioned
    left join binning using (baseline_id, feature_name)
    left join whole_baseline_histograms using (baseline_id, feature_name)

),

counted as (

    select
        *,
        arraySum(baseline_bin_counts) as baseline_count,
        if(baseline_scope = 'none', row_count, arraySum(current_bin_counts)) as current_count,
        if(
            baseline_scope = 'none',
            [], {{ kept_bins('baseline_bin_counts', 'current_bin_counts', 'decile_bins') }}
        ) as kept,
        {{ smoothed_shares('kept', 'baseline_count', 'current_count') }} as shares,
        least(baseline_count, current_count) as smaller_count,
        {{ rare_bins_pooled('kept', 'baseline_count', 'current_count', 'smaller_count') }} as tested,
        {{ smoothed_shares('tested', 'baseline_count', 'current_count') }} as tested_shares
    from beside_baseline

),

measured as (

    select
        *,
        multiIf(
            baseline_id = '', 'no_baseline',
            feature_type = '', 'not_in_baseline',
            {{ ranks[granularity] }} < transform(
                min_granularity,
                {{ ranks.keys() | list }}, {{ ranks.values() | list }}, 0
            ), 'below_min_granularity',
            {{ window_end('window_start', granularity) }} > {{ as_of() }}, 'window_open',
            segment_row_count < min_rows, 'below_min_rows',
            baseline_count < min_rows, 'baseline_below_min_rows',
            ''
        ) as obstacle,
        if(
            baseline_scope = 'none', null, {{ population_stability_index('shares') }}
        ) as psi,
        if(
            baseline_scope = 'none',
            null, arraySum(share -> share.2 * log(share.2 / share.1), shares)
        ) as kl_current_baseline,
        if(
            baseline_scope = 'none',
            null, arraySum(share -> share.1 * log(share.1 / share.2), shares)
        ) as kl_baseline_current,
        if(
            baseline_scope = 'none', null, sqrt(greatest(0, arraySum(
                share -> share.1 * log2(2 * share.1 / (share.1 + share.2))
                + share.2 * log2(2 * share.2 / (share.1 + share.2)),
                shares
            ) / 2))
        ) as js_distance,
        if(
            baseline_scope = 'none', null, sqrt(arraySum(
                share -> pow(sqrt(share.1) - sqrt(share.2), 2), shares
            ) / 2)
        ) as hellinger,
        if(
            baseline_scope = 'none',
            null, arraySum(share -> abs(share.1 - share.2), shares) / 2
        ) as tv_distance,
        1 / baseline_count + 1 / current_count as sampling_variance,
        if(
            baseline_scope = 'none', null, (length(kept) - 1) * sampling_variance
        ) as psi_noise,
        {{ population_stability_index('tested_shares') }} / sampling_variance as test_statistic,
        toInt32(length(tested)) - 1 as degrees_of_freedom,
        multiIf(
            obstacle != '', null,
            degrees_of_freedom < 1, 1.,
            {{ chi_squared_survival('test_statistic', 'degrees_of_freedom') }}
        ) as p_value
    from counted
    left join baseline_psi
        using (baseline_id, feature_name, baseline_segment_key, baseline_segment_value)

),

-- Rows that are not evaluated are no tests: they stand in partitions of their own.
ranked as (

    select
        *,
        obstacle = '' as is_tested,
        row_number() over (
            partition by model_name, model_version, window_start, obstacle = ''
            order by p_value asc, segment_key asc, segment_value asc, feature_name asc
        ) as rank_in_family,
        count() over (
            partition by model_name, model_version, window_start, obstacle = ''
        ) as tests_in_family
    from measured

),

tested as (

    select
        *,
        if(
            is_tested,
            {{ benjamini_hochberg('p_value', 'model_name, model_version, window_start, is_tested') }},
            null
        ) as q_value
    from ranked

),

judged as (

    select
        *,
        q_value <= {{ var('false_discovery_rate') }}
        and (psi_baseline_p95 is null or psi > psi_baseline_p95)
            as is_beyond_noise,
        multiIf(
            obstacle in ('below_min_rows', 'baseline_below_min_rows'), 'insufficient_data',
            obstacle != '', 'not_evaluated',
            psi >= {{ var('psi_drift') }} and is_beyond_noise, 'drift',
            psi >= {{ var('psi_warning') }} and is_beyond_noise, 'warning',
            'ok'
        ) as verdict,
        multiIf(
            obstacle != '', obstacle,
            psi < {{ var('psi_warning') }} or verdict != 'ok', '',
            q_value > {{ var('false_discovery_rate') }}, 'not_significant',
            'within_baseline_variation'
        ) as reason
    from tested

),

final as (

    select
        toLowCardinality(model_name) as model_name,
        toLowCardinality(model_version) as model_version,
        toLowCardinality(baseline_id) as baseline_id,
        'baseline' as comparison,
        toLowCardinality(segment_key) as segment_key,
        toLowCardinality(segment_value) as segment_value,
        toLowCardinality(feature_name) as feature_name,
        feature_type,
        importance,
        window_start,
        {{ window_end('window_start', granularity) }} as window_end,
        baseline_scope,
        toUInt64(baseline_count) as baseline_count,
        toUInt64(current_count) as current_count,
        toUInt16(length(kept)) as bins_kept,
        psi,
        kl_current_baseline,
        kl_baseline_current,
        js_distance,
        hellinger,
        tv_distance,
        psi_noise,
        if(psi is null, null, greatest(psi - psi_noise, 0)) as psi_debiased,
        p_value,
        q_value,
        psi_baseline_p95,
        verdict,
        reason,
        toUInt8(ifNull(tv_distance > 0.99, 0)) as is_saturated,
        baseline_bin_counts,
        current_bin_counts,
        {{ run_version() }} as run_version
    from judged

)

select * from final
{%- endmacro %}
