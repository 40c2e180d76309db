{#- An `incremental` SQL model with a `sharding_key`, on a profile that names a cluster: `<model>_local` on every
    node has the rows of its shard, and under the model's name stands a Distributed table over them, which
    everybody reads and inserts into. Rows are appended only: no statement deletes from all shards at once. -#}
{% macro clickhousepy__sharded_incremental() %}
    {% if model['language'] != 'sql' %}
        {% do exceptions.raise_compiler_error('sharding_key is for SQL models only') %}
    {% endif %}
    {% if clickhousepy__incremental_strategy(clickhousepy__unique_key(), []) != 'append' %}
        {% do exceptions.raise_compiler_error(
            'a table with a sharding_key is appended to: set incremental_strategy append'
        ) %}
    {% endif %}
    {% set on_schema_change = incremental_validate_on_schema_change(
        config.get('on_schema_change'), default='ignore'
    ) %}
    {% do validate_projections() %}

    {% set existing_relation = load_cached_relation(this) %}
    {% set target_relation = this.incorporate(type='table') %}
    {% set grant_config = config.get('grants') %}
    {% set is_replaced = (
        existing_relation is none or existing_relation.is_view or should_full_refresh()
    ) %}
    {% do clickhousepy__acknowledge_on_each_replica() %}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% if is_replaced %}
        {% do clickhousepy__replace_sharded(existing_relation, target_relation, sql) %}
    {% else %}
        {% if on_schema_change != 'ignore' %}
            {% set column_changes = adapter.check_incremental_schema_changes(
                on_schema_change, existing_relation, sql,
                query_settings=config.get('query_settings', {})
            ) %}
            {% if column_changes %}
                {% do clickhouse__apply_column_changes(column_changes, existing_relation, True) %}
            {% endif %}
        {% endif %}
        {% call statement('main') %}
            {{ clickhouse__insert_into(target_relation, sql, config.get('contract').enforced) }}
        {% endcall %}
    {% endif %}

    {% set should_revoke = should_revoke(existing_relation, full_refresh_mode=is_replaced) %}
    {% do apply_grants(target_relation, grant_config, should_revoke=should_revoke) %}
    {% do persist_docs(target_relation, model) %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation]}) }}
{% endmacro %}

{% macro clickhousepy__shard_relation(relation) %}
    {% do return(relation.incorporate(path={
        'schema': adapter.get_clickhouse_local_db_prefix() ~ relation.schema,
        'identifier': relation.identifier ~ adapter.get_clickhouse_local_suffix(),
    })) %}
{% endmacro %}

{#- An insert is done when every replica of its shards has it, so that the next statement finds it whichever
    replica it asks. The profile's own insert_quorum is for tables that are whole on every node. -#}
{% macro clickhousepy__acknowledge_on_each_replica() %}
    {% set cluster = adapter.get_clickhouse_cluster_name()[1:-1] %}
    {% set replicas = run_query(
        "select max(replica_num) as replicas from system.clusters where cluster = '" ~ cluster ~ "'"
    ).rows[0]['replicas'] %}
    {% set query_settings = {'insert_quorum': replicas | int} %}
    {% do query_settings.update(model['config'].get('query_settings', {})) %}
    {% do model['config'].update({'query_settings': query_settings}) %}
{% endmacro %}

{#- Fill new tables, and let them take the place of the old ones when they are complete. -#}
{% macro clickhousepy__replace_sharded(existing_relation, target_relation, sql) %}
    {% set has_contract = config.get('contract').enforced %}
    {% set new_relation = make_intermediate_relation(target_relation) %}
    {% set new_shard = clickhousepy__shard_relation(new_relation) %}
    {% set shard_relation = clickhousepy__shard_relation(target_relation) %}
    {% set existing_shard = load_cached_relation(shard_relation) %}
    {% do adapter.drop_relation(new_relation) %}
    {% do adapter.drop_relation(new_shard) %}

    {% call statement('create_shards') %}
        {{ create_table_or_empty(false, new_shard, sql, has_contract) }}
    {% endcall %}
    {% for index in config.get('indexes', default=[]) %}
        {% call statement('add_index') %}
            alter table {{ new_shard }} {{ on_cluster_clause(new_shard) }}
            add index {{ index.get('name') }} {{ index.get('definition') }}
        {% endcall %}
    {% endfor %}
    {% for projection in config.get('projections', default=[]) %}
        {% call statement('add_projection') %}
            alter table {{ new_shard }} {{ on_cluster_clause(new_shard) }}
            add {{ clickhouse_projection_ddl(projection) }}
        {% endcall %}
    {% endfor %}
    {% call statement('create_distributed') %}
        {{ create_distributed_table(new_relation, new_shard) }}
    {% endcall %}
    {% call statement('main') %}
        {{ clickhouse__insert_into(new_relation, sql, has_contract) }}
    {% endcall %}

    {% if existing_shard is none %}
        {% do adapter.rename_relation(new_shard, shard_relation) %}
    {% else %}
        {% do exchange_tables_atomic(new_shard, shard_relation) %}
    {% endif %}
    {% if existing_relation is not none and existing_relation.is_view %}
        {% do adapter.drop_relation(existing_relation) %}
    {% endif %}
    {% call statement('create_distributed') %}
        {{ create_distributed_table(target_relation, shard_relation) }}
    {% endcall %}
    {% do adapter.drop_relation(new_relation) %}
    {% do adapter.drop_relation(new_shard) %}
{% endmacro %}
