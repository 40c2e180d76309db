{#- The bucket (Int16) of a number by its distance d from a centre, in a unit: bucket b > 0 holds d in
    (1e-3 * 1.02^(b-1), 1e-3 * 1.02^b], bucket 0 what is nearer than 1e-3, bucket -b what lies as far below
    as b does above. Fixed buckets make counts that add up exactly over hours and segments; a percentile
    read from them (number_percentile) is within 2 % of its distance from the centre. -#}
{% macro number_bucket(number, centre, unit) -%}
    toInt16(if(
        abs(({{ number }} - {{ centre }}) / {{ unit }}) < 1e-3,
        0.,
        sign({{ number }} - {{ centre }}) * least(
            3000.,
            ceil((log(abs(({{ number }} - {{ centre }}) / {{ unit }})) - log(1e-3)) / log(1.02))
        )
    ))
{%- endmacro %}
