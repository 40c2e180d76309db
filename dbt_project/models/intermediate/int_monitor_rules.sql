{{ config(order_by='(model_name, monitor_name)') }}
{%- set metrics = monitored_metrics() -%}

-- The rules of monitors.csv and those that features.csv implies, each with what is wrong with it.
with monitors as (

    select * from {{ ref('monitors') }}

),

declared_features as (

    select * from {{ ref('features') }}

),

models as (

    select * from {{ ref('dim_models') }}

),

segment_sets as (

    select
        model_name,
        arrayMap(keys -> arrayStringConcat(keys, '|'), segment_key_sets) as segment_keys,
        hourly_segment_keys
    from {{ ref('int_segment_sets') }}

),

-- Never null is meant to the letter, so one null is an error; a range also defines what the rates of
-- values beyond it count, so leaving it is a warning.
implied as (

    select
        model_name,
        feature_name,
        arrayJoin(arrayFilter(
            check -> check.4,
            [
                ('not_null', 'null_rate', 'error', ifNull(nullable = 0, 0)),
                ('not_missing', 'missing_rate', 'error', ifNull(nullable = 0, 0)),
                ('min', 'below_min_rate', 'warn', min is not null),
                ('max', 'above_max_rate', 'warn', max is not null)
            ]
        )) as implied_check
    from declared_features

),

-- A monitor of the same metric and feature takes the place of what is implied.
implied_rules as (

    select
        concat(model_name, '.', feature_name, '.', implied_check.1) as monitor_name,
        model_name,
        implied_check.2 as metric,
        feature_name,
        implied_check.3 as severity
    from implied
    where
        (model_name, implied_check.2, feature_name) not in (
            select monitors.model_name, monitors.metric, monitors.feature_name from monitors
        )

),

unioned as (

    select
        monitor_name,
        model_name,
        metric,
        if(segment_key = '', 'all', segment_key) as segment_key,
        feature_name,
        granularity,
        comparator,
        threshold,
        min_rows,
        windows_breaching,
        windows_considered,
        severity,
        toUInt8(0) as is_implied
    from monitors
    union all
    select
        monitor_name,
        model_name,
        metric,
        'all' as segment_key,
        feature_name,
        'day' as granularity,
        '>' as comparator,
        0. as threshold,
        toUInt32(1) as min_rows,
        toUInt16(1) as windows_breaching,
        toUInt16(1) as windows_considered,
        severity,
        toUInt8(1) as is_implied
    from implied_rules

),

described as (

    select
        unioned.*,
        multiIf(
            {%- for source, expressions in metrics.items() %}
            metric in (
                {%- for expression in expressions %}
                '{{ expression }}'{{ ',' if not loop.last }}
                {%- endfor %}
            ), '{{ source }}',
            {%- endfor %}
            ''
        ) as metric_source,
        count() over (partition by monitor_name) as rules_of_name
    from unioned

),

final as (

    select
        described.monitor_name as monitor_name,
        described.model_name as model_name,
        described.metric as metric,
        described.metric_source as metric_source,
        described.segment_key as segment_key,
        described.feature_name as feature_name,
        described.granularity as granularity,
        described.comparator as comparator,
        described.threshold as threshold,
        described.min_rows as min_rows,
        described.windows_breaching as windows_breaching,
        described.windows_considered as windows_considered,
        described.severity as severity,
        described.is_implied as is_implied,
        multiIf(
            described.monitor_name = '', 'missing_monitor_name',
            described.rules_of_name > 1, 'duplicate_monitor_name',
            models.model_name is null and described.metric_source != 'rejects', 'unknown_model',
            described.metric_source = '', 'unknown_metric',
            described.granularity not in ('day', 'week', 'month')
            and not (
                described.granularity = 'hour'
                and described.metric_source in ('feature_drift', 'data_quality', 'rejects')
            ),
            'unknown_granularity',
            described.comparator not in ('>', '>=', '<', '<='), 'unknown_comparator',
            described.severity not in ('warn', 'error'), 'unknown_severity',
            described.metric_source = 'rejects'
            and (described.model_name != '*' or described.segment_key != 'topic'), 'not_about_topics',
            described.metric_source != 'rejects'
            and described.segment_key != 'all'
            and not has(segment_sets.segment_keys, described.segment_key), 'undeclared_segment_set',
            described.granularity = 'hour'
            and described.metric_source != 'rejects'
            and described.segment_key != 'all'
            and not has(segment_sets.hourly_segment_keys, described.segment_key), 'segment_set_without_hours',
            described.metric_source in ('feature_drift', 'data_quality')
            and described.feature_name = '', 'missing_feature_name',
            described.metric_source in ('model_performance', 'service', 'rejects')
            and described.feature_name != '', 'needless_feature_name',
            described.windows_breaching not between 1 and described.windows_considered,
            'impossible_windows',
            ''
        ) as problem
    from described
    left join models on described.model_name = models.model_name
    left join segment_sets on described.model_name = segment_sets.model_name

)

select * from final
