{#- Whether labels of a window may still come: it ended less long ago than labels take. -#}
{% macro are_labels_incomplete(window_end, maturity_hours) -%}
    (addHours({{ window_end }}, {{ maturity_hours }}) > {{ as_of() }})
{%- endmacro %}
