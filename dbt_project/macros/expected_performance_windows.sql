{#- Every window of a granularity between the first and the last prediction of a model's active version,
    empty ones too: a window in which the model fell silent is a row. -#}
{% macro expected_performance_windows(granularity) -%}
    {%- set first_window -%} min({{ window_start('service.predicted_hour', granularity) }}) {%- endset -%}
    {%- set last_window -%} max({{ window_start('service.predicted_hour', granularity) }}) {%- endset -%}
    {%- set add_windows = {'day': 'addDays', 'week': 'addWeeks', 'month': 'addMonths'}[granularity] -%}
    select
        service.model_name as model_name,
        service.model_version as model_version,
        {{ add_windows }}(
            {{ first_window }},
            arrayJoin(range(
                toUInt64(dateDiff('{{ granularity }}', {{ first_window }}, {{ last_window }}) + 1)
            ))
        ) as window_start
    from {{ ref('int_service_hourly_latest') }} as service
    inner join {{ ref('models') }} as configured_models
        on service.model_name = configured_models.model_name
        and service.model_version = configured_models.active_version
    where service.segment_key = 'all' and service.prediction_count > 0
    group by service.model_name, service.model_version
{%- endmacro %}
