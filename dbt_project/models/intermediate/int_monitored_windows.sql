{{ config(
    order_by='(monitor_name, model_version, segment_value, feature_name, window_start)',
) }}
{%- set marts = {'day': 'daily', 'week': 'weekly', 'month': 'monthly'} -%}
{%- set all_metrics = monitored_metrics() -%}
{%- set reject_metrics = all_metrics.pop('rejects') -%}
{%- set metrics = all_metrics -%}
{%- set per_feature = ['feature_drift', 'data_quality'] -%}
{#- Features are counted by the hour, too; performance and service have no hourly marts. -#}
{%- set hourly = {'hour': 'hourly'} -%}

-- Every window that a rule looks at, with the value and why it does not count, where it does not.
with rules as (

    select * from {{ ref('int_monitor_rules') }}
    where problem = ''

),

models as (

    select model_name, first_predicted_at from {{ ref('dim_models') }}

),

{% for source in metrics -%}
{% for granularity, suffix in (dict(hourly, **marts) if source in per_feature else marts).items() -%}
{{ source }}_{{ suffix }} as (

    select
        rules.monitor_name as monitor_name,
        facts.model_version as model_version,
        facts.segment_value as segment_value,
        {{ 'facts.feature_name' if source in per_feature else "''" }} as feature_name,
        facts.window_start as window_start,
        facts.window_end as window_end,
        cast(multiIf(
            {%- for metric, expressions in metrics[source].items() %}
            rules.metric = '{{ metric }}', {{ expressions[0] }},
            {%- endfor %}
            null
        ) as Nullable(Float64)) as metric_value,
        toUInt64(multiIf(
            {%- for metric, expressions in metrics[source].items() %}
            rules.metric = '{{ metric }}', {{ expressions[1] }},
            {%- endfor %}
            0
        )) as metric_rows,
        {% if source == 'feature_drift' -%}
        if(facts.verdict in ('not_evaluated', 'insufficient_data'), facts.reason, '') as mart_obstacle,
        -- A distance counts only where it is more than noise, as in the verdict.
        ifNull(facts.q_value <= {{ var('false_discovery_rate') }}, 0)
        and (facts.psi_baseline_p95 is null or ifNull(facts.psi > facts.psi_baseline_p95, 0))
            as is_more_than_noise
        {%- elif source == 'model_performance' -%}
        -- An estimate does without labels.
        if(
            facts.status = 'final' or startsWith(rules.metric, 'estimated_'), '', 'labels_not_complete'
        ) as mart_obstacle,
        1 as is_more_than_noise
        {%- elif source == 'service' -%}
        -- The window in which the model began to serve says nothing of its volume.
        if(
            rules.metric in ('prediction_count', 'rate_per_second')
            and facts.window_start < models.first_predicted_at,
            'window_not_complete',
            ''
        ) as mart_obstacle,
        1 as is_more_than_noise
        {%- else -%}
        '' as mart_obstacle,
        1 as is_more_than_noise
        {%- endif %}
    from {{ ref('fct_' ~ source ~ '_' ~ suffix) }} as facts
    inner join rules
        on facts.model_name = rules.model_name and facts.segment_key = rules.segment_key
    {% if source == 'service' -%}
    left join models on facts.model_name = models.model_name
    {% endif -%}
    where
        rules.metric_source = '{{ source }}'
        and rules.granularity = '{{ granularity }}'
        {%- if source == 'feature_drift' %}
        and facts.comparison = 'baseline'
        {%- endif %}
        and facts.model_name in (
            select wanted.model_name
            from rules as wanted
            where wanted.metric_source = '{{ source }}' and wanted.granularity = '{{ granularity }}'
        )
        {%- if source in per_feature %}
        and rules.feature_name in ('*', facts.feature_name)
        {%- endif %}

),

{% endfor -%}
{% endfor -%}

rejects as (

    select
        rules.monitor_name as monitor_name,
        '' as model_version,
        facts.topic as segment_value,
        '' as feature_name,
        facts.window_start as window_start,
        facts.window_end as window_end,
        cast(multiIf(
            {%- for metric, expressions in reject_metrics.items() %}
            rules.metric = '{{ metric }}', {{ expressions[0] }},
            {%- endfor %}
            null
        ) as Nullable(Float64)) as metric_value,
        facts.event_count as metric_rows,
        '' as mart_obstacle,
        1 as is_more_than_noise
    from {{ ref('fct_reject_rates') }} as facts
    inner join rules on facts.granularity = rules.granularity
    where rules.metric_source = 'rejects'

),

unioned as (

    {% for source in metrics -%}
    {% for suffix in (dict(hourly, **marts) if source in per_feature else marts).values() -%}
    select * from {{ source }}_{{ suffix }}
    union all
    {% endfor -%}
    {% endfor -%}
    select * from rejects

),

judged as (

    select
        unioned.monitor_name as monitor_name,
        rules.model_name as model_name,
        rules.metric as metric,
        rules.segment_key as segment_key,
        rules.granularity as granularity,
        rules.comparator as comparator,
        rules.threshold as threshold,
        rules.windows_breaching as windows_breaching,
        rules.windows_considered as windows_considered,
        rules.severity as severity,
        unioned.model_version as model_version,
        unioned.segment_value as segment_value,
        unioned.feature_name as feature_name,
        unioned.window_start as window_start,
        unioned.window_end as window_end,
        unioned.metric_value as metric_value,
        unioned.metric_rows as metric_rows,
        multiIf(
            -- What a window comes to is known when it is over.
            unioned.window_end > {{ as_of() }}, 'window_open',
            unioned.mart_obstacle != '', unioned.mart_obstacle,
            -- A volume is judged however low it is.
            unioned.metric_rows < rules.min_rows
            and rules.metric not in ('prediction_count', 'rate_per_second'), 'below_min_rows',
            unioned.metric_value is null, 'no_value',
            ''
        ) as obstacle,
        toUInt8(
            obstacle = ''
            and unioned.is_more_than_noise
            and ifNull(multiIf(
                rules.comparator = '>', unioned.metric_value > rules.threshold,
                rules.comparator = '>=', unioned.metric_value >= rules.threshold,
                rules.comparator = '<', unioned.metric_value < rules.threshold,
                unioned.metric_value <= rules.threshold
            ), 0)
        ) as is_breaching
    from unioned
    inner join rules on unioned.monitor_name = rules.monitor_name

)

select * from judged
