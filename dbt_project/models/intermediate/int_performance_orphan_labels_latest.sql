{{ config(materialized='view') }}

select * except (is_deleted)
from {{ ref('int_performance_orphan_labels') }} final
where is_deleted = 0
