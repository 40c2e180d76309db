{#- A whole percentile in milliseconds from a Map of bucket counts, by nearest rank: the geometric middle of
    the first bucket that brings the count to percent/100 of all. Within sqrt(1.02) - 1 < 1 % of the exact
    nearest-rank percentile from 1e-3 ms on; null where nothing was counted. -#}
{% macro latency_percentile(buckets, percent) -%}
    if(
        empty({{ buckets }}),
        null,
        1e-3 * pow(
            1.02,
            arrayElement(
                mapKeys({{ buckets }}),
                arrayFirstIndex(
                    count_so_far -> count_so_far * 100
                    >= {{ percent }} * arraySum(mapValues({{ buckets }})),
                    arrayCumSum(mapValues({{ buckets }}))
                )
            ) - 0.5
        )
    )
{%- endmacro %}
