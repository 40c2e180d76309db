{{ config(
    materialized='incremental',
    incremental_strategy='delete_insert',
    unique_key=['model_name', 'window_start'],
    order_by='(model_name, window_start, model_version, segment_key, segment_value)',
    meta={'vanished': ['delete_vanished_service', 'day']},
) }}

{{ service('day') }}
