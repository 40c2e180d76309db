{#- The hours to recount under bins: those of hours_to_recount, and of a new baseline, from the CTE
    `active_baselines`, those that were predicted before it came, back to a stated horizon. -#}
{% macro hours_to_count(predictions) -%}
    {{ hours_to_recount(predictions) }}
    union distinct
    select distinct
        predictions.model_name as model_name,
        predictions.model_version as model_version,
        predictions.predicted_hour as predicted_hour
    from {{ ref(predictions) }} as predictions
    inner join active_baselines
        on predictions.model_name = active_baselines.model_name
        and predictions.model_version = active_baselines.model_version
    where
        active_baselines.run_version > {{ last_run_version() }}
        and predictions.predicted_at
        >= active_baselines.registered_at - toIntervalDay({{ var('baseline_backfill_days') }})
{%- endmacro %}
