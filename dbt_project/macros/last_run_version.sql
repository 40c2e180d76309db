{#- The version of the last earlier invocation that completed this model, 0 before the first and on a
    full refresh. A model reads the rows of its inputs with `run_version > last_run_version()`: what an
    invocation that died had read is read again, because it never reached the ledger. `model_name`
    names another model whose progress counts. -#}
{% macro last_run_version(model_name=none) -%}
    {%- if not execute or is_incremental() -%}
        {#- Not rendered on a first run, so that unit tests need no ledger. -#}
        {%- set ledger = ref('int_run_ledger') -%}
        (
            select max(run_version) from {{ ledger }}
            where
                model_name = '{{ model_name or this.identifier }}'
                and run_version < {{ run_version() }}
        )
    {%- else -%}
        toUInt64(0)
    {%- endif -%}
{%- endmacro %}
