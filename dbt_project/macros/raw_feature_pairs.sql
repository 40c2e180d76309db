{#- From an array of (name, raw JSON scalar), those of one kind. The kind is the first character of the
    JSON text, which is what the event says; a typed JSON column would turn 31.7 into 31. -#}
{% macro raw_feature_pairs(pairs, kind) -%}
    {%- set first_characters = {
        'number': "'-0123456789'", 'string': "'\"'", 'boolean': "'tf'", 'null': "'n'", 'composite': "'[{'",
    } -%}
    arrayFilter(
        pair -> position({{ first_characters[kind] }}, substring(pair.2, 1, 1)) > 0, {{ pairs }}
    )
{%- endmacro %}
