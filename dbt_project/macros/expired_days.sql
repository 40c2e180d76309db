{#- One row: how many objects of the archive hold rows that raw lacks (expired, or never restored), and the first
    and last of their days of landing. -#}
{% macro expired_days() -%}
    with

    archived as (

        select
            raw_table, cluster, topic, topic_id, `partition`, batch_date, first_offset, last_offset,
            row_count
        from {{ source('raw', 'archive_manifest') }} final

    ),

    landed as (
        {%- for table in ('prediction_events', 'label_events') %}
        {%- if not loop.first %}
        union all
        {%- endif %}

        select
            '{{ table }}' as raw_table, cluster, topic, topic_id, `partition`, batch_date, `offset`
        from {{ source('raw', table) }}
        {%- endfor %}

    ),

    counted as (

        select
            archived.raw_table as raw_table,
            archived.cluster as cluster,
            archived.topic as topic,
            archived.topic_id as topic_id,
            archived.`partition` as partition_number,
            archived.batch_date as batch_date,
            archived.first_offset as first_offset,
            count() as row_count
        from landed
        asof inner join archived
            on landed.raw_table = archived.raw_table
            and landed.cluster = archived.cluster
            and landed.topic = archived.topic
            and landed.topic_id = archived.topic_id
            and landed.`partition` = archived.`partition`
            and landed.batch_date = archived.batch_date
            and landed.`offset` >= archived.first_offset
        where landed.`offset` <= archived.last_offset
        group by
            raw_table, cluster, topic, topic_id, partition_number, batch_date, first_offset

    )

    select
        toUInt32(count()) as object_count,
        toString(min(archived.batch_date)) as first_day,
        toString(max(archived.batch_date)) as last_day
    from archived
    left join counted
        on archived.raw_table = counted.raw_table
        and archived.cluster = counted.cluster
        and archived.topic = counted.topic
        and archived.topic_id = counted.topic_id
        and archived.`partition` = counted.partition_number
        and archived.batch_date = counted.batch_date
        and archived.first_offset = counted.first_offset
    where ifNull(counted.row_count, 0) < archived.row_count
{%- endmacro %}
