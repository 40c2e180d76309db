{#- The moment (DateTime, UTC) that decides which windows are over and which labels complete: var('as_of'),
    by default var('known_at'), by default the start of this run. -#}
{% macro as_of() -%}
    {%- set given = var('as_of', none) or var('known_at', none) -%}
    {%- if given -%} parseDateTimeBestEffort('{{ given }}', 'UTC')
    {%- else -%} toDateTime({{ run_started_at.timestamp() | int }}, 'UTC')
    {%- endif -%}
{%- endmacro %}
