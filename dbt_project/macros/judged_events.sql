{#- The events that this run has to judge: those that landed since the last completed run of this model, and
    those that were to be replayed since. An event that was corrected counts with its corrected bytes alone.
    `events` names the staging model, `columns` what is read of it. -#}
{% macro judged_events(events, columns) -%}
    {%- set raw_table = events | replace('stg_raw__', '') -%}
    {%- set coordinates = 'cluster, topic, topic_id, kafka_partition, kafka_offset' -%}
    {%- set is_current -%}
        (
            corrected_by != ''
            or ({{ coordinates }}) not in (
                select {{ coordinates }}
                from {{ ref('stg_raw__replays') }}
                where raw_table = '{{ raw_table }}' and is_correction = 1
            )
        )
    {%- endset -%}
    select {{ columns }}
    from {{ ref(events) }}
    where landed_at > {{ landed_since_last_run() }} and {{ is_current }}
    {%- if not execute or is_incremental() %}
    {#- Apart, so that either part reads no more than it needs: by time of landing, by coordinates. #}
    union all
    select {{ columns }}
    from {{ ref(events) }}
    where
        landed_at <= {{ landed_since_last_run() }}
        and ({{ coordinates }}) in (
            select {{ coordinates }}
            from {{ ref('stg_raw__replays') }}
            where raw_table = '{{ raw_table }}' and landed_at > {{ landed_since_last_run() }}
        )
        and {{ is_current }}
    {%- endif %}
{%- endmacro %}
