{#- Whether an event counts: of one that was corrected, only its corrected bytes do. -#}
{% macro is_current_event(raw_table) -%}
    {%- set coordinates = 'cluster, topic, topic_id, kafka_partition, kafka_offset' -%}
    (
        corrected_by != ''
        or ({{ coordinates }}) not in (
            select {{ coordinates }}
            from {{ ref('stg_raw__replays') }}
            where raw_table = '{{ raw_table }}' and is_correction = 1
        )
    )
{%- endmacro %}
