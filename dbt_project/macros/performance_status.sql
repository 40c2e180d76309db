{#- Whether the labels of a window can be taken as complete: `final` when it ended longer ago than labels
    take. -#}
{% macro performance_status(window_end, maturity_hours) -%}
    if(addHours({{ window_end }}, {{ maturity_hours }}) <= {{ as_of() }}, 'final', 'provisional')
{%- endmacro %}
