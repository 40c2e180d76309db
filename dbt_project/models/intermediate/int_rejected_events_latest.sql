{{ config(materialized='view') }}

select * from {{ ref('int_rejected_events') }} final
where is_deleted = 0
