{#- The CTEs that make a touched hour whole again in a table of hourly histograms: what `histograms` has of
    `touched_hours`, and a mark on each stored key that is gone from them. The last CTE is `final`. -#}
{% macro recounted_hours() -%}
{% if is_incremental() %}
stored_keys as (

    select
        baseline_id, model_name, model_version, predicted_hour,
        segment_key, segment_value, feature_name,
        argMax(is_deleted, run_version) as was_deleted
    from {{ this }}
    where
        (model_name, model_version, predicted_hour) in (
            select model_name, model_version, predicted_hour from touched_hours
        )
        and baseline_id in (
            select active_baselines.baseline_id from active_baselines
            union all
            select ''
        )
    group by
        baseline_id, model_name, model_version, predicted_hour,
        segment_key, segment_value, feature_name

),
{% endif %}

counted_or_stored as (

    select
        baseline_id,
        model_name,
        model_version,
        bucket as predicted_hour,
        segment_key,
        segment_value,
        feature_name,
        {{ histogram_columns() }},
        toUInt8(0) as is_deleted
    from histograms
    {% if is_incremental() %}
    union all
    select
        baseline_id, model_name, model_version, predicted_hour,
        segment_key, segment_value, feature_name,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0., 0., null, null, [],  -- noqa: AL03
        cast(map(), 'Map(Int16, UInt64)'), 1  -- noqa: AL03
    from stored_keys
    where was_deleted = 0
    {% endif %}

),

-- What is stored and was not counted is gone. Asking `histograms` for it would count them once more.
final as (

    select *, {{ run_version() }} as run_version
    from counted_or_stored
    {% if is_incremental() %}
    order by is_deleted
    limit 1 by
        baseline_id, model_name, model_version, predicted_hour,
        segment_key, segment_value, feature_name
    {% endif %}

)
{%- endmacro %}
