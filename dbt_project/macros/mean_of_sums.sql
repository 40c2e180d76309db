{#- The mean of numbers of which count and sum are kept; null where there are none. -#}
{% macro mean_of_sums(number_count, number_sum) -%}
    if({{ number_count }} > 0, {{ number_sum }} / {{ number_count }}, null)
{%- endmacro %}
