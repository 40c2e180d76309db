{#- The end (DateTime, UTC, exclusive) of the window of a granularity that starts at a time. -#}
{% macro window_end(window_start, granularity) -%}
    {%- set functions = {
        'hour': 'addHours', 'day': 'addDays', 'week': 'addWeeks', 'month': 'addMonths',
    } -%}
    {{ functions[granularity] }}({{ window_start }}, 1)
{%- endmacro %}
