{{ config(
    order_by='(monitor_name, model_version, segment_value, feature_name, window_start)',
) }}

-- Every window that a rule looks at, with the value and why it does not count, where it does not.
{{ monitored_windows(ref('int_monitor_rules'), ref('int_monitor_mutes')) }}
