{{ config(materialized='view') }}
{%- set granularities = ['hour', 'day', 'week', 'month'] -%}
{%- set key = 'event_type, topic, granularity, window_start' -%}

with hourly as (

    select * from {{ ref('int_topic_events_hourly_latest') }}

),

windows as (

    {% for granularity in granularities -%}
    select
        event_type,
        topic,
        '{{ granularity }}' as granularity,
        {{ window_start('event_hour', granularity) }} as window_start,
        {{ window_end('window_start', granularity) }} as window_end,
        event_count,
        rejected_count,
        reject_runs
    from hourly
    {% if not loop.last -%}
    union all
    {% endif -%}
    {%- endfor %}

),

summed as (

    select
        {{ key }},
        any(windows.window_end) as window_end,
        sum(windows.event_count) as event_count,
        sum(windows.rejected_count) as rejected_count,
        -- (topic id, partition, first offset, last offset), in order.
        arraySort(groupArrayArray(windows.reject_runs)) as runs
    from windows
    group by {{ key }}

),

-- Runs that touch are one: the lengths up to the last of each, and what lies between these.
measured as (

    select
        {{ key }},
        window_end,
        event_count,
        rejected_count,
        arrayCumSum(run -> run.4 - run.3 + 1, runs) as lengths_so_far,
        arrayMap(
            (run, following) -> (run.1, run.2, run.4 + 1) != (following.1, following.2, following.3),
            runs,
            arraySlice(arrayPushBack(runs, ('', toInt32(-1), toInt64(-1), toInt64(-1))), 2)
        ) as is_last,
        arrayFilter((length_so_far, is_end) -> is_end, lengths_so_far, is_last) as lengths_at_ends,
        arrayMax(arrayDifference(arrayPushFront(lengths_at_ends, 0))) as longest_run
    from summed

),

final as (

    select
        event_type,
        topic,
        granularity,
        window_start,
        window_end,
        toUInt64(event_count) as event_count,
        toUInt64(rejected_count) as rejected_count,
        rejected_count / event_count as reject_rate,
        toUInt64(longest_run) as longest_reject_run
    from measured

)

select * from final
