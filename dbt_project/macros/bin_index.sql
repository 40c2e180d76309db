{#- The bin of one value under the bins of its baseline (int_feature_binning). The order of bins:
    intervals, then single values or categories, then __other__ if there is one, __missing__, __invalid__.
    A number that is a category was declared so; its text is the number's. -#}
{% macro bin_index(binning) -%}
    toUInt16(multiIf(
        kind in (4, 6), {{ binning }}.bin_count - 2,
        {{ binning }}.feature_type = 'numeric' and kind = 1,
        multiIf(
            has({{ binning }}.points, number),
            length({{ binning }}.edges) + (length({{ binning }}.edges) > 0)
            + indexOf({{ binning }}.points, number) - 1,
            length({{ binning }}.edges) > 0,
            arrayCount(edge -> edge < number, {{ binning }}.edges),
            length({{ binning }}.points)
        ),
        {{ binning }}.feature_type = 'categorical' and kind in (1, 2, 3),
        if(
            has({{ binning }}.categories, if(kind = 1, toString(number), text)),
            indexOf({{ binning }}.categories, if(kind = 1, toString(number), text)) - 1,
            length({{ binning }}.categories)
        ),
        {{ binning }}.feature_type = 'boolean' and kind = 3,
        if(
            has({{ binning }}.categories, text),
            indexOf({{ binning }}.categories, text) - 1,
            length({{ binning }}.categories)
        ),
        {{ binning }}.bin_count - 1
    ))
{%- endmacro %}
