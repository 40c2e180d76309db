{#- The (model_name, model_version, predicted_hour) of predictions whose hourly counts are not what they
    would be now: rows came to them or left them, the model is configured otherwise, or the run was told
    to recompute them. `predictions` names another table of hours: that of labels. -#}
{% macro hours_to_recount(predictions='int_predictions') -%}
    select distinct model_name, model_version, predicted_hour
    from {{ ref(predictions) }}
    where
        run_version > {{ last_run_version() }}
        {#- While parsing, every reference counts. -#}
        {%- if not execute or is_incremental() %}
        or model_name in (
            select changed.model_name from {{ ref('int_model_configurations') }} as changed
            where changed.run_version > {{ last_run_version() }}
        )
        {%- endif %}
        or {{ is_recomputed_hour('predicted_hour') }}
{%- endmacro %}
