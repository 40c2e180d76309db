{#- The (model_name, model_version, window_start) whose rows are not what they would be now: new or changed
    predictions, labels or orphans in it, a new baseline, or labels that are complete by now. All windows
    that have rows, on the first run. -#}
{% macro changed_performance_windows(granularity) -%}
    select distinct
        model_name,
        model_version,
        {{ window_start('predicted_hour', granularity) }} as window_start
    from {{ ref('int_service_hourly') }}
    where run_version > {{ last_run_version() }}
    union distinct
    select distinct model_name, model_version, window_start
    from {{ ref('int_performance_statistics') }}
    where granularity = '{{ granularity }}' and run_version > {{ last_run_version() }}
    {#- While parsing, every reference counts. -#}
    {%- if not execute or is_incremental() %}
    union distinct
    select distinct
        stored.model_name as model_name,
        stored.model_version as model_version,
        stored.window_start as window_start
    from {{ this }} as stored
    left join {{ ref('models') }} as configured_models
        on stored.model_name = configured_models.model_name
    where
        (stored.model_name, stored.model_version) in (
            select baselines.model_name, baselines.model_version
            from {{ ref('int_performance_statistics') }} as baselines
            where baselines.granularity = 'baseline' and baselines.run_version > {{ last_run_version() }}
        )
        or (stored.model_name, stored.window_start) in (
            select orphans.model_name, {{ window_start('orphans.observed_at', granularity) }}
            from {{ ref('int_performance_orphan_labels') }} as orphans
            where orphans.run_version > {{ last_run_version() }}
        )
        or stored.status != {{ performance_status(
            'stored.window_end', 'ifNull(configured_models.label_maturity_hours, 0)'
        ) }}
    {%- endif %}
{%- endmacro %}
