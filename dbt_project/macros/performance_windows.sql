{#- The three windows that a time lies in, as an array of (granularity, window_start). -#}
{% macro performance_windows(time) -%}
    [
        ('day', {{ window_start(time, 'day') }}),
        ('week', {{ window_start(time, 'week') }}),
        ('month', {{ window_start(time, 'month') }})
    ]
{%- endmacro %}
