{#- The start (DateTime, UTC) of the window of a granularity that ends where another one starts. -#}
{% macro previous_window(window_start, granularity) -%}
    {%- set functions = {
        'hour': 'subtractHours', 'day': 'subtractDays', 'week': 'subtractWeeks',
        'month': 'subtractMonths',
    } -%}
    {{ functions[granularity] }}({{ window_start }}, 1)
{%- endmacro %}
