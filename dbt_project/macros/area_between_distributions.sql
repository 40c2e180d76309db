{#- The area between two distribution functions, from their difference at the end of each piece of the line
    and the pieces' widths: within a piece the difference is a straight line, which may cross zero. -#}
{% macro area_between_distributions(pieces, differences) -%}
    arraySum(
        (width, before, after) -> width * if(
            before * after >= 0,
            abs(before + after) / 2,
            (before * before + after * after) / (2 * (abs(before) + abs(after)))
        ),
        {{ pieces }}.3,
        arraySlice(arrayPushFront({{ differences }}, 0.), 1, length({{ differences }})),
        {{ differences }}
    )
{%- endmacro %}
