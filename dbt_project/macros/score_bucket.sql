{#- The bucket (UInt32) of a score within [0, 1], so that counts add up over hours: all scores of a bucket
    agree in their first nine binary digits, so it is at most 1/512 of its score wide, and all of them are
    at or above the threshold (the bucket is odd), or none. Buckets are in the order of their scores. -#}
{% macro score_bucket(score, threshold) -%}
    toUInt32(
        2 * bitShiftRight(reinterpretAsUInt32(toFloat32(abs({{ score }}))), 14)
        + ({{ score }} >= {{ threshold }})
    )
{%- endmacro %}
