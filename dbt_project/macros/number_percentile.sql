{#- A whole percentile from a Map of bucket counts (number_bucket), by nearest rank; null where nothing was
    counted. A bucket stands for the baseline's own value in it, where that has a bin of its own, else for
    its geometric middle, within the least and the greatest number counted. -#}
{% macro number_percentile(buckets, percent, prefix) -%}
    if(
        empty({{ buckets }}),
        null,
        greatest({{ prefix }}number_min, least({{ prefix }}number_max, arrayElement(
            arrayMap(
                bucket -> if(
                    has(point_buckets, bucket),
                    points[indexOf(point_buckets, bucket)],
                    centre + unit * sign(bucket) * if(bucket = 0, 0., 1e-3 * pow(1.02, abs(bucket) - 0.5))
                ),
                mapKeys({{ buckets }})
            ),
            arrayFirstIndex(
                count_so_far -> count_so_far * 100 >= {{ percent }} * arraySum(mapValues({{ buckets }})),
                arrayCumSum(mapValues({{ buckets }}))
            )
        )))
    )
{%- endmacro %}
