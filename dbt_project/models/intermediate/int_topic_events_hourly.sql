{#- A touched hour is counted whole, and written where it is not what it was. Rejects are kept as runs of
    consecutive offsets, which add up to the runs of every wider window. -#}
{%- set key = 'event_type, topic, event_hour' -%}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='(event_type, topic, event_hour)',
) }}

with messages as (

    select event_type, topic, toStartOfHour(kafka_timestamp, 'UTC') as event_hour, landed_at
    from {{ ref('stg_raw__messages') }}

),

touched_hours as (

    select distinct {{ key }} from messages where landed_at > {{ landed_since_last_run() }}
    union distinct
    select distinct event_type, topic, toStartOfHour(kafka_timestamp, 'UTC') as event_hour
    from {{ ref('int_rejected_events') }}
    where run_version > {{ last_run_version() }}

),

counted as (

    select {{ key }}, count() as event_count
    from messages
    where
        -- The hour alone prunes by the raw table's index.
        event_hour in (select touched_hours.event_hour from touched_hours)
        and ({{ key }}) in (select * from touched_hours)
    group by {{ key }}

),

rejected as (

    select
        event_type,
        topic,
        toStartOfHour(kafka_timestamp, 'UTC') as event_hour,
        topic_id,
        kafka_partition,
        kafka_offset,
        -- The same for offsets without a gap between them.
        kafka_offset - row_number() over (
            partition by {{ key }}, topic_id, kafka_partition order by kafka_offset
        ) as island
    from {{ ref('int_rejected_events_latest') }}
    where ({{ key }}) in (select * from touched_hours)

),

runs as (

    select
        {{ key }},
        topic_id,
        kafka_partition,
        min(kafka_offset) as first_offset,
        max(kafka_offset) as last_offset
    from rejected
    group by {{ key }}, topic_id, kafka_partition, island

),

runs_of_hour as (

    select
        {{ key }},
        toUInt64(sum(last_offset - first_offset + 1)) as rejected_count,
        arraySort(groupArray(
            (toString(topic_id), kafka_partition, first_offset, last_offset)
        )) as reject_runs
    from runs
    group by {{ key }}

),

joined as (

    select
        counted.event_type as event_type,
        counted.topic as topic,
        counted.event_hour as event_hour,
        counted.event_count as event_count,
        toUInt64(ifNull(runs_of_hour.rejected_count, 0)) as rejected_count,
        cast(
            runs_of_hour.reject_runs,
            'Array(Tuple(topic_id String, kafka_partition Int32, first_offset Int64, last_offset Int64))'
        ) as reject_runs
    from counted
    left join runs_of_hour
        on counted.event_type = runs_of_hour.event_type
        and counted.topic = runs_of_hour.topic
        and counted.event_hour = runs_of_hour.event_hour

),

{% if is_incremental() %}
stored as (

    select
        {{ key }},
        argMax(event_count, run_version) as event_count,
        argMax(reject_runs, run_version) as reject_runs
    from {{ this }}
    where ({{ key }}) in (select * from touched_hours)
    group by {{ key }}

),
{% endif %}

final as (

    select
        event_type,
        topic,
        event_hour,
        event_count,
        rejected_count,
        reject_runs,
        {{ run_version() }} as run_version
    from joined
    {% if is_incremental() %}
    where ({{ key }}, event_count, reject_runs) not in (
        select {{ key }}, event_count, reject_runs from stored
    )
    {% endif %}

)

select * from final
