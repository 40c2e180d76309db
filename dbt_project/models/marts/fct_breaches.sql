{{ config(order_by='(model_name, monitor_name, model_version, segment_key, segment_value, feature_name)') }}
{%- set columns = [
    'breach_id', 'monitor_name', 'model_name', 'model_version', 'metric', 'segment_key', 'segment_value',
    'feature_name', 'granularity', 'comparator', 'threshold', 'min_rows', 'windows_breaching',
    'windows_considered', 'severity', 'actions', 'opened_at', 'last_seen_at', 'resolved_at', 'muted_until',
    'first_window_start', 'last_window_start', 'breaching_window_count', 'worst_value',
    'worst_window_start', 'last_value',
] | join(', ') -%}

with found as (

    select * from {{ ref('int_breaches_found') }}

),

retracted as (

    select * from {{ ref('int_breaches_reported_latest') }}
    where is_retracted

),

unioned as (

    select {{ columns }}, status, reason, cast(null, 'Nullable(DateTime(''UTC''))') as retracted_at
    from found
    union all
    select {{ columns }}, 'retracted' as status, retraction as reason, retracted_at
    from retracted

),

final as (

    select
        breach_id,
        toLowCardinality(monitor_name) as monitor_name,
        toLowCardinality(model_name) as model_name,
        toLowCardinality(model_version) as model_version,
        toLowCardinality(metric) as metric,
        toLowCardinality(segment_key) as segment_key,
        toLowCardinality(segment_value) as segment_value,
        toLowCardinality(feature_name) as feature_name,
        granularity,
        comparator,
        threshold,
        min_rows,
        windows_breaching,
        windows_considered,
        severity,
        actions,
        status,
        reason,
        opened_at,
        last_seen_at,
        resolved_at,
        muted_until,
        retracted_at,
        first_window_start,
        last_window_start,
        breaching_window_count,
        worst_value,
        worst_window_start,
        last_value
    from unioned

)

select * from final
