{{ config(order_by='(model_name, monitor_name, model_version, segment_value, feature_name)') }}

-- What the rules find as of now; what they found before and find no more is in int_breaches_reported.
{{ breaches_found(
    ref('int_monitor_rules'), ref('int_monitored_windows'), ref('int_monitor_mutes')
) }}
