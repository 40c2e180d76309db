{#- A row's label as an entry like those of feature_entries, none where it has no label: a number for a
    regression, else a category. -#}
{% macro label_entries(task, label, label_number) -%}
    cast(
        multiIf(
            ifNull({{ label }}, '') = '', [],
            {{ task }} = 'regression' and ifNull(isFinite({{ label_number }}), 0),
            [('__label__', 1, assumeNotNull({{ label_number }}), '')],
            [('__label__', 2, 0., assumeNotNull({{ label }}))]
        ),
        'Array(Tuple(feature_name LowCardinality(String), kind UInt8, number Float64, text String))'
    )
{%- endmacro %}
