{#- CTEs, the last of them `estimates`: what accuracy, F1 and AUC of a binary model come to, when at each
    score as large a share is positive as in the baseline (confidence-based estimation on calibrated
    scores). Labels of the window play no part. To stand in model_performance, behind `touched_windows`,
    `configured_models`, `active_baselines` and `baseline_statistics`. -#}
{% macro estimated_performance(granularity) -%}
{%- set key = 'model_name, model_version, segment_key, segment_value, window_start' -%}
window_scores as (

    select
        model_name,
        model_version,
        segment_key,
        segment_value,
        {{ window_start('predicted_hour', granularity) }} as window_start,
        sumMap(score_buckets) as score_counts
    from {{ ref('int_service_hourly_latest') }}
    where
        notEmpty(score_buckets)
        and predicted_hour >= arrayMin(touched_windows.3)
        and (model_name, model_version, {{ window_start('predicted_hour', granularity) }})
        in touched_windows
    group by {{ key }}

),

-- Of each segment that has enough rows of its own in the baseline, and of everyone.
calibrations as (

    select
        active_baselines.model_name as model_name,
        active_baselines.model_version as model_version,
        baseline_statistics.segment_key as segment_key,
        baseline_statistics.segment_value as segment_value,
        arrayZip(
            baseline_statistics.calibration_starts,
            baseline_statistics.calibration_rates,
            baseline_statistics.calibration_slopes
        ) as pieces
    from baseline_statistics
    inner join active_baselines on baseline_statistics.baseline_id = active_baselines.baseline_id
    left join configured_models on active_baselines.model_name = configured_models.model_name
    where
        baseline_statistics.segment_key = 'all'
        or baseline_statistics.labeled_count
        >= ifNull(configured_models.min_rows, {{ var('default_min_rows') }})

),

scored_buckets as (

    select
        window_scores.model_name as model_name,
        window_scores.model_version as model_version,
        window_scores.segment_key as segment_key,
        window_scores.segment_value as segment_value,
        window_scores.window_start as window_start,
        if(own.model_name is null, 'all', window_scores.segment_key) as calibration_key,
        if(own.model_name is null, 'all', window_scores.segment_value) as calibration_value,
        (
            arrayJoin(cast(window_scores.score_counts as Array(Tuple(UInt32, UInt64)))) as counted_bucket
        ).1 as bucket,
        counted_bucket.2 as row_count,
        {{ score_of_bucket('bucket') }} as score
    from window_scores
    left join calibrations as own
        on window_scores.model_name = own.model_name
        and window_scores.model_version = own.model_version
        and window_scores.segment_key = own.segment_key
        and window_scores.segment_value = own.segment_value

),

curve_pieces as (

    select
        model_name,
        model_version,
        segment_key,
        segment_value,
        (arrayJoin(pieces) as piece).1 as start_score,
        piece.2 as start_rate,
        piece.3 as slope
    from calibrations

),

expected_labels as (

    select
        scored_buckets.model_name as model_name,
        scored_buckets.model_version as model_version,
        scored_buckets.segment_key as segment_key,
        scored_buckets.segment_value as segment_value,
        scored_buckets.window_start as window_start,
        scored_buckets.bucket as bucket,
        scored_buckets.row_count as row_count,
        scored_buckets.row_count * (
            curve_pieces.start_rate
            + curve_pieces.slope * (scored_buckets.score - curve_pieces.start_score)
        ) as positives
    from scored_buckets
    asof inner join curve_pieces
        on scored_buckets.model_name = curve_pieces.model_name
        and scored_buckets.model_version = curve_pieces.model_version
        and scored_buckets.calibration_key = curve_pieces.segment_key
        and scored_buckets.calibration_value = curve_pieces.segment_value
        and scored_buckets.score >= curve_pieces.start_score

),

expected_by_score as (

    select
        {{ key }},
        arraySort(groupArray((bucket, positives, row_count - positives))) as by_bucket,
        arrayMap(counts -> bitAnd(counts.1, 1), by_bucket) as is_predicted,
        arrayMap(counts -> counts.2, by_bucket) as positives_by_score,
        arrayMap(counts -> counts.3, by_bucket) as negatives_by_score,
        arraySum(positives_by_score) as positive_sum,
        arraySum(negatives_by_score) as negative_sum,
        arraySum((count, is_one) -> count * is_one, positives_by_score, is_predicted)
            as true_positives,
        arraySum((count, is_one) -> count * is_one, negatives_by_score, is_predicted)
            as false_positives
    from expected_labels
    group by {{ key }}

),

estimates as (

    select
        {{ key }},
        (true_positives + negative_sum - false_positives) / (positive_sum + negative_sum)
            as estimated_accuracy,
        if(
            true_positives + false_positives + positive_sum > 0,
            2 * true_positives / (true_positives + false_positives + positive_sum),
            null
        ) as estimated_f1,
        if(
            positive_sum > 0 and negative_sum > 0,
            arraySum(
                (ones, others, below) -> ones * (below - others / 2),
                positives_by_score, negatives_by_score, arrayCumSum(negatives_by_score)
            ) / (positive_sum * negative_sum),
            null
        ) as estimated_auc
    from expected_by_score

)
{%- endmacro %}
