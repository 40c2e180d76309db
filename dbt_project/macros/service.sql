{#- How every model version served, in every segment and window of one granularity; every column is
    defined in docs/metrics.md. The unit of recomputation is a window of a model with all its versions. -#}
{% macro service(granularity) -%}
{%- set key = 'model_name, model_version, segment_key, segment_value, window_start' -%}
{%- set touched_windows -%}
    select model_name, window_start from ({{ changed_service_windows(granularity) }})
    union distinct
    select model_name, window_start from expected_windows
    {% if is_incremental() -%}
    where (model_name, model_version, window_start) not in (
        select stored.model_name, stored.model_version, stored.window_start from {{ this }} as stored
    )
    {%- endif %}
{%- endset -%}
with expected_windows as (

    {{ expected_performance_windows(granularity) }}

),

{{ windows_as_constant(touched_windows, ['model_name', 'window_start']) }} as touched_windows,

hourly as (

    select
        *,
        {{ window_start('predicted_hour', granularity) }} as window_start
    from {{ ref('int_service_hourly_latest') }}
    where
        -- Prunes; the windows themselves are picked below.
        predicted_hour >= arrayMin(touched_windows.2)

),

summed as (

    select
        {{ key }},
        sum(prediction_count) as prediction_count,
        sum(error_count) as error_count,
        sum(latency_count) as latency_count,
        sum(latency_sum) as latency_sum,
        sumMap(latency_buckets) as latency_buckets,
        min(first_predicted_at) as first_predicted_at,
        max(last_predicted_at) as last_predicted_at
    from hourly
    where
        (model_name, window_start) in touched_windows
    group by {{ key }}

),

empty_windows as (

    select model_name, model_version, window_start
    from expected_windows
    where
        (model_name, window_start) in touched_windows
        and (model_name, model_version, window_start) not in (
            select summed.model_name, summed.model_version, summed.window_start from summed
        )

),

unioned as (

    select
        {{ key }},
        prediction_count,
        error_count,
        latency_count,
        latency_sum,
        latency_buckets,
        toNullable(first_predicted_at) as first_predicted_at,
        toNullable(last_predicted_at) as last_predicted_at
    from summed
    union all
    select
        model_name, model_version, 'all', 'all', window_start,
        0, 0, 0, 0., cast(map(), 'Map(UInt16, UInt64)'), null, null
    from empty_windows

),

measured as (

    select
        *,
        {{ window_end('window_start', granularity) }} as window_end,
        sum(prediction_count) over (
            partition by model_name, segment_key, segment_value, window_start
        ) as model_prediction_count
    from unioned

),

final as (

    select
        toLowCardinality(model_name) as model_name,
        toLowCardinality(model_version) as model_version,
        toLowCardinality(segment_key) as segment_key,
        toLowCardinality(segment_value) as segment_value,
        window_start,
        window_end,
        prediction_count,
        prediction_count / dateDiff('second', window_start, window_end) as rate_per_second,
        if(
            model_prediction_count > 0, prediction_count / model_prediction_count, null
        ) as version_share,
        error_count,
        if(prediction_count > 0, error_count / prediction_count, null) as error_rate,
        latency_count,
        if(latency_count > 0, latency_sum / latency_count, null) as latency_mean_ms,
        {{ latency_percentile('latency_buckets', 50) }} as latency_p50_ms,
        {{ latency_percentile('latency_buckets', 95) }} as latency_p95_ms,
        {{ latency_percentile('latency_buckets', 99) }} as latency_p99_ms,
        first_predicted_at,
        last_predicted_at,
        multiIf(
            prediction_count = 0, 'no_predictions',
            latency_count = 0, 'no_latencies',
            ''
        ) as reason,
        {{ run_version() }} as run_version
    from measured

)

select * from final
{%- endmacro %}
