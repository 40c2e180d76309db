{{ config(materialized='view') }}

-- The last hour of raw events by the minute they landed in, without waiting for a run. The hour ends at the
-- latest event, not now: a page over a stopped stream shows its last hour, and says when that was.
with events as (

    select
        model_name,
        model_version,
        prediction_id,
        landed_at,
        predicted_at,
        status,
        reject_reason,
        if(latency_ms >= 0 and isFinite(latency_ms), latency_ms, null) as latency_ms
    from {{ ref('stg_raw__prediction_events') }}
    where
        landed_at > (
            select max(latest.landed_at) from {{ ref('stg_raw__prediction_events') }} as latest
        ) - toIntervalHour(1)
        and reject_reason != 'erased'

),

counted as (

    select
        model_name,
        model_version,
        toStartOfMinute(landed_at, 'UTC') as landed_minute,
        uniqExactIf(prediction_id, reject_reason = '') as prediction_count,
        countIf(reject_reason != '') as rejected_count,
        uniqExactIf(prediction_id, reject_reason = '' and status != 'ok') as error_count,
        countIf(reject_reason = '' and latency_ms is not null) as latency_count,
        quantilesTDigestIf(0.5, 0.95, 0.99)(
            assumeNotNull(latency_ms), reject_reason = '' and latency_ms is not null
        ) as latency_quantiles,
        maxIf(predicted_at, reject_reason = '') as latest_predicted_at,
        max(landed_at) as last_landed_at
    from events
    group by model_name, model_version, landed_minute

),

final as (

    select
        model_name,
        model_version,
        toDateTime(landed_minute, 'UTC') as landed_minute,
        prediction_count,
        rejected_count,
        error_count,
        if(prediction_count > 0, error_count / prediction_count, null) as error_rate,
        if(latency_count > 0, toFloat64(latency_quantiles[1]), null) as latency_p50_ms,
        if(latency_count > 0, toFloat64(latency_quantiles[2]), null) as latency_p95_ms,
        if(latency_count > 0, toFloat64(latency_quantiles[3]), null) as latency_p99_ms,
        if(prediction_count > 0, latest_predicted_at, null) as last_predicted_at,
        last_landed_at
    from counted

)

select * from final
