{#- Drift of every feature in every segment and window of one granularity, against the baseline and against
    the previous window; every column is defined in docs/metrics.md. The unit of recomputation is a family:
    a comparison of a window with all its segments and features, because q-values belong to it. -#}
{% macro feature_drift(granularity) -%}
{%- set ranks = {'': 0, 'hour': 1, 'day': 2, 'week': 3, 'month': 4} -%}
{%- set family = 'model_name, model_version, comparison, window_start' -%}
with {{ drift_sides(granularity) }},

binning as (

    select
        baseline_id,
        feature_name,
        feature_type as binned_type,
        min_granularity as binned_min_granularity,
        pieces,
        standard_deviation as unit_of_distance,
        length(edges) + notEmpty(edges) as interval_count,
        importance
    from {{ ref('int_feature_binning_latest') }}

),

whole_baselines as (

    select
        baseline_histograms.baseline_id as baseline_id,
        baseline_histograms.feature_name as feature_name,
        baseline_histograms.own_baseline_counts as whole_baseline_counts,
        baseline_clusters.own_baseline_clustered_rows as whole_clustered_rows,
        baseline_clusters.own_baseline_clusters as whole_clusters
    from baseline_histograms
    left join baseline_clusters
        on baseline_histograms.baseline_id = baseline_clusters.baseline_id
        and baseline_clusters.segment_key = 'all'
    where baseline_histograms.segment_key = 'all'

),

baseline_psi as (

    select
        baseline_id,
        comparison,
        segment_key as baseline_segment_key,
        segment_value as baseline_segment_value,
        feature_name,
        psi_baseline_p95
    from {{ ref('int_baseline_psi_latest') }}
    where granularity = '{{ granularity }}'

),

compared as (

    select
        * except (
            bin_counts, reference_counts, whole_baseline_counts, binned_type, binned_min_granularity,
            clusters, own_clusters, previous_clusters, whole_clusters, clustered_rows, own_clustered_rows,
            previous_clustered_rows, whole_clustered_rows
        ),
        ifNull(binned_type, '') as feature_type,
        ifNull(binned_min_granularity, '') as min_granularity,
        arrayMap(bin_count -> toUInt64(bin_count), bin_counts) as current_bin_counts,
        multiIf(
            baseline_id = '' or feature_type = '', 'none',
            comparison = 'previous', if(arraySum(reference_counts) > 0, 'segment', 'none'),
            arraySum(reference_counts) >= min_rows, 'segment',
            'all'
        ) as baseline_scope,
        multiIf(
            baseline_scope = 'segment', reference_counts,
            baseline_scope = 'all', whole_baseline_counts,
            []
        ) as baseline_bin_counts,
        multiIf(
            baseline_scope = 'segment', segment_key, baseline_scope = 'all', 'all', ''
        ) as baseline_segment_key,
        multiIf(
            baseline_scope = 'segment', segment_value, baseline_scope = 'all', 'all', ''
        ) as baseline_segment_value,
        {{ design_effect('clustered_rows', 'clusters') }} as design_effect,
        multiIf(
            baseline_scope = 'none', null,
            comparison = 'previous',
            {{ design_effect('previous_clustered_rows', 'previous_clusters') }},
            baseline_scope = 'segment', {{ design_effect('own_clustered_rows', 'own_clusters') }},
            baseline_scope = 'all', {{ design_effect('whole_clustered_rows', 'whole_clusters') }},
            null
        ) as baseline_design_effect,
        -- The baseline was cut into these bins; a segment's or another window's counts in them are chance.
        if(
            comparison = 'baseline' and baseline_segment_key = 'all', ifNull(interval_count, 0), 0
        ) as decile_bins
    from sides
    left join binning using (baseline_id, feature_name)
    left join whole_baselines using (baseline_id, feature_name)

),

counted as (

    select
        *,
        arraySum(baseline_bin_counts) as baseline_count,
        if(
            feature_type = '', row_count, arraySum(current_bin_counts)
        ) as current_count,
        if(
            baseline_scope = 'none',
            [], {{ kept_bins('baseline_bin_counts', 'current_bin_counts', 'decile_bins') }}
        ) as kept,
        {{ smoothed_shares('kept', 'baseline_count', 'current_count') }} as shares,
        -- Rows that depend on each other are worth fewer independent ones.
        baseline_count / ifNull(baseline_design_effect, 1) as effective_baseline_count,
        current_count / ifNull(design_effect, 1) as effective_count,
        least(effective_baseline_count, effective_count) as smaller_count,
        {{ rare_bins_pooled('kept', 'baseline_count', 'current_count', 'smaller_count') }} as tested,
        {{ smoothed_shares('tested', 'baseline_count', 'current_count') }} as tested_shares,
        -- Numbers of known size: __missing__, __invalid__ and __other__ have no place on the line.
        arraySlice(baseline_bin_counts, 1, arrayMax(pieces.1)) as placed_baseline_counts,
        arraySlice(current_bin_counts, 1, arrayMax(pieces.1)) as placed_counts,
        baseline_scope != 'none'
        and notEmpty(pieces)
        and arraySum(placed_baseline_counts) > 0
        and arraySum(placed_counts) > 0 as are_numbers_compared,
        if(
            are_numbers_compared,
            {{ cumulative_differences(
                'pieces', 'placed_baseline_counts', 'placed_counts',
                'arraySum(placed_baseline_counts)', 'arraySum(placed_counts)'
            ) }},
            []
        ) as differences
    from compared

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
            feature_name = '__label__'
            and {{ are_labels_incomplete(
                window_end('window_start', granularity), 'label_maturity_hours'
            ) }}, 'labels_not_complete',
            comparison = 'previous' and baseline_scope = 'none', 'no_previous_window',
            segment_row_count < min_rows, 'below_min_rows',
            baseline_count < min_rows and comparison = 'previous', 'previous_below_min_rows',
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
        if(are_numbers_compared, arrayMax(arrayMap(step -> abs(step), differences)), null) as ks_binned,
        if(are_numbers_compared and unit_of_distance > 0, {{ area_between_distributions(
            'pieces', 'differences'
        ) }} / unit_of_distance, null) as wasserstein_binned,
        1 / effective_baseline_count + 1 / effective_count as sampling_variance,
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
        using (baseline_id, comparison, feature_name, baseline_segment_key, baseline_segment_value)

),

-- Rows that are not evaluated are no tests: they stand in partitions of their own.
ranked as (

    select
        *,
        obstacle = '' as is_tested,
        row_number() over (
            partition by {{ family }}, obstacle = ''
            order by p_value asc, segment_key asc, segment_value asc, feature_name asc
        ) as rank_in_family,
        count() over (
            partition by {{ family }}, obstacle = ''
        ) as tests_in_family
    from measured

),

tested as (

    select
        *,
        if(
            is_tested,
            {{ benjamini_hochberg('p_value', family ~ ', is_tested') }},
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
            endsWith(obstacle, 'below_min_rows'), 'insufficient_data',
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
        comparison,
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
        ks_binned,
        if(isFinite(wasserstein_binned), wasserstein_binned, null) as wasserstein_binned,
        design_effect,
        baseline_design_effect,
        psi_noise,
        if(psi is null, null, greatest(psi - psi_noise, 0)) as psi_debiased,
        p_value,
        q_value,
        psi_baseline_p95,
        verdict,
        reason,
        -- Of the counts as they are: smoothing would hide it where the rows are few.
        toUInt8(notEmpty(kept) and arraySum(
            pair -> least(pair.1 / baseline_count, pair.2 / current_count), kept
        ) < 0.01) as is_saturated,
        baseline_bin_counts,
        current_bin_counts,
        {{ run_version() }} as run_version
    from judged

)

select * from final
{%- endmacro %}
