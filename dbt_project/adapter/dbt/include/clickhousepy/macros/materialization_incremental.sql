{% materialization incremental, adapter='clickhousepy', supported_languages=['sql', 'python'] %}
    {% if config.get('sharding_key') and adapter.get_clickhouse_cluster_name() %}
        {{ return(clickhousepy__sharded_incremental()) }}
    {% elif model['language'] == 'sql' %}
        {{ return(materialization_incremental_clickhouse()) }}
    {% endif %}

    {% set existing_relation = load_cached_relation(this) %}
    {% set target_relation = this.incorporate(type='table') %}
    {% set result_relation = clickhousepy__result_relation(target_relation) %}
    {% set grant_config = config.get('grants') %}
    {% set is_replaced = (
        existing_relation is none or existing_relation.is_view or should_full_refresh()
    ) %}
    {% set unique_key = clickhousepy__unique_key() %}
    {% set predicates = config.get('predicates', []) or config.get('incremental_predicates', []) %}
    {#- A wrong configuration fails here, before the model has cost anything. -#}
    {% set strategy = clickhousepy__incremental_strategy(unique_key, predicates) %}
    {% set on_schema_change = incremental_validate_on_schema_change(
        config.get('on_schema_change'), default='ignore'
    ) %}
    {% do validate_projections() %}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% do adapter.drop_relation(result_relation) %}
    {% call statement('main', language='python') -%}
        {{- clickhousepy__python_job(compiled_code, result_relation) -}}
    {%- endcall %}

    {% if is_replaced %}
        {% do clickhousepy__finish_result_relation(result_relation) %}
        {% do clickhousepy__replace_target(existing_relation, target_relation, result_relation) %}
    {% else %}
        {% if on_schema_change != 'ignore' %}
            {% set column_changes = adapter.check_incremental_schema_changes(
                on_schema_change, existing_relation, 'select * from ' ~ result_relation
            ) %}
            {% if column_changes %}
                {% do clickhouse__apply_column_changes(column_changes, existing_relation) %}
            {% endif %}
        {% endif %}
        {% if strategy == 'insert_overwrite' %}
            {#- REPLACE PARTITION wants the same indexes and projections on both sides. -#}
            {% do clickhousepy__finish_result_relation(result_relation) %}
            {% do clickhousepy__replace_partitions(existing_relation, result_relation) %}
        {% else %}
            {% if strategy == 'delete_insert' %}
                {% do clickhousepy__delete_returned_keys(
                    existing_relation, result_relation, unique_key, predicates
                ) %}
            {% endif %}
            {% do clickhousepy__insert_result(existing_relation, result_relation) %}
        {% endif %}
        {% do adapter.drop_relation(result_relation) %}
    {% endif %}

    {% set should_revoke = should_revoke(existing_relation, full_refresh_mode=is_replaced) %}
    {% do apply_grants(target_relation, grant_config, should_revoke=should_revoke) %}
    {% do persist_docs(target_relation, model) %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% macro clickhousepy__unique_key() %}
    {% set unique_key = config.get('unique_key') %}
    {% if not unique_key %}
        {% do return(none) %}
    {% endif %}
    {% do return(unique_key if unique_key is string else unique_key | join(', ')) %}
{% endmacro %}

{#- dbt-clickhouse's choice: without a unique key, rows are appended. -#}
{% macro clickhousepy__incremental_strategy(unique_key, predicates) %}
    {% set configured = config.get('incremental_strategy') %}
    {% if config.get('inserts_only') or (unique_key is none and not configured) %}
        {% do return('append') %}
    {% endif %}
    {% set strategy = adapter.calculate_incremental_strategy(configured) %}
    {% if strategy not in ('append', 'delete_insert', 'insert_overwrite') %}
        {% do exceptions.raise_compiler_error(
            "incremental_strategy '" ~ strategy ~ "' is not available to Python models: set "
            ~ "append, delete_insert (with a unique_key) or insert_overwrite (with partition_by)"
        ) %}
    {% endif %}
    {% do adapter.validate_incremental_strategy(
        strategy, predicates, unique_key, config.get('partition_by')
    ) %}
    {% do return(strategy) %}
{% endmacro %}

{% macro clickhousepy__delete_returned_keys(
    existing_relation, result_relation, unique_key, predicates
) %}
    {% call statement('delete_existing_data') %}
        delete from {{ existing_relation }}
        where ({{ unique_key }}) in (select {{ unique_key }} from {{ result_relation }})
        {%- for predicate in predicates %}
            and {{ predicate }}
        {%- endfor %}
        {{ adapter.get_model_query_settings(model) }}
    {% endcall %}
{% endmacro %}

{% macro clickhousepy__insert_result(existing_relation, result_relation) %}
    {% set columns = adapter.get_columns_in_relation(existing_relation)
        | map(attribute='quoted') | join(', ') %}
    {% call statement('insert_new_data') %}
        insert into {{ existing_relation }} ({{ columns }})
        select {{ columns }} from {{ result_relation }}
        {{ adapter.get_model_query_settings(model) }}
    {% endcall %}
{% endmacro %}

{% macro clickhousepy__replace_partitions(existing_relation, result_relation) %}
    {% set returned_partitions %}
        select distinct partition_id
        from system.parts
        where active
            and database = '{{ result_relation.schema }}'
            and table = '{{ result_relation.identifier }}'
    {% endset %}
    {% set partitions = run_query(returned_partitions).rows %}
    {% if partitions %}
        {% call statement('replace_partitions') %}
            alter table {{ existing_relation }}
            {%- for partition in partitions %}
                replace partition id '{{ partition['partition_id'] }}' from {{ result_relation }}
                {{- ', ' if not loop.last }}
            {%- endfor %}
        {% endcall %}
    {% endif %}
{% endmacro %}
