{#- The start (DateTime, UTC) of the window of a granularity that holds a time. Weeks start on Monday. -#}
{% macro window_start(time, granularity) -%}
    {%- set functions = {
        'hour': 'toStartOfHour', 'day': 'toStartOfDay', 'week': 'toMonday', 'month': 'toStartOfMonth',
    } -%}
    toDateTime({{ functions[granularity] }}({{ time }}, 'UTC'), 'UTC')
{%- endmacro %}
