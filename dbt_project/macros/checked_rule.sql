{#- The rule of a dry run as a row of int_monitor_rules without a problem, from the parameters of the statement.
    Checked in a statement of its own: ClickHouse analyses a CTE wherever it is used, and this one is so
    thirty times. -#}
{% macro checked_rule() -%}
    {%- for column, type in {
        'monitor_name': 'String', 'model_name': 'String', 'metric': 'String', 'metric_source': 'String',
        'segment_key': 'String', 'feature_name': 'String', 'granularity': 'String', 'comparator': 'String',
        'threshold': 'Float64', 'min_rows': 'UInt32', 'windows_breaching': 'UInt16',
        'windows_considered': 'UInt16', 'severity': 'String', 'actions': 'String',
    }.items() %}
    {{ 'select ' if loop.first else '    ' }}{ {{- column }}:{{ type -}} } as {{ column }},
    {%- endfor %}
        '' as problem
{%- endmacro %}
