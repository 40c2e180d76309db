{#- A touched hour is counted whole; segments that are gone from it are marked as deleted. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='(model_name, model_version, predicted_hour, segment_key, segment_value)',
    partition_by='toYYYYMM(predicted_hour)',
    indexes=[{'name': 'run_version_range', 'definition': 'run_version TYPE minmax GRANULARITY 1'}],
    query_settings={'throw_on_max_partitions_per_insert_block': 0},
) }}

with touched_hours as (

    {{ hours_to_recount() }}

),

segment_sets as (

    select * from {{ ref('int_segment_sets') }}

),

binary_models as (

    select model_name, ifNull(threshold, {{ var('default_threshold', 0.5) }}) as threshold
    from {{ ref('models') }}
    where task = 'binary'

),

predictions as (

    select
        latest.model_name as model_name,
        latest.model_version as model_version,
        latest.predicted_hour as predicted_hour,
        latest.predicted_at as predicted_at,
        latest.landed_at as landed_at,
        latest.status as status,
        -- A negative latency is a clock's mistake, no measurement.
        if(latest.latency_ms >= 0 and isFinite(latest.latency_ms), latest.latency_ms, null) as latency_ms,
        if(latest.score between 0 and 1, latest.score, null) as probability,
        binary_models.threshold as threshold,
        {{ segment_pairs('latest.segments', 'segment_sets.segment_key_sets') }} as segment_pairs
    from {{ ref('int_predictions_latest') }} as latest
    left join segment_sets on latest.model_name = segment_sets.model_name
    left join binary_models on latest.model_name = binary_models.model_name
    where
        (latest.model_name, latest.model_version, latest.predicted_hour) in (
            select touched_hours.model_name, touched_hours.model_version, touched_hours.predicted_hour
            from touched_hours
        )

),

counted as (

    select
        model_name,
        model_version,
        predicted_hour,
        segment_pair.1 as segment_key,
        segment_pair.2 as segment_value,
        count() as prediction_count,
        countIf(status != 'ok') as error_count,
        countIf(latency_ms is not null) as latency_count,
        sum(ifNull(latency_ms, 0.)) as latency_sum,
        sumMapIf(
            map({{ latency_bucket('assumeNotNull(latency_ms)') }}, toUInt64(1)), latency_ms is not null
        ) as latency_buckets,
        sumMapIf(
            map(
                {{ score_bucket('assumeNotNull(probability)', 'assumeNotNull(threshold)') }},
                toUInt64(1)
            ),
            probability is not null and threshold is not null
        ) as score_buckets,
        min(predicted_at) as first_predicted_at,
        max(predicted_at) as last_predicted_at,
        max(landed_at) as last_landed_at
    from predictions
    array join segment_pairs as segment_pair
    group by model_name, model_version, predicted_hour, segment_key, segment_value

),

{% if is_incremental() %}
stored_keys as (

    select
        model_name, model_version, predicted_hour, segment_key, segment_value,
        argMax(is_deleted, run_version) as was_deleted
    from {{ this }}
    where
        (model_name, model_version, predicted_hour) in (
            select touched_hours.model_name, touched_hours.model_version, touched_hours.predicted_hour
            from touched_hours
        )
    group by model_name, model_version, predicted_hour, segment_key, segment_value

),

gone as (

    select stored_keys.*
    from stored_keys
    where
        was_deleted = 0
        and (model_name, model_version, predicted_hour, segment_key, segment_value) not in (
            select
                counted.model_name, counted.model_version, counted.predicted_hour,
                counted.segment_key, counted.segment_value
            from counted
        )

),
{% endif %}

final as (

    select
        model_name,
        model_version,
        predicted_hour,
        segment_key,
        segment_value,
        prediction_count,
        error_count,
        latency_count,
        latency_sum,
        latency_buckets,
        score_buckets,
        first_predicted_at,
        last_predicted_at,
        last_landed_at,
        toUInt8(0) as is_deleted,
        {{ run_version() }} as run_version
    from counted
    {% if is_incremental() %}
    union all
    select
        model_name,
        model_version,
        predicted_hour,
        segment_key,
        segment_value,
        0 as prediction_count,
        0 as error_count,
        0 as latency_count,
        0. as latency_sum,
        cast(map(), 'Map(UInt16, UInt64)') as latency_buckets,
        cast(map(), 'Map(UInt32, UInt64)') as score_buckets,
        toDateTime64(0, 3, 'UTC') as first_predicted_at,
        toDateTime64(0, 3, 'UTC') as last_predicted_at,
        toDateTime64(0, 3, 'UTC') as last_landed_at,
        toUInt8(1) as is_deleted,
        {{ run_version() }} as run_version
    from gone
    {% endif %}

)

select * from final
