{#- The columns of counts that a histogram row carries, each with the aggregate that merges it: sums, so
    that a day is the sum of its hours. `number_sum` and `number_sum_of_squares` are about the centre of the
    feature (centre_of_numbers). -#}
{% macro histogram_columns(merge=false) -%}
    {%- set sums = [
        'row_count', 'null_count', 'missing_count', 'type_mismatch_count', 'non_finite_count',
        'below_min_count', 'above_max_count', 'unseen_count', 'number_count', 'zero_count',
        'number_sum', 'number_sum_of_squares',
    ] -%}
    {%- if merge -%}
        {%- for column in sums %}
            sum({{ column }}) as {{ column }},
        {%- endfor %}
            min(number_min) as number_min,
            max(number_max) as number_max,
            sumForEach(bin_counts) as bin_counts,
            sumMap(number_buckets) as number_buckets
    {%- else -%}
        {{ sums | join(', ') }}, number_min, number_max, bin_counts, number_buckets
    {%- endif -%}
{%- endmacro %}
