{{ config(
    materialized='incremental',
    incremental_strategy='delete_insert',
    unique_key=['model_name', 'model_version', 'window_start'],
    order_by='(model_name, model_version, window_start, segment_key, segment_value)',
    meta={'vanished': ['delete_vanished_performance', 'day']},
) }}

{{ model_performance('day') }}
