{#- The events of a raw table that a model has to take in, judged: of a first run and of a full refresh all, else
    those that int_judged_* has made ready for this run. `columns` names what is read of them. -#}
{% macro judged_events(raw_table, columns) -%}
    {%- set judged = 'int_judged_' ~ raw_table -%}
    {%- if is_incremental() -%}
        select {{ columns }} from {{ ref(judged) }}
    {%- else -%}
        {%- if not execute %}{% do ref(judged) %}{% endif -%}
        select {{ columns }} from {{ ref('stg_raw__' ~ raw_table) }}
        where {{ is_current_event(raw_table) }}
    {%- endif -%}
{%- endmacro %}
