{{ config(order_by='(model_name, model_version, segment_key, segment_value)') }}

with segment_sets as (

    select
        model_name,
        arrayMap(keys -> arrayStringConcat(keys, '|'), segment_key_sets) as segment_keys
    from {{ ref('int_segment_sets') }}

),

monthly as (

    select * from {{ ref('fct_service_monthly') }}
    where prediction_count > 0

),

served as (

    select
        model_name,
        model_version,
        segment_key,
        segment_value,
        sum(monthly.prediction_count) as prediction_count,
        min(monthly.first_predicted_at) as first_predicted_at,
        max(monthly.last_predicted_at) as last_predicted_at
    from monthly
    group by model_name, model_version, segment_key, segment_value

),

active_baselines as (

    select baseline_id, model_name, model_version
    from {{ ref('dim_baselines') }}
    where is_active = 1

),

-- Every feature of a segment counts all rows of it.
baseline_segments as (

    select baseline_id, segment_key, segment_value, max(row_count) as baseline_row_count
    from {{ ref('int_baseline_histograms_latest') }}
    group by baseline_id, segment_key, segment_value

),

expected as (

    select
        active_baselines.model_name as model_name,
        active_baselines.model_version as model_version,
        baseline_segments.segment_key as segment_key,
        baseline_segments.segment_value as segment_value,
        baseline_segments.baseline_row_count as baseline_row_count
    from baseline_segments
    inner join active_baselines on baseline_segments.baseline_id = active_baselines.baseline_id

),

segments as (

    select model_name, model_version, segment_key, segment_value from served
    union distinct
    select model_name, model_version, segment_key, segment_value from expected

),

final as (

    select
        toLowCardinality(segments.model_name) as model_name,
        toLowCardinality(segments.model_version) as model_version,
        toLowCardinality(segments.segment_key) as segment_key,
        toLowCardinality(segments.segment_value) as segment_value,
        toUInt8(
            segments.segment_key = 'all' or has(segment_sets.segment_keys, segments.segment_key)
        ) as is_declared,
        toUInt64(ifNull(served.prediction_count, 0)) as prediction_count,
        toUInt64(ifNull(expected.baseline_row_count, 0)) as baseline_row_count,
        served.first_predicted_at as first_predicted_at,
        served.last_predicted_at as last_predicted_at
    from segments
    left join served
        on segments.model_name = served.model_name
        and segments.model_version = served.model_version
        and segments.segment_key = served.segment_key
        and segments.segment_value = served.segment_value
    left join expected
        on segments.model_name = expected.model_name
        and segments.model_version = expected.model_version
        and segments.segment_key = expected.segment_key
        and segments.segment_value = expected.segment_value
    left join segment_sets on segments.model_name = segment_sets.model_name

)

select * from final
