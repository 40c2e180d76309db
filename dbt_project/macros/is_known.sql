{#- A condition, `where` included, on what landed later than var('known_at'); nothing without that variable. -#}
{% macro is_known(keyword='where') -%}
    {%- if var('known_at', none) -%}
        {{ keyword }} landed_at <= parseDateTime64BestEffort('{{ var('known_at') }}', 3, 'UTC')
    {%- endif -%}
{%- endmacro %}
