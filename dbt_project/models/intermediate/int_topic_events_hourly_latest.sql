{{ config(materialized='view') }}

select * from {{ ref('int_topic_events_hourly') }} final
