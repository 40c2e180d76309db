with source as (

    select * from {{ source('raw', 'replays') }} {{ is_known() }}

),

-- Until the table is merged it holds earlier requests, too.
latest as (

    select
        raw_table,
        cluster,
        topic,
        topic_id,
        `partition` as kafka_partition,
        `offset` as kafka_offset,
        is_correction,
        corrected_by,
        reject_reason,
        landed_at
    from source
    order by landed_at desc
    limit 1 by
        raw_table, cluster, topic, topic_id, kafka_partition, kafka_offset, is_correction

)

select * from latest
