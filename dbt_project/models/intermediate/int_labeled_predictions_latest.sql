{{ config(materialized='view') }}

select * except (is_deleted)
from {{ ref('int_labeled_predictions') }} final
where is_deleted = 0
