{#- What the materializations of Python models share. -#}

{#- The table a Python job writes: the model's own engine, order and partitions, so that it can
    take the target's place, or hand partitions over, without a second write. A fixed name: what
    a killed run left behind is dropped by the next one. -#}
{% macro clickhousepy__result_relation(target_relation) %}
    {% do return(target_relation.incorporate(
        path={"identifier": target_relation.identifier ~ '__dbt_python_result'}
    )) %}
{% endmacro %}

{#- The model's code, followed by what the job must know. The columns are known only when the
    model has returned, so the statement holds a place for them. -#}
{% macro clickhousepy__python_job(compiled_code, result_relation) -%}
{{ compiled_code }}

# COMMAND ----------
# where the adapter puts what the model returns
dbt_result_relation = {{ result_relation.render() | tojson }}
dbt_create_result_relation = {{ clickhousepy__create_result_relation(result_relation) | tojson }}
{% endmacro %}

{% macro clickhousepy__create_result_relation(result_relation) -%}
    {{ create_table_or_empty(
        false, result_relation, 'select * from null(__dbt_python_columns__)', false
    ) }}
{%- endmacro %}

{#- dbt-clickhouse adds indexes and projections to a table that is still empty; this one has rows. -#}
{% macro clickhousepy__finish_result_relation(result_relation) %}
    {% do add_index_and_projections(result_relation) %}
    {% for index in config.get('indexes', default=[]) %}
        {% call statement('materialize_index') %}
            alter table {{ result_relation }} materialize index {{ index.get('name') }}
        {% endcall %}
    {% endfor %}
    {% for projection in config.get('projections', default=[]) %}
        {% call statement('materialize_projection') %}
            alter table {{ result_relation }} materialize projection {{ projection.get('name') }}
        {% endcall %}
    {% endfor %}
{% endmacro %}

{#- Put the result in the place of whatever stands under the model's name. -#}
{% macro clickhousepy__replace_target(existing_relation, target_relation, result_relation) %}
    {% if existing_relation is none %}
        {% do adapter.rename_relation(result_relation, target_relation) %}
    {% elif existing_relation.can_exchange %}
        {% do exchange_tables_atomic(result_relation, target_relation) %}
        {% do adapter.drop_relation(result_relation) %}
    {% else %}
        {% set backup_relation = make_backup_relation(target_relation, existing_relation.type) %}
        {% do adapter.rename_relation(existing_relation, backup_relation) %}
        {% do adapter.rename_relation(result_relation, target_relation) %}
        {% do adapter.drop_relation(backup_relation) %}
    {% endif %}
{% endmacro %}
