{#- The events of a raw table as they came, and the corrected ones beside them: `corrected_by` names the
    function that gave their bytes. Which of the two counts is said by `judged_events`. -#}
{% macro raw_events(raw_table) -%}
    {%- set columns = [
        'cluster', 'topic', 'topic_id', '`partition`', '`offset`', 'kafka_timestamp', 'value', 'landed_at',
    ] | join(', ') -%}
    select {{ columns }}, headers, '' as corrected_by
    from {{ source('raw', raw_table) }}
    {{ is_known() }}
    union all
    select
        {{ columns }},
        cast([], 'Array(Tuple(name String, value Nullable(String)))') as headers,
        corrected_by
    from {{ source('raw', 'replays') }}
    where raw_table = '{{ raw_table }}' and is_correction = 1 {{ is_known('and') }}
    -- Until the table is merged it holds earlier corrections, too.
    order by landed_at desc
    limit 1 by cluster, topic, topic_id, `partition`, `offset`
{%- endmacro %}
