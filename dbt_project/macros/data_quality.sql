{#- The quality of every feature in every segment and window of one granularity beside its baseline;
    every column is defined in docs/metrics.md. Every rate is a share of the rows counted, so that the rates
    of one feature add up; what a type of feature cannot have is null, never 0. The unit of recomputation
    is a window with all its segments and features. -#}
{% macro data_quality(granularity) -%}
{%- set key = [
    'baseline_id', 'model_name', 'model_version', 'window_start', 'segment_key', 'segment_value',
    'feature_name',
] | join(', ') -%}
{%- set baseline_columns = [
    'row_count', 'null_count', 'missing_count', 'type_mismatch_count', 'number_count', 'zero_count',
    'number_sum', 'number_sum_of_squares', 'number_min', 'number_max',
] -%}
{%- set percents = [5, 25, 50, 75, 95] -%}
with touched_windows as (

    {{ touched_windows(granularity) }}

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
        feature_type,
        min_value,
        max_value,
        declared_nullable,
        points,
        {{ centre_of_numbers('bins') }} as centre,
        {{ unit_of_numbers('bins') }} as unit,
        arrayMap(point -> {{ number_bucket('point', 'centre', 'unit') }}, points) as point_buckets
    from {{ ref('int_feature_binning_latest') }} as bins

),

own_baselines as (

    select
        baseline_id, segment_key, segment_value, feature_name,
        {% for column in baseline_columns -%}
        {{ column }} as own_{{ column }},
        {% endfor -%}
        number_buckets as own_number_buckets
    from {{ ref('int_baseline_histograms_latest') }}
    where baseline_id in (select active_baselines.active_baseline_id from active_baselines)

),

whole_baselines as (

    select
        baseline_id, feature_name,
        {% for column in baseline_columns -%}
        own_{{ column }} as whole_{{ column }},
        {% endfor -%}
        own_number_buckets as whole_number_buckets
    from own_baselines
    where segment_key = 'all'

),

counts_to_sum as (

    {{ histograms_by_window(granularity) }}

),

windowed as (

    select
        counts_to_sum.baseline_id as baseline_id,
        counts_to_sum.model_name as model_name,
        counts_to_sum.model_version as model_version,
        counts_to_sum.window_of_row as window_start,
        counts_to_sum.segment_key as segment_key,
        counts_to_sum.segment_value as segment_value,
        counts_to_sum.feature_name as feature_name,
        {{ histogram_columns(merge=true) }}
    from counts_to_sum
    where
        (counts_to_sum.model_name, counts_to_sum.model_version, counts_to_sum.window_of_row) in (
            select touched_windows.model_name, touched_windows.model_version, touched_windows.window_start
            from touched_windows
        )
    group by {{ key }}

),

-- Rows of an older baseline of the same model version stay in the histograms; here the active one counts.
against_active as (

    select
        * except (active_baseline_id, min_rows, feature_type),
        ifNull(min_rows, {{ var('default_min_rows') }}) as min_rows,
        ifNull(feature_type, '') as feature_type
    from windowed
    left join active_baselines using (model_name, model_version)
    left join configured_models using (model_name)
    left join binning using (baseline_id, feature_name)
    where
        baseline_id = ifNull(active_baseline_id, '')
        -- The predicted class follows from the score, and has no quality of its own; a number does.
        and (feature_name != '__prediction__' or feature_type = 'numeric')

),

beside_baseline as (

    select
        *,
        multiIf(
            feature_type = '', 'none',
            ifNull(own_row_count, 0) >= min_rows, 'segment',
            'all'
        ) as baseline_scope,
        {% for column in baseline_columns -%}
        multiIf(
            baseline_scope = 'segment', own_{{ column }}, baseline_scope = 'all', whole_{{ column }}, null
        ) as baseline_{{ column }},
        {% endfor -%}
        if(baseline_scope = 'segment', own_number_buckets, whole_number_buckets) as baseline_number_buckets
    from against_active
    left join own_baselines using (baseline_id, segment_key, segment_value, feature_name)
    left join whole_baselines using (baseline_id, feature_name)

),

final as (

    select
        toLowCardinality(model_name) as model_name,
        toLowCardinality(model_version) as model_version,
        toLowCardinality(baseline_id) as baseline_id,
        toLowCardinality(segment_key) as segment_key,
        toLowCardinality(segment_value) as segment_value,
        toLowCardinality(feature_name) as feature_name,
        feature_type,
        window_start,
        {{ window_end('window_start', granularity) }} as window_end,
        toUInt8(baseline_id != '' and feature_type = '') as is_unexpected_feature,
        baseline_scope,
        row_count,
        null_count,
        null_count / row_count as null_rate,
        missing_count,
        missing_count / row_count as missing_rate,
        if(feature_type = '', null, type_mismatch_count) as type_mismatch_count,
        type_mismatch_count / row_count as type_mismatch_rate,
        if(feature_type = 'numeric', non_finite_count, null) as non_finite_count,
        non_finite_count / row_count as non_finite_rate,
        if(feature_type = 'numeric' and min_value is not null, below_min_count, null) as below_min_count,
        below_min_count / row_count as below_min_rate,
        if(feature_type = 'numeric' and max_value is not null, above_max_count, null) as above_max_count,
        above_max_count / row_count as above_max_rate,
        if(feature_type in ('categorical', 'boolean'), unseen_count, null) as unseen_count,
        unseen_count / row_count as unseen_rate,
        if(feature_type = 'numeric', zero_count, null) as zero_count,
        zero_count / row_count as zero_rate,
        {{ mean_of_sums('number_count', 'number_sum', 'centre') }} as mean,
        {{ standard_deviation_of_sums(
            'number_count', 'number_sum', 'number_sum_of_squares', 'number_min', 'number_max'
        ) }} as standard_deviation,
        number_min,
        {% for percent in percents -%}
        {{ number_percentile('number_buckets', percent, '') }} as p{{ '%02d' % percent }},
        {% endfor -%}
        number_max,
        min_value,
        max_value,
        declared_nullable as is_nullable,
        baseline_row_count,
        baseline_null_count / baseline_row_count as baseline_null_rate,
        baseline_missing_count / baseline_row_count as baseline_missing_rate,
        baseline_type_mismatch_count / baseline_row_count as baseline_type_mismatch_rate,
        if(
            feature_type = 'numeric', baseline_zero_count / baseline_row_count, null
        ) as baseline_zero_rate,
        {{ mean_of_sums('baseline_number_count', 'baseline_number_sum', 'centre') }} as baseline_mean,
        {{ standard_deviation_of_sums(
            'baseline_number_count', 'baseline_number_sum', 'baseline_number_sum_of_squares',
            'baseline_number_min', 'baseline_number_max'
        ) }} as baseline_standard_deviation,
        baseline_number_min,
        {% for percent in percents -%}
        {{ number_percentile('baseline_number_buckets', percent, 'baseline_') }}
            as baseline_p{{ '%02d' % percent }},
        {% endfor -%}
        baseline_number_max,
        multiIf(
            baseline_id = '', 'no_baseline',
            feature_type = '', 'not_in_baseline',
            feature_type = 'numeric' and number_count = 0, 'no_numbers',
            ''
        ) as reason,
        {{ run_version() }} as run_version
    from beside_baseline

)

select * from final
{%- endmacro %}
