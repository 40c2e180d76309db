{#- var('known_at') in microseconds since the epoch, 0 without it: all that landed is known. -#}
{% macro known_at_version() -%}
    {%- if var('known_at', none) -%}
        toUInt64(toUnixTimestamp64Micro(parseDateTime64BestEffort('{{ var('known_at') }}', 6, 'UTC')))
    {%- else -%}
        toUInt64(0)
    {%- endif -%}
{%- endmacro %}
