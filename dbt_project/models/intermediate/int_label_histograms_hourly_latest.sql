{{ config(materialized='view') }}

select * except (is_deleted)
from {{ ref('int_label_histograms_hourly') }} final
where is_deleted = 0
