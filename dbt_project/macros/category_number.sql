{#- The number of a value among the categories of its place (bins_by_place): its position, one more than
    there are with a bin of their own where it is a rare one, 0 where the baseline has not seen it. A number
    that is a category was declared so; its text is the number's. -#}
{% macro category_number(place, type_code) -%}
    if(
        {{ type_code }} in (2, 3) and kind in (1, 2, 3),
        transform(
            sipHash64({{ place }}, if(kind = 1, toString(number), text)),
            category_numbers.1, category_numbers.2, toUInt16(0)
        ),
        toUInt16(0)
    )
{%- endmacro %}
