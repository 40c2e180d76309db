{#- The (model_name, model_version, window_start) whose drift is not what it would be now: windows whose
    counts or labels changed, those that were still open at their last computation and are over by now,
    and those whose labels are complete by now, or no longer since labels are given more time. -#}
{% macro changed_drift_windows(granularity) -%}
    {{ touched_windows(
        granularity,
        ['int_feature_histograms_hourly', 'int_label_histograms_hourly', 'int_service_hourly']
    ) }}
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
        stored.window_end <= {{ as_of() }}
        and (
            stored.reason = 'window_open'
            or stored.feature_name = '__label__'
            and stored.reason not in ('no_baseline', 'not_in_baseline', 'below_min_granularity')
            and (stored.reason = 'labels_not_complete') != {{ are_labels_incomplete(
                'stored.window_end', 'ifNull(configured_models.label_maturity_hours, 0)'
            ) }}
        )
    {%- endif %}
{%- endmacro %}
