{{ config(materialized='view') }}

select * from {{ ref('int_breaches_reported') }} final
