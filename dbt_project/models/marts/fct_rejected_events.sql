{{ config(materialized='view') }}

with rejected_events as (

    select * from {{ ref('int_rejected_events_latest') }}

),

final as (

    select
        event_type,
        cluster,
        topic,
        topic_id,
        kafka_partition,
        kafka_offset,
        kafka_timestamp,
        landed_at,
        reject_reason,
        raw_value,
        corrected_by
    from rejected_events

)

select * from final
