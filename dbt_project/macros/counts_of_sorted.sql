{#- How often each value stands in a sorted array of Int16, as Map(Int16, UInt64). -#}
{% macro counts_of_sorted(values) -%}
    cast(
        arrayMap(
            (place, next_place) -> ({{ values }}[place], next_place - place),
            arrayFilter(
                place -> place = 1 or {{ values }}[place] != {{ values }}[place - 1],
                arrayEnumerate({{ values }})
            ) as first_places,
            arrayPopFront(arrayPushBack(first_places, length({{ values }}) + 1))
        ),
        'Map(Int16, UInt64)'
    )
{%- endmacro %}
