{{ config(materialized='view') }}

-- A baseline is counted whole each time, with a mark that has no rows.
select *
from {{ ref('int_baseline_clusters') }} final
where
    row_count > 0
    and (baseline_id, run_version) in (
        select counted.baseline_id, max(counted.run_version) as run_version
        from {{ ref('int_baseline_clusters') }} as counted
        group by counted.baseline_id
    )
