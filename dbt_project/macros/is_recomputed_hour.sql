{#- Whether this run was told to recompute an hour, changed or not: var('recompute_from') to
    var('recompute_until'), UTC, half-open. -#}
{% macro is_recomputed_hour(predicted_hour) -%}
    {%- set from = var('recompute_from', none) -%}
    {%- set until = var('recompute_until', none) -%}
    {%- if (from is none) != (until is none) -%}
        {{ exceptions.raise_compiler_error('recompute_from and recompute_until go together: give both') }}
    {%- elif from is none -%}
        false
    {%- else -%}
        (
            {{ predicted_hour }} >= toStartOfHour(parseDateTimeBestEffort('{{ from }}', 'UTC'), 'UTC')
            and {{ predicted_hour }} < parseDateTimeBestEffort('{{ until }}', 'UTC')
        )
    {%- endif -%}
{%- endmacro %}
