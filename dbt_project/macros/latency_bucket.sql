{#- The bucket of a finite latency in milliseconds: bucket b holds (1e-3 * 1.02^(b-1), 1e-3 * 1.02^b], bucket
    0 what is faster. Fixed buckets make counts that add up exactly over hours and segments; a percentile
    read from them (latency_percentile) is within 1 %. -#}
{% macro latency_bucket(latency_ms) -%}
    toUInt16(ceil((log(greatest({{ latency_ms }}, 1e-3)) - log(1e-3)) / log(1.02)))
{%- endmacro %}
