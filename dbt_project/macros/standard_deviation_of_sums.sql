{#- The population standard deviation of numbers of which count, sum, sum of squares (about
    any centre) and range are kept; null
    where there are none. Equal numbers give exactly 0, which the difference of two large sums would not. -#}
{% macro standard_deviation_of_sums(number_count, number_sum, number_sum_of_squares, number_min, number_max) -%}
    multiIf(
        ifNull({{ number_count }}, 0) = 0, null,
        {{ number_min }} = {{ number_max }}, 0.,
        sqrt(greatest(
            {{ number_sum_of_squares }} / {{ number_count }}
            - pow({{ number_sum }} / {{ number_count }}, 2),
            0
        ))
    )
{%- endmacro %}
