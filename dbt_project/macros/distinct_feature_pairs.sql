{#- An array of (name, raw JSON scalar) with the first pair of each name: a row counts once. -#}
{% macro distinct_feature_pairs(pairs) -%}
    if(
        length(arrayDistinct({{ pairs }}.1)) = length({{ pairs }}),
        {{ pairs }},
        arrayFilter(
            (pair, place) -> indexOf({{ pairs }}.1, pair.1) = place,
            {{ pairs }}, arrayEnumerate({{ pairs }})
        )
    )
{%- endmacro %}
