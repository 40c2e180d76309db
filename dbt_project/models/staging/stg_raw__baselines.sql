with source as (

    select * from {{ source('raw', 'baselines') }} {{ is_known() }}

),

-- Registering twice at once may write a row twice; the rows are the same but for their times.
deduplicated as (

    select
        baseline_id,
        model_name,
        model_version,
        description,
        row_count,
        roles,
        feature_types,
        feature_importance,
        registered_at,
        landed_at
    from source
    order by registered_at, landed_at
    limit 1 by baseline_id

)

select * from deduplicated
