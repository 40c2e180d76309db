{% materialization table, adapter='clickhousepy', supported_languages=['sql', 'python'] %}
    {% if model['language'] == 'sql' %}
        {{ return(materialization_table_clickhouse()) }}
    {% endif %}

    {% set existing_relation = load_cached_relation(this) %}
    {% set target_relation = this.incorporate(type='table') %}
    {% set result_relation = clickhousepy__result_relation(target_relation) %}
    {% set grant_config = config.get('grants') %}
    {% do validate_projections() %}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% do adapter.drop_relation(result_relation) %}
    {% call statement('main', language='python') -%}
        {{- clickhousepy__python_job(compiled_code, result_relation) -}}
    {%- endcall %}
    {% do clickhousepy__finish_result_relation(result_relation) %}
    {% do clickhousepy__replace_target(existing_relation, target_relation, result_relation) %}

    {% set should_revoke = should_revoke(existing_relation, full_refresh_mode=True) %}
    {% do apply_grants(target_relation, grant_config, should_revoke=should_revoke) %}
    {% do persist_docs(target_relation, model) %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}
