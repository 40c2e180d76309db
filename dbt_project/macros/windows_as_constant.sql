{#- The windows that a query selects as one constant, an array of tuples, to be given a name in a `with` clause:
    ClickHouse evaluates and analyses a CTE anew wherever it is named, a constant once. Not for hours, of which
    a first run has too many. -#}
{% macro windows_as_constant(windows, key=['model_name', 'model_version', 'window_start']) -%}
(
    select groupArray(({{ key | join(', ') }}))
    from ({{ windows }})
)
{%- endmacro %}
