{{ config(
    materialized='incremental',
    incremental_strategy='delete_insert',
    unique_key=['model_name', 'model_version', 'window_start'],
    order_by='(model_name, model_version, window_start, segment_key, segment_value, feature_name)',
    meta={'vanished': ['delete_vanished_windows', 'day']},
) }}

with touched_windows as (

    {{ touched_windows('day') }}

),

hourly as (

    select
        *,
        {{ window_start('predicted_hour', 'day') }} as window_start
    from {{ ref('int_feature_histograms_hourly_latest') }}

),

summed as (

    select
        baseline_id,
        model_name,
        model_version,
        window_start,
        segment_key,
        segment_value,
        feature_name,
        {{ histogram_columns(merge=true) }}
    from hourly
    where
        (model_name, model_version, window_start) in (
            select model_name, model_version, window_start from touched_windows
        )
    group by
        baseline_id, model_name, model_version, window_start,
        segment_key, segment_value, feature_name

),

final as (

    select
        baseline_id,
        model_name,
        model_version,
        window_start,
        segment_key,
        segment_value,
        feature_name,
        {{ histogram_columns() }},
        {{ run_version() }} as run_version
    from summed

)

select * from final
