{#- Performance of every model version in every segment and window of one granularity, beside its
    baseline's; every column is defined in docs/metrics.md. The unit of recomputation is a window with
    all its segments. -#}
{% macro model_performance(granularity) -%}
{%- set key = 'model_name, model_version, segment_key, segment_value, window_start' -%}
{%- set metrics_with_interval = ['accuracy', 'precision', 'recall', 'f1', 'auc', 'mae', 'bias'] -%}
{%- set metrics_without_interval = [
    'prevalence', 'pr_auc', 'log_loss', 'brier', 'ece', 'macro_f1', 'weighted_f1', 'macro_auc', 'rmse',
    'mape', 'r2',
] -%}
{%- set touched_windows -%}
    select model_name, model_version, window_start from ({{ changed_performance_windows(granularity) }})
    union distinct
    select model_name, model_version, window_start from expected_windows
    {% if is_incremental() -%}
    where (model_name, model_version, window_start) not in (
        select stored.model_name, stored.model_version, stored.window_start from {{ this }} as stored
    )
    {%- endif %}
{%- endset -%}
with expected_windows as (

    {{ expected_performance_windows(granularity) }}

),

{{ windows_as_constant(touched_windows) }} as touched_windows,

configured_models as (

    select model_name, task, min_rows, label_maturity_hours from {{ ref('models') }}

),

segment_sets as (

    select
        model_name,
        arrayMap(keys -> arrayStringConcat(keys, '|'), segment_key_sets) as segment_keys
    from {{ ref('int_segment_sets') }}

),

active_baselines as (

    select baseline_id, model_name, model_version
    from {{ ref('dim_baselines') }}
    where is_active = 1

),

service as (

    select
        model_name,
        model_version,
        segment_key,
        segment_value,
        {{ window_start('predicted_hour', granularity) }} as window_start,
        sum(prediction_count) as prediction_count
    from {{ ref('int_service_hourly_latest') }}
    where
        predicted_hour >= arrayMin(touched_windows.3)
        and (model_name, model_version, {{ window_start('predicted_hour', granularity) }})
        in touched_windows
    group by {{ key }}
    having prediction_count > 0

),

labeled as (

    select *
    from {{ ref('int_performance_statistics') }}
    where
        granularity = '{{ granularity }}'
        and labeled_count > 0
        and (model_name, model_version, window_start) in touched_windows

),

empty_windows as (

    select model_name, model_version, 'all' as segment_key, 'all' as segment_value, window_start
    from expected_windows
    where (model_name, model_version, window_start) in touched_windows

),

performance_groups as (

    select {{ key }} from service
    union distinct
    select {{ key }} from labeled
    union distinct
    select {{ key }} from empty_windows

),

-- Rows of a segment that is declared no longer stay in the statistics; here the declared ones count.
declared_groups as (

    select performance_groups.*
    from performance_groups
    left join segment_sets on performance_groups.model_name = segment_sets.model_name
    where
        performance_groups.segment_key = 'all'
        or has(segment_sets.segment_keys, performance_groups.segment_key)

),

baseline_statistics as (

    select statistics.*
    from {{ ref('int_performance_statistics') }} as statistics
    where
        statistics.granularity = 'baseline'
        and statistics.labeled_count > 0
        and statistics.baseline_id in (select active_baselines.baseline_id from active_baselines)

),

orphans as (

    select
        model_name,
        {{ window_start('observed_at', granularity) }} as window_start,
        count() as orphan_label_count
    from {{ ref('int_performance_orphan_labels_latest') }}
    where
        (model_name, {{ window_start('observed_at', granularity) }})
        in arrayMap(touched -> (touched.1, touched.3), touched_windows)
    group by model_name, window_start

),

{{ estimated_performance(granularity) }},

joined as (

    select
        declared_groups.model_name as model_name,
        declared_groups.model_version as model_version,
        declared_groups.segment_key as segment_key,
        declared_groups.segment_value as segment_value,
        declared_groups.window_start as window_start,
        {{ window_end('declared_groups.window_start', granularity) }} as window_end,
        ifNull(configured_models.task, '') as task,
        ifNull(active_baselines.baseline_id, '') as baseline_id,
        toUInt64(ifNull(service.prediction_count, 0)) as prediction_count,
        toUInt64(ifNull(labeled.labeled_count, 0)) as labeled_count,
        toUInt64(
            if(declared_groups.segment_key = 'all', ifNull(orphans.orphan_label_count, 0), 0)
        ) as orphan_label_count,
        {{ performance_status(
            'window_end', 'ifNull(configured_models.label_maturity_hours, 0)'
        ) }} as status,
        multiIf(
            ifNull(own_baseline.labeled_count, 0)
            >= ifNull(configured_models.min_rows, {{ var('default_min_rows') }}), 'segment',
            ifNull(whole_baseline.labeled_count, 0) > 0, 'all',
            'none'
        ) as baseline_scope,
        {% for metric in metrics_with_interval + metrics_without_interval -%}
        multiIf(
            baseline_scope = 'segment', own_baseline.{{ metric }},
            baseline_scope = 'all', whole_baseline.{{ metric }},
            null
        ) as baseline_{{ metric }},
        labeled.{{ metric }} as {{ metric }},
        {% endfor -%}
        {% for metric in metrics_with_interval -%}
        labeled.{{ metric }}_lower as {{ metric }}_lower,
        labeled.{{ metric }}_upper as {{ metric }}_upper,
        {% endfor -%}
        estimates.estimated_accuracy as estimated_accuracy,
        estimates.estimated_f1 as estimated_f1,
        estimates.estimated_auc as estimated_auc,
        labeled.threshold as threshold,
        labeled.scored_count as scored_count,
        labeled.true_positives as true_positives,
        labeled.false_positives as false_positives,
        labeled.true_negatives as true_negatives,
        labeled.false_negatives as false_negatives,
        labeled.label_lag_p50_seconds as label_lag_p50_seconds,
        labeled.label_lag_p95_seconds as label_lag_p95_seconds,
        labeled.slowest_class_lag_p95_seconds as slowest_class_lag_p95_seconds,
        labeled.reason as statistics_reason
    from declared_groups
    left join service
        on declared_groups.model_name = service.model_name
        and declared_groups.model_version = service.model_version
        and declared_groups.segment_key = service.segment_key
        and declared_groups.segment_value = service.segment_value
        and declared_groups.window_start = service.window_start
    left join labeled
        on declared_groups.model_name = labeled.model_name
        and declared_groups.model_version = labeled.model_version
        and declared_groups.segment_key = labeled.segment_key
        and declared_groups.segment_value = labeled.segment_value
        and declared_groups.window_start = labeled.window_start
    left join estimates
        on declared_groups.model_name = estimates.model_name
        and declared_groups.model_version = estimates.model_version
        and declared_groups.segment_key = estimates.segment_key
        and declared_groups.segment_value = estimates.segment_value
        and declared_groups.window_start = estimates.window_start
    left join orphans
        on declared_groups.model_name = orphans.model_name
        and declared_groups.window_start = orphans.window_start
    left join configured_models on declared_groups.model_name = configured_models.model_name
    left join active_baselines
        on declared_groups.model_name = active_baselines.model_name
        and declared_groups.model_version = active_baselines.model_version
    left join baseline_statistics as own_baseline
        on active_baselines.baseline_id = own_baseline.baseline_id
        and declared_groups.segment_key = own_baseline.segment_key
        and declared_groups.segment_value = own_baseline.segment_value
    left join baseline_statistics as whole_baseline
        on active_baselines.baseline_id = whole_baseline.baseline_id
        and whole_baseline.segment_key = 'all'

),

final as (

    select
        toLowCardinality(toString(model_name)) as model_name,
        toLowCardinality(toString(model_version)) as model_version,
        toLowCardinality(toString(segment_key)) as segment_key,
        toLowCardinality(toString(segment_value)) as segment_value,
        window_start,
        window_end,
        toLowCardinality(task) as task,
        status,
        prediction_count,
        labeled_count,
        if(prediction_count > 0, labeled_count / prediction_count, null) as label_coverage,
        label_lag_p50_seconds,
        label_lag_p95_seconds,
        slowest_class_lag_p95_seconds,
        orphan_label_count,
        toUInt64(ifNull(scored_count, 0)) as scored_count,
        {% for count in ['true_positives', 'false_positives', 'true_negatives', 'false_negatives'] -%}
        if(task in ('multiclass', 'regression'), null, toUInt64(ifNull({{ count }}, 0)))
            as {{ count }},
        {% endfor -%}
        if(task in ('multiclass', 'regression'), null, threshold) as threshold,
        toLowCardinality(toString(baseline_id)) as baseline_id,
        baseline_scope,
        {% for metric in metrics_with_interval + metrics_without_interval -%}
        {{ metric }},
        baseline_{{ metric }},
        {{ metric }} - baseline_{{ metric }} as {{ metric }}_difference,
        {% endfor -%}
        {% for metric in metrics_with_interval -%}
        {{ metric }}_lower,
        {{ metric }}_upper,
        toUInt8(
            baseline_{{ metric }} < {{ metric }}_lower or baseline_{{ metric }} > {{ metric }}_upper
        ) as is_{{ metric }}_beyond_interval,
        {% endfor -%}
        estimated_accuracy,
        estimated_f1,
        estimated_auc,
        arrayStringConcat(
            arrayFilter(
                part -> part != '',
                [
                    if(prediction_count = 0, 'no_predictions', ''),
                    if(labeled_count = 0, 'no_labels', ifNull(statistics_reason, '')),
                    multiIf(
                        baseline_scope = 'none', 'no_baseline',
                        task = 'binary' and prediction_count > 0 and estimated_accuracy is null,
                        'no_estimate',
                        ''
                    )
                ]
            ),
            ','
        ) as reason,
        {{ run_version() }} as run_version
    from joined

)

select * from final
{%- endmacro %}
