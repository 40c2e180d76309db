{#- Whether a model has nothing to do, by a query of what it would compute anew: to plan a large query over nothing
    takes ClickHouse longer than to ask. For models that follow what seldom comes. -#}
{% macro is_up_to_date(changed) -%}
    {%- if not execute or not is_incremental() -%}
        {{ return(false) }}
    {%- endif -%}
    {{ return(run_query('select count() from (' ~ changed ~ ')').rows[0][0] == 0) }}
{%- endmacro %}
