{#- What numbers of a feature are counted about: the mean of its baseline, so that sums of large numbers close
    together keep their digits; 0 where the baseline has no number. -#}
{% macro centre_of_numbers(binning) -%}
    ifNull({{ binning }}.mean, 0.)
{%- endmacro %}
