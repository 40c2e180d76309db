{#- Whether a segment set has hourly marts: everyone has, another one where segment_sets.csv says so. -#}
{% macro is_hourly_segment(model_name, segment_key) -%}
    (
        {{ segment_key }} = 'all'
        or ({{ model_name }}, {{ segment_key }}) in (
            select declared_sets.model_name, declared_sets.segment_key
            from {{ ref('segment_sets') }} as declared_sets
            where declared_sets.min_granularity = 'hour'
        )
    )
{%- endmacro %}
