{{ config(materialized='view') }}

-- A filter on model_name, model_version, granularity and window_start prunes: the statistics are in that
-- order.
with performance_windows as (

    select * from {{ ref('int_performance_windows') }}
    where task = 'binary'

),

window_statistics as (

    select * from {{ ref('int_performance_statistics') }}
    where granularity != 'baseline' and notEmpty(score_sums_by_tenth)

),

binned as (

    select
        performance_windows.granularity as granularity,
        performance_windows.model_name as model_name,
        performance_windows.model_version as model_version,
        performance_windows.segment_key as segment_key,
        performance_windows.segment_value as segment_value,
        performance_windows.window_start as window_start,
        performance_windows.window_end as window_end,
        performance_windows.status as status,
        toUInt8(arrayJoin(range(10))) as bin_index,
        -- A score of exactly 1 is the last of the 101 hundredths, and of the last bin.
        if(bin_index = 9, 11, 10) as hundredths,
        arraySum(
            arraySlice(window_statistics.positives_by_hundredth, bin_index * 10 + 1, hundredths)
        ) as positive_count,
        arraySum(
            arraySlice(window_statistics.negatives_by_hundredth, bin_index * 10 + 1, hundredths)
        ) as negative_count,
        window_statistics.score_sums_by_tenth[bin_index + 1] as score_sum
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
        bin_index,
        bin_index / 10 as score_from,
        (bin_index + 1) / 10 as score_until,
        positive_count + negative_count as row_count,
        positive_count,
        if(row_count > 0, score_sum / row_count, null) as mean_score,
        if(row_count > 0, positive_count / row_count, null) as observed_rate
    from binned

)

select * from final
