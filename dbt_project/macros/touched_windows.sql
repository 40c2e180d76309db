{#- The (model_name, model_version, window_start) whose hourly histograms changed since the last completed
    run of this model. An hour that lost all its predictions in the run in which the baseline was replaced has
    no histogram that could say so; int_service_hourly, which knows no baselines, does. -#}
{% macro touched_windows(granularity, hourly_models=['int_feature_histograms_hourly', 'int_service_hourly']) -%}
    {%- for hourly_model in hourly_models -%}
    {%- if not loop.first %}
    union distinct
    {% endif -%}
    select distinct
        model_name,
        model_version,
        {{ window_start('predicted_hour', granularity) }} as window_start
    from {{ ref(hourly_model) }}
    where run_version > {{ last_run_version() }}
    {%- endfor -%}
{%- endmacro %}
