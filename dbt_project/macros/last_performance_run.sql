{#- The version of the last earlier invocation whose performance statistics are complete: what has changed
    since then is counted again. 0, that is everything, when there are none yet and on a full refresh. -#}
{% macro last_performance_run() -%}
    {%- set ledger = ref('int_run_ledger') -%}
    {%- set stored = adapter.get_relation('', this.schema, 'int_performance_statistics') if execute -%}
    {%- if not stored or flags.FULL_REFRESH -%}
        toUInt64(0)
    {%- else -%}
        (
            select max(run_version) from {{ ledger }}
            where model_name = 'int_performance_statistics' and run_version < {{ run_version() }}
        )
    {%- endif -%}
{%- endmacro %}
