{#- The events of a raw table that this run has to judge: those that landed since all `readers` had read what had
    landed, and those that were to be replayed since. `readers` names the models that read the judged events. -#}
{% macro events_to_judge(raw_table, readers) -%}
    {%- set coordinates = 'cluster, topic, topic_id, kafka_partition, kafka_offset' -%}
    {%- set events = ref('stg_raw__' ~ raw_table) -%}
    {%- set landed_since = landed_since_readers(readers) -%}
    {%- if not landed_since -%}
    select * from {{ events }} where false
    {%- else -%}
    select *
    from {{ events }}
    where landed_at > {{ landed_since }} and {{ is_current_event(raw_table) }}
    {#- Apart, so that either part reads no more than it needs: by time of landing, by coordinates. #}
    union all
    select *
    from {{ events }}
    where
        landed_at <= {{ landed_since }}
        and ({{ coordinates }}) in (
            select {{ coordinates }}
            from {{ ref('stg_raw__replays') }}
            where raw_table = '{{ raw_table }}' and landed_at > {{ landed_since }}
        )
        and {{ is_current_event(raw_table) }}
    {%- endif -%}
{%- endmacro %}
