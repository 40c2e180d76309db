with baselines as (

    select * from {{ ref('stg_raw__baselines') }}

),

row_times as (

    select
        baseline_id,
        count() as stored_row_count,
        min(predicted_at) as first_predicted_at,
        max(predicted_at) as last_predicted_at,
        max(run_version) as rows_run_version
    from {{ ref('int_baseline_rows') }}
    group by baseline_id

),

joined as (

    select
        baselines.baseline_id as baseline_id,
        baselines.model_name as model_name,
        baselines.model_version as model_version,
        baselines.description as description,
        baselines.registered_at as registered_at,
        baselines.row_count as row_count,
        baselines.roles as roles,
        row_times.first_predicted_at as first_predicted_at,
        row_times.last_predicted_at as last_predicted_at,
        -- The latest registered of its model version is the one that windows are compared with.
        toUInt8(
            row_number() over (
                partition by baselines.model_name, baselines.model_version
                order by baselines.registered_at desc, baselines.baseline_id asc
            ) = 1
        ) as is_active,
        toUInt64(row_times.rows_run_version) as run_version
    from baselines
    inner join row_times on baselines.baseline_id = row_times.baseline_id

)

select * from joined
