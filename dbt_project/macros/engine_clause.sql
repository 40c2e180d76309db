{#- In place of dbt-clickhouse's: on a cluster each table is replicated. One with a sharding_key has a part of its
    rows on each shard; any other one is whole on every node. A table's id, not its name, tells where its
    replicas meet: dbt renames and exchanges tables. -#}
{% macro engine_clause() %}
    {%- set engine = config.get('engine', default='MergeTree()') -%}
    {%- if target.cluster -%}
        {%- set name, arguments = (engine ~ '()').split('(')[:2] -%}
        {%- set replica = (
            ["'/clickhouse/tables/{uuid}/{shard}'", "'{replica}'"]
            if config.get('sharding_key')
            else ["'/clickhouse/tables/{uuid}/all'", "'{shard}-{replica}'"]
        ) -%}
        {%- set arguments = [arguments.replace(')', '')] | select -%}
        {%- set engine = 'Replicated' ~ name ~ '(' ~ (replica + arguments | list) | join(', ') ~ ')' -%}
    {%- endif -%}
    engine = {{ engine }}
{%- endmacro %}
