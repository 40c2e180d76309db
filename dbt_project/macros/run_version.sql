{#- The version of everything that this invocation writes: microseconds since the epoch at its start. -#}
{% macro run_version() -%}
    toUInt64({{ (run_started_at.timestamp() * 1000000) | int }})
{%- endmacro %}
