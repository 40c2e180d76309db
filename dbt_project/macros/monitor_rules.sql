{#- Rules, each with what is wrong with it and the remedy: those of `monitors` (a relation of monitors.csv's
    columns) and those that `features` (of features.csv's) implies. -#}
{% macro monitor_rules(monitors, features) -%}
{%- set metrics = monitored_metrics() -%}
{%- set metric_names = metrics.values() | map('list') | sum(start=[]) | join(', ') -%}
{#- The first that holds is the rule's problem: name, condition, remedy. -#}
{%- set problems = [
    ('missing_monitor_name', "described.monitor_name = ''", 'give it a monitor_name'),
    ('duplicate_monitor_name', 'described.rules_of_name > 1', 'give every rule a name of its own'),
    (
        'unknown_model',
        "ifNull(models.known_model, '') = '' and described.metric_source != 'rejects'",
        'name a model of models.csv',
    ),
    ('unknown_metric', "described.metric_source = ''", 'use one of ' ~ metric_names),
    (
        'unknown_granularity',
        "described.granularity not in ('day', 'week', 'month') and not (described.granularity = 'hour'"
        ~ " and described.metric_source in ('feature_drift', 'data_quality', 'rejects'))",
        'use day, week or month (hour only for features, reject_rate and reject_run)',
    ),
    ('unknown_comparator', "described.comparator not in ('>', '>=', '<', '<=')", 'use >, >=, < or <='),
    (
        'threshold_is_no_number',
        'not isFinite(ifNull(toFloat64OrNull(described.threshold_text), nan))',
        'write a number, with a point where it has decimals',
    ),
    (
        'min_rows_is_no_count',
        "described.min_rows_text != '' and toUInt32OrNull(described.min_rows_text) is null",
        'write a whole number of 0 or more, or leave it empty for 0',
    ),
    (
        'windows_are_no_counts',
        'toUInt16OrNull(described.windows_breaching_text) is null'
        ~ ' or toUInt16OrNull(described.windows_considered_text) is null',
        'write whole numbers into windows_breaching and windows_considered: 1 and 1 fire at once',
    ),
    (
        'impossible_windows',
        'described.windows_breaching not between 1 and described.windows_considered',
        'have 1 <= windows_breaching <= windows_considered',
    ),
    ('unknown_severity', "described.severity not in ('warn', 'error')", 'use warn or error'),
    (
        'unknown_actions',
        "not hasAll(['alarm', 'retrain'], splitByChar('|', described.actions))"
        ~ " and described.actions != 'none'",
        'use alarm, retrain, alarm|retrain or none, or leave it empty for alarm|retrain',
    ),
    (
        'not_about_topics',
        "described.metric_source = 'rejects'"
        ~ " and (described.model_name != '*' or described.segment_key != 'topic')",
        'have model_name * and segment_key topic: an event that is rejected may name no model',
    ),
    (
        'undeclared_segment_set',
        "described.metric_source != 'rejects' and described.segment_key != 'all'"
        ~ ' and not has(segment_sets.segment_keys, described.segment_key)',
        'declare the set in segment_sets.csv, or use all',
    ),
    (
        'segment_set_without_hours',
        "described.granularity = 'hour' and described.metric_source != 'rejects'"
        ~ " and described.segment_key != 'all'"
        ~ ' and not has(segment_sets.hourly_segment_keys, described.segment_key)',
        'give the set min_granularity hour in segment_sets.csv, or use day',
    ),
    (
        'missing_feature_name',
        "described.metric_source in ('feature_drift', 'data_quality') and described.feature_name = ''",
        'name a feature, or * for every one',
    ),
    (
        'needless_feature_name',
        "described.metric_source not in ('feature_drift', 'data_quality') and described.feature_name != ''",
        'leave feature_name empty, as the metric is not about a feature',
    ),
] -%}
with monitors as (

    select * from {{ monitors }}

),

declared_features as (

    select * from {{ features }}

),

models as (

    select model_name as known_model from {{ ref('dim_models') }}

),

segment_sets as (

    select
        model_name as model_of_sets,
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
        threshold as threshold_text,
        min_rows as min_rows_text,
        windows_breaching as windows_breaching_text,
        windows_considered as windows_considered_text,
        severity,
        if(ifNull(actions, '') = '', 'alarm|retrain', actions) as actions,
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
        '0' as threshold_text,
        '1' as min_rows_text,
        '1' as windows_breaching_text,
        '1' as windows_considered_text,
        severity,
        'alarm|retrain' as actions,
        toUInt8(1) as is_implied
    from implied_rules

),

described as (

    select
        unioned.*,
        toUInt16(ifNull(toUInt16OrNull(windows_breaching_text), 0)) as windows_breaching,
        toUInt16(ifNull(toUInt16OrNull(windows_considered_text), 0)) as windows_considered,
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

judged as (

    select
        described.*,
        multiIf(
            {%- for name, condition, remedy in problems %}
            {{ condition }}, '{{ name }}',
            {%- endfor %}
            ''
        ) as problem
    from described
    left join models on described.model_name = models.known_model
    left join segment_sets on described.model_name = segment_sets.model_of_sets

),

final as (

    select
        monitor_name,
        model_name,
        metric,
        metric_source,
        segment_key,
        feature_name,
        granularity,
        comparator,
        assumeNotNull(ifNull(toFloat64OrNull(threshold_text), 0)) as threshold,
        toUInt32(ifNull(toUInt32OrNull(min_rows_text), 0)) as min_rows,
        windows_breaching,
        windows_considered,
        severity,
        actions,
        is_implied,
        problem,
        transform(
            problem,
            [{%- for name, condition, remedy in problems %}'{{ name }}'{{ ', ' if not loop.last }}{%- endfor %}],
            [
                {%- for name, condition, remedy in problems %}
                '{{ remedy }}'{{ ',' if not loop.last }}
                {%- endfor %}
            ],
            ''
        ) as remedy,
        concat(
            'model_name ', model_name, ', metric ', metric, ', segment_key ', segment_key,
            ', feature_name ', if(feature_name = '', 'empty', feature_name),
            ', granularity ', granularity, ', comparator ', comparator,
            ', threshold ', if(threshold_text = '', 'empty', threshold_text),
            ', min_rows ', if(min_rows_text = '', 'empty', min_rows_text),
            ', windows ', windows_breaching_text, ' of ', windows_considered_text,
            ', severity ', severity, ', actions ', actions
        ) as declaration
    from judged

)

select * from final
{%- endmacro %}
