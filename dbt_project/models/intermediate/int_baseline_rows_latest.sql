{{ config(materialized='view') }}

select * from {{ ref('int_baseline_rows') }} final
