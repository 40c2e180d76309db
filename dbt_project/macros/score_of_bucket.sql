{#- The score in the middle of a bucket of score_bucket. -#}
{% macro score_of_bucket(bucket) -%}
    least(
        1., toFloat64(reinterpretAsFloat32(toUInt32(bitShiftLeft(intDiv({{ bucket }}, 2), 14) + 8192)))
    )
{%- endmacro %}
