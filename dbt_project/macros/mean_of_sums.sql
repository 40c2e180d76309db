{#- The mean of numbers of which count and sum about a centre are kept; null where there are none. -#}
{% macro mean_of_sums(number_count, number_sum, centre) -%}
    if({{ number_count }} > 0, {{ centre }} + {{ number_sum }} / {{ number_count }}, null)
{%- endmacro %}
