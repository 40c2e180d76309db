{#- The (model_name, window_start) whose hourly counts changed since the last completed run of this model.
    All versions of the model belong to a window: each one's share depends on the others. -#}
{% macro changed_service_windows(granularity) -%}
    select distinct
        model_name,
        {{ window_start('predicted_hour', granularity) }} as window_start
    from {{ ref('int_service_hourly') }}
    where run_version > {{ last_run_version() }}
{%- endmacro %}
