{#- Post-hook of every incremental model: it has read all that its inputs held at this run's start. A run with
    var('known_at') says so in a row of its own. -#}
{% macro record_run_version() -%}
    {%- if model.config.materialized == 'incremental' and model.name != 'int_run_ledger' -%}
        insert into {{ this.incorporate(path={'identifier': 'int_run_ledger'}) }}
        (model_name, run_version, invocation_id)
        values ('{{ model.name }}', {{ run_version() }}, '{{ invocation_id }}')
        {%- if var('known_at', none) %}, ('known_at', {{ known_at_version() }}, '{{ invocation_id }}') {%- endif %}
    {%- endif -%}
{%- endmacro %}
