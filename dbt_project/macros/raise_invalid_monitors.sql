{#- Stops a test with one line for each rule of monitors.csv that can never be evaluated: its name, what is
    wrong and the remedy. `invalid_rules` is a query of them, with the columns of int_monitor_rules. -#}
{% macro raise_invalid_monitors(invalid_rules) -%}
    {%- set remedies = {
        'missing_monitor_name': 'give it a monitor_name',
        'duplicate_monitor_name': 'give every rule a name of its own',
        'unknown_model': 'name a model of models.csv',
        'unknown_metric':
            'use one of ' ~ monitored_metrics().values() | map('list') | sum(start=[]) | join(', '),
        'unknown_granularity': 'use day, week or month (hour only for reject_rate and reject_run)',
        'unknown_comparator': 'use >, >=, < or <=',
        'unknown_severity': 'use warn or error',
        'undeclared_segment_set': 'declare the set in segment_sets.csv, or use all',
        'missing_feature_name': 'name a feature, or * for every one',
        'needless_feature_name': 'leave feature_name empty, as the metric is not about a feature',
        'not_about_topics':
            'have model_name * and segment_key topic: an event that is rejected may name no model',
        'impossible_windows': 'have 1 <= windows_breaching <= windows_considered',
    } -%}
    {%- if execute and flags.WHICH in ('build', 'test') -%}
        {%- set messages = [] -%}
        {%- for rule in run_query(invalid_rules).rows -%}
            {%- do messages.append(
                "monitors.csv, '" ~ rule.monitor_name ~ "': " ~ rule.problem | replace('_', ' ')
                ~ ' (model_name ' ~ rule.model_name ~ ', metric ' ~ rule.metric
                ~ ', segment_key ' ~ rule.segment_key ~ ', feature_name ' ~ (rule.feature_name or 'empty')
                ~ ', granularity ' ~ rule.granularity ~ ', comparator ' ~ rule.comparator
                ~ ', severity ' ~ rule.severity ~ ', windows ' ~ rule.windows_breaching
                ~ ' of ' ~ rule.windows_considered ~ '): ' ~ remedies[rule.problem]
            ) -%}
        {%- endfor -%}
        {%- if messages -%}
            {{ exceptions.raise_compiler_error(messages | join('\n')) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
