{#- The unit of a feature's distances from its centre: the standard deviation of its baseline; where that is
    0 the centre itself. -#}
{% macro unit_of_numbers(binning) -%}
    multiIf(
        ifNull({{ binning }}.standard_deviation, 0.) > 0, assumeNotNull({{ binning }}.standard_deviation),
        ifNull({{ binning }}.mean, 0.) != 0, abs(assumeNotNull({{ binning }}.mean)),
        1.
    )
{%- endmacro %}
