with source as (

    select * from {{ source('raw', 'retraining_runs') }}

),

-- A run has a row when it starts and one when it ends, which outdoes the first; of two ends, which only
-- two processes at once could write, the first stands.
deduplicated as (

    select
        run_id,
        model_name,
        status,
        reason,
        trigger,
        breach_ids,
        trainer,
        metric,
        champion_version,
        challenger_version,
        as_of,
        training_from,
        cut_off,
        evaluation_until,
        training_row_count,
        evaluation_row_count,
        evaluation_positive_count,
        figures,
        challenger_threshold,
        baseline_id,
        artefact,
        started_at,
        ended_at,
        landed_at
    from source
    order by status = 'started', landed_at
    limit 1 by run_id

)

select * from deduplicated
