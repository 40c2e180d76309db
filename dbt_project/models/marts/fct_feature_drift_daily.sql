{{ config(
    materialized='incremental',
    incremental_strategy='delete_insert',
    unique_key=['model_name', 'model_version', 'comparison', 'window_start'],
    order_by='''(
        model_name, model_version, comparison, window_start, segment_key, segment_value, feature_name
    )''',
    meta={'vanished': ['delete_vanished_windows', 'day']},
) }}

{{ feature_drift('day') }}
