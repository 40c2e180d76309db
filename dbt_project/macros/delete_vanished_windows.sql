{#- For remove_vanished, beside delete_insert, which replaces only the windows that have new rows: a touched window
    that has none any more is removed here. -#}
{% macro delete_vanished_windows(granularity) -%}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where
            run_version < {{ run_version() }}
            and (model_name, model_version, window_start) in ({{ touched_windows(granularity) }})
    {%- endif -%}
{%- endmacro %}
