{#- What the statistics of a run are computed from: the groups of int_performance_groups, each with all
    its labelled rows, reduced to what its task needs. -#}
{{ config(
    materialized='table',
    order_by='(model_name, model_version, granularity, window_start, segment_key, segment_value)',
) }}
{%- set moments = [
    'error_sum', 'absolute_error_sum', 'squared_error_sum', 'relative_error_sum', 'zero_label_count',
    'error_variance', 'absolute_error_variance', 'label_variance', 'label_range',
] -%}

with groups as (

    select * from {{ ref('int_performance_groups') }}

),

-- Binary models: counted by score. Models that have no task are here too, for their label counts.
binary_rows as (

    {{ performance_rows("task not in ('multiclass', 'regression')", ['label', 'score']) }}

),

by_score as (

    select
        group_number,
        score,
        countIf(label = positive_label) as positives,
        count() as row_count,
        groupArrayIf(label_lag_seconds, label = positive_label) as positive_lags,
        groupArrayIf(label_lag_seconds, label != positive_label) as negative_lags
    from binary_rows
    group by group_number, score

),

counted_by_score as (

    select
        group_number,
        sum(row_count) as labeled_count,
        groupArrayIf(assumeNotNull(score), score is not null) as scores,
        groupArrayIf(positives, score is not null) as positives_by_score,
        groupArrayIf(row_count - positives, score is not null) as negatives_by_score,
        quantilesExactInclusiveArray(0.5, 0.95)(arrayConcat(positive_lags, negative_lags)) as lags,
        arrayMax(arrayFilter(lag -> not isNaN(lag), [
            quantileExactInclusiveArray(0.95)(positive_lags),
            quantileExactInclusiveArray(0.95)(negative_lags)
        ])) as slowest_class_lag,
        sum(length(positive_lags) + length(negative_lags)) as lag_count
    from by_score
    group by group_number

),

-- Multiclass models: counted by pairs of label and prediction, and by the score of each class.
multiclass_rows as (

    {{ performance_rows("task = 'multiclass'", ['label', 'predicted_label']) }}

),

by_pair as (

    select
        group_number,
        label,
        predicted_label,
        count() as row_count,
        groupArray(label_lag_seconds) as label_lags
    from multiclass_rows
    group by group_number, label, predicted_label

),

counted_by_pair as (

    select
        group_number,
        sum(row_count) as labeled_count,
        sumMapIf(map(label, row_count), predicted_label != '') as label_counts,
        sumMapIf(map(predicted_label, row_count), predicted_label != '') as predicted_counts,
        sumMapIf(map(label, row_count), label = predicted_label) as hit_counts,
        quantilesExactInclusiveArray(0.5, 0.95)(label_lags) as lags,
        arrayMax(arrayFilter(
            lag -> not isNaN(lag),
            mapValues(quantileExactInclusiveArrayMap(0.95)(map(label, label_lags)))
        )) as slowest_class_lag,
        sum(length(label_lags)) as lag_count
    from by_pair
    group by group_number

),

class_score_rows as (

    {{ performance_rows("task = 'multiclass'", ['label', 'class_scores']) }}

),

by_class_score as (

    select
        group_number,
        class_score.1 as class_name,
        class_score.2 as score,
        countIf(label = class_name) as positives,
        countIf(label != class_name) as negatives
    from class_score_rows
    array join cast(class_scores, 'Array(Tuple(String, Float64))') as class_score
    where isFinite(score)
    group by group_number, class_name, score

),

counted_by_class_score as (

    select
        group_number,
        groupArray(class_name) as class_names,
        groupArray(score) as scores,
        groupArray(positives) as positives_by_score,
        groupArray(negatives) as negatives_by_score
    from by_class_score
    group by group_number

),

-- Regression models: sums over the rows whose label and prediction are numbers.
regression_rows as (

    {{ performance_rows("task = 'regression'", ['label_number', 'predicted_value']) }}

),

measured as (

    select
        group_number,
        label_lag_seconds,
        ifNull(isFinite(label_number) and isFinite(predicted_value), 0) as is_measured,
        assumeNotNull(label_number) as number,
        assumeNotNull(predicted_value) - number as error
    from regression_rows

),

summed as (

    select
        group_number,
        count() as labeled_count,
        countIf(is_measured) as row_count,
        sumKahanIf(error, is_measured) as error_sum,
        sumKahanIf(abs(error), is_measured) as absolute_error_sum,
        sumKahanIf(error * error, is_measured) as squared_error_sum,
        sumKahanIf(abs(error / number), is_measured and number != 0) as relative_error_sum,
        countIf(is_measured and number = 0) as zero_label_count,
        varSampStableIf(error, is_measured) as error_variance,
        varSampStableIf(abs(error), is_measured) as absolute_error_variance,
        varPopStableIf(number, is_measured) as label_variance,
        maxIf(number, is_measured) - minIf(number, is_measured) as label_range,
        quantilesExactInclusive(0.5, 0.95)(label_lag_seconds) as lags,
        count(label_lag_seconds) as lag_count
    from measured
    group by group_number

),

final as (

    select
        groups.baseline_id as baseline_id,
        groups.model_name as model_name,
        groups.model_version as model_version,
        groups.granularity as granularity,
        groups.window_start as window_start,
        groups.segment_key as segment_key,
        groups.segment_value as segment_value,
        groups.task as task,
        groups.obstacle as obstacle,
        groups.threshold as threshold,
        toUInt64(coalesce(
            counted_by_score.labeled_count, counted_by_pair.labeled_count, summed.labeled_count, 0
        )) as labeled_count,
        {%- for place in (1, 2) %}
        multiIf(
            counted_by_score.lag_count > 0, counted_by_score.lags[{{ place }}],
            counted_by_pair.lag_count > 0, counted_by_pair.lags[{{ place }}],
            summed.lag_count > 0, summed.lags[{{ place }}],
            null
        ) as label_lag_{{ 'p50' if place == 1 else 'p95' }}_seconds,
        {%- endfor %}
        multiIf(
            obstacle = '' and counted_by_score.lag_count > 0, counted_by_score.slowest_class_lag,
            counted_by_pair.lag_count > 0, counted_by_pair.slowest_class_lag,
            null
        ) as slowest_class_lag_p95_seconds,
        -- One element per distinct score; empty where the obstacle leaves nothing to compute.
        if(obstacle = '', counted_by_score.scores, []) as scores,
        if(obstacle = '', counted_by_score.positives_by_score, []) as positives,
        if(obstacle = '', counted_by_score.negatives_by_score, []) as negatives,
        -- One element per class that is a label, a prediction or has a score.
        arraySort(arrayDistinct(arrayConcat(
            mapKeys(counted_by_pair.label_counts),
            mapKeys(counted_by_pair.predicted_counts),
            counted_by_class_score.class_names
        ))) as classes,
        {%- for counts in ('label', 'predicted', 'hit') %}
        arrayMap(class -> counted_by_pair.{{ counts }}_counts[class], classes)
            as class_{{ 'true_positives' if counts == 'hit' else counts ~ '_counts' }},
        {%- endfor %}
        -- One element per class and distinct score of it.
        arrayMap(class -> toUInt32(indexOf(classes, class)), counted_by_class_score.class_names)
            as class_score_places,
        counted_by_class_score.scores as class_scores,
        counted_by_class_score.positives_by_score as class_score_positives,
        counted_by_class_score.negatives_by_score as class_score_negatives,
        -- The moments of dbt_project/python/regression.py.
        toUInt64(ifNull(summed.row_count, 0)) as row_count,
        {%- for moment in moments %}
        toFloat64(ifNull(summed.{{ moment }}, 0)) as {{ moment }},
        {%- endfor %}
        {{ run_version() }} as run_version
    from groups
    left join counted_by_score on groups.group_number = counted_by_score.group_number
    left join counted_by_pair on groups.group_number = counted_by_pair.group_number
    left join counted_by_class_score on groups.group_number = counted_by_class_score.group_number
    left join summed on groups.group_number = summed.group_number

)

select * from final
