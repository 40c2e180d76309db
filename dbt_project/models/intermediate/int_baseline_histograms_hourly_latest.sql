{{ config(materialized='view') }}

-- A baseline is counted whole each time: what its latest count lacks is gone, a segment set declared no
-- longer for one.
select *
from {{ ref('int_baseline_histograms_hourly') }} final
where
    (baseline_id, run_version) in (
        select counted.baseline_id, max(counted.run_version) as run_version
        from {{ ref('int_baseline_histograms_hourly') }} as counted
        group by counted.baseline_id
    )
