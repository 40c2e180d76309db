{#- How often each value stands in a sorted array of Int16, as Map(Int16, UInt64). -#}
{% macro counts_of_sorted(values) -%}
    cast(
        (
            arrayFilter((value, is_first) -> is_first, {{ values }}, arrayMap(
                (value, before) -> value != before,
                {{ values }},
                -- Before the first stands what no bucket is.
                arrayPopBack(arrayPushFront(arrayMap(value -> toInt32(value), {{ values }}), 65536))
            ) as are_first),
            arrayMap(
                (place, next_place) -> toUInt64(next_place - place),
                arrayFilter((place, is_first) -> is_first, arrayEnumerate({{ values }}), are_first)
                as first_places,
                arrayPopFront(arrayPushBack(first_places, toUInt32(length({{ values }}) + 1)))
            )
        ),
        'Map(Int16, UInt64)'
    )
{%- endmacro %}
