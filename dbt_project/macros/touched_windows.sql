{#- The (model_name, model_version, window_start) whose hourly histograms changed since the last completed
    run of this model. -#}
{% macro touched_windows(granularity, histograms='int_feature_histograms_hourly') -%}
    select distinct
        model_name,
        model_version,
        {{ window_start('predicted_hour', granularity) }} as window_start
    from {{ ref(histograms) }}
    where run_version > {{ last_run_version() }}
{%- endmacro %}
