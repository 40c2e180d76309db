{#- For remove_vanished, beside delete_insert by hour: a touched hour that has no rows any more is removed here. -#}
{% macro delete_vanished_hours() -%}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where
            run_version < {{ run_version() }}
            and (model_name, model_version, predicted_hour) in ({{ hours_to_recount() }})
    {%- endif -%}
{%- endmacro %}
