{#- How many rows come on one distinct cluster (a state of uniqCombined64); null where rows have none. Rows
    of one cluster may say the same, so that many are worth one: the greatest design effect there is. -#}
{% macro design_effect(row_count, clusters) -%}
    if(
        ifNull({{ row_count }}, 0) > 0,
        {{ row_count }} / finalizeAggregation({{ clusters }}),
        null
    )
{%- endmacro %}
