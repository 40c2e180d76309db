{#- Every window that rules look at, with the value and why it does not count, where it does not. `rules` is a
    relation of int_monitor_rules' columns, `mutes` of int_monitor_mutes'. -#}
{% macro monitored_windows(rules, mutes) -%}
{%- set marts = {'day': 'daily', 'week': 'weekly', 'month': 'monthly'} -%}
{%- set all_metrics = monitored_metrics() -%}
{%- set reject_metrics = all_metrics.pop('rejects') -%}
{%- set metrics = all_metrics -%}
{%- set per_feature = ['feature_drift', 'data_quality'] -%}
{#- Features are counted by the hour, too; performance and service have no hourly marts. -#}
{%- set hourly = {'hour': 'hourly'} -%}
{#- They say how much or how lately, so that little is a finding and not too little to judge. -#}
{%- set volumes = "('prediction_count', 'rate_per_second')" -%}
{%- set silent_windows_at_most = 400 -%}
{%- set presences = "('prediction_count', 'rate_per_second', 'freshness_seconds')" -%}
with rules as (

    select * from {{ rules }}
    where problem = ''

),

mutes as (

    select
        monitor_name as muted_monitor,
        -- The one that lasts longest first: it says until when there is silence.
        arrayReverseSort(mute -> mute.2, groupArray((muted_from, muted_until, reason))) as mutes_of_rule
    from {{ mutes }}
    where problem = ''
    group by monitor_name

),

models as (

    select model_name, active_version, first_predicted_at from {{ ref('dim_models') }}

),

-- A model that stops has no windows after its last prediction, which is when its silence begins. Those that
-- are over are made here, for the rules that watch whether it speaks.
{% for granularity, suffix in marts.items() -%}
last_service_{{ suffix }} as (

    select
        facts.model_name as model_name,
        argMax(
            (facts.model_version, facts.window_start),
            (facts.model_version = models.active_version, facts.window_start)
        ) as last_window
    from {{ ref('fct_service_' ~ suffix) }} as facts
    left join models on facts.model_name = models.model_name
    where
        facts.segment_key = 'all'
        and facts.model_name in (
            select watched.model_name
            from rules as watched
            where watched.metric in {{ presences }} and watched.granularity = '{{ granularity }}'
        )
    group by facts.model_name

),

silent_{{ suffix }} as (

    select
        model_name,
        last_window.1 as model_version,
        arrayJoin(arrayMap(
            number -> last_window.2 + toInterval{{ granularity | capitalize }}(number),
            range(1, 1 + toUInt64(least(
                {{ silent_windows_at_most }},
                greatest(0, dateDiff('{{ granularity }}', last_window.2, {{ as_of() }}, 'UTC'))
            )))
        )) as silent_start
    from last_service_{{ suffix }}

),

{% endfor -%}
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
            rules.metric in {{ volumes }} and facts.window_start < models.first_predicted_at,
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

{% for granularity, suffix in marts.items() -%}
silence_{{ suffix }} as (

    select
        rules.monitor_name as monitor_name,
        facts.model_version as model_version,
        'all' as segment_value,
        '' as feature_name,
        facts.silent_start as window_start,
        {{ window_end('facts.silent_start', granularity) }} as window_end,
        cast(
            if(rules.metric = 'freshness_seconds', dateDiff('second', window_start, window_end), 0)
            as Nullable(Float64)
        ) as metric_value,
        toUInt64(0) as metric_rows,
        '' as mart_obstacle,
        1 as is_more_than_noise
    from silent_{{ suffix }} as facts
    inner join rules on facts.model_name = rules.model_name
    where
        rules.metric in {{ presences }}
        and rules.segment_key = 'all'
        and rules.granularity = '{{ granularity }}'

),

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
    {% for suffix in marts.values() -%}
    select * from silence_{{ suffix }}
    union all
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
        rules.min_rows as min_rows,
        rules.windows_breaching as windows_breaching,
        rules.windows_considered as windows_considered,
        rules.severity as severity,
        rules.actions as actions,
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
            unioned.metric_rows < rules.min_rows and rules.metric not in {{ presences }},
            'below_min_rows',
            unioned.metric_value is null, 'no_value',
            ''
        ) as own_obstacle,
        arrayFirst(
            mute -> unioned.window_start < mute.2 and unioned.window_end > mute.1, mutes.mutes_of_rule
        ) as mute,
        toUInt8(
            own_obstacle = ''
            and unioned.is_more_than_noise
            and ifNull(multiIf(
                rules.comparator = '>', unioned.metric_value > rules.threshold,
                rules.comparator = '>=', unioned.metric_value >= rules.threshold,
                rules.comparator = '<', unioned.metric_value < rules.threshold,
                unioned.metric_value <= rules.threshold
            ), 0)
        ) as is_beyond_threshold
    from unioned
    inner join rules on unioned.monitor_name = rules.monitor_name
    left join mutes on unioned.monitor_name = mutes.muted_monitor

),

-- What else keeps a window from counting comes before its mute: nothing is muted there.
final as (

    select
        * except (own_obstacle, mute, is_beyond_threshold),
        if(own_obstacle = '' and mute.3 != '', 'muted', own_obstacle) as obstacle,
        toUInt8(is_beyond_threshold and obstacle = '') as is_breaching,
        toUInt8(is_beyond_threshold and obstacle = 'muted') as is_breaching_while_muted,
        if(obstacle = 'muted', mute.1, null) as muted_from,
        if(obstacle = 'muted', mute.2, null) as muted_until,
        if(obstacle = 'muted', mute.3, '') as mute_reason
    from judged

)

select * from final
{%- endmacro %}
