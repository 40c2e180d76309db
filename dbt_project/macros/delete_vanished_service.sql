{#- For remove_vanished, beside delete_insert, which replaces only the windows that have new rows: a changed window
    that has none any more is removed here, and an empty window that is no longer expected. -#}
{% macro delete_vanished_service(granularity) -%}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where
            run_version < {{ run_version() }}
            and (
                (model_name, window_start) in ({{ changed_service_windows(granularity) }})
                or prediction_count = 0
                and (model_name, model_version, window_start) not in (
                    {{ expected_performance_windows(granularity) }}
                )
            )
    {%- endif -%}
{%- endmacro %}
