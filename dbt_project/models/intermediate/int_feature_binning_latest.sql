{{ config(materialized='view') }}

select * from {{ ref('int_feature_binning') }} final
