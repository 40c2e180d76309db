{{ config(materialized='view') }}

-- A filter on model_name, model_version, granularity and window_start prunes: the statistics are in that
-- order.
with performance_windows as (

    select * from {{ ref('int_performance_windows') }}
    where task = 'binary'

),

-- What a threshold of k/100 predicts positive is the sum from the k-th hundredth on.
window_statistics as (

    select
        *,
        arrayReverse(arrayCumSum(arrayReverse(positives_by_hundredth))) as positives_from,
        arrayReverse(arrayCumSum(arrayReverse(negatives_by_hundredth))) as negatives_from
    from {{ ref('int_performance_statistics') }}
    where granularity != 'baseline' and notEmpty(positives_by_hundredth)

),

counted as (

    select
        performance_windows.granularity as granularity,
        performance_windows.model_name as model_name,
        performance_windows.model_version as model_version,
        performance_windows.segment_key as segment_key,
        performance_windows.segment_value as segment_value,
        performance_windows.window_start as window_start,
        performance_windows.window_end as window_end,
        performance_windows.status as status,
        arrayJoin(arrayEnumerate(window_statistics.positives_from)) as place,
        (place - 1) / 100 as threshold,
        window_statistics.positives_from[place] as true_positives,
        window_statistics.negatives_from[place] as false_positives,
        window_statistics.positive_count - true_positives as false_negatives,
        window_statistics.negative_count - false_positives as true_negatives
    from performance_windows
    inner join window_statistics
        on performance_windows.model_name = window_statistics.model_name
        and performance_windows.model_version = window_statistics.model_version
        and performance_windows.granularity = window_statistics.granularity
        and performance_windows.window_start = window_statistics.window_start
        and performance_windows.segment_key = window_statistics.segment_key
        and performance_windows.segment_value = window_statistics.segment_value

),

final as (

    select
        granularity,
        model_name,
        model_version,
        segment_key,
        segment_value,
        window_start,
        window_end,
        status,
        threshold,
        toUInt64(true_positives) as true_positives,
        toUInt64(false_positives) as false_positives,
        toUInt64(true_negatives) as true_negatives,
        toUInt64(false_negatives) as false_negatives,
        if(
            true_positives + false_positives > 0,
            true_positives / (true_positives + false_positives),
            null
        ) as precision,
        if(
            true_positives + false_negatives > 0,
            true_positives / (true_positives + false_negatives),
            null
        ) as recall,
        if(
            true_positives + false_positives + false_negatives > 0,
            2 * true_positives / (2 * true_positives + false_positives + false_negatives),
            null
        ) as f1,
        (true_positives + true_negatives)
        / (true_positives + false_positives + true_negatives + false_negatives) as accuracy
    from counted

)

select * from final
