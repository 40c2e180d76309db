{#- The rule of a dry run as a row of monitors.csv, from the parameters of the statement. -#}
{% macro candidate_rule() -%}
    {%- for column in [
        'monitor_name', 'model_name', 'metric', 'segment_key', 'feature_name', 'granularity', 'comparator',
        'threshold', 'min_rows', 'windows_breaching', 'windows_considered', 'severity', 'actions',
    ] %}
    {{ 'select ' if loop.first else '    ' }}{ {{- column }}:String} as {{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}
