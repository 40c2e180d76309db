{#- What a monitor can watch: for each mart, metric → (expression of its value, expression of the rows it
    stands on, which is what min_rows is compared with). -#}
{% macro monitored_metrics() -%}
    {%- set metrics = {
        'feature_drift': {}, 'data_quality': {}, 'model_performance': {}, 'service': {}, 'rejects': {},
    } -%}
    {%- for name in [
        'psi', 'psi_debiased', 'kl_current_baseline', 'kl_baseline_current', 'js_distance', 'hellinger',
        'tv_distance', 'ks_binned', 'wasserstein_binned',
    ] -%}
        {%- do metrics['feature_drift'].update({name: (name, 'current_count')}) -%}
    {%- endfor -%}
    {%- for name in [
        'null_rate', 'missing_rate', 'type_mismatch_rate', 'non_finite_rate', 'below_min_rate',
        'above_max_rate', 'unseen_rate', 'zero_rate', 'mean', 'standard_deviation',
        'p05', 'p25', 'p50', 'p75', 'p95',
    ] -%}
        {%- do metrics['data_quality'].update({name: (name, 'row_count')}) -%}
    {%- endfor -%}
    {%- do metrics['data_quality'].update(
        {'out_of_range_rate': ('below_min_rate + above_max_rate', 'row_count')}
    ) -%}
    {%- for name in [
        'accuracy', 'precision', 'recall', 'f1', 'auc', 'pr_auc', 'log_loss', 'brier', 'ece', 'prevalence',
        'macro_f1', 'weighted_f1', 'macro_auc', 'mae', 'rmse', 'mape', 'r2', 'bias',
    ] -%}
        {%- do metrics['model_performance'].update({name: (name, 'labeled_count')}) -%}
    {%- endfor -%}
    {%- for name in ['label_coverage', 'estimated_accuracy', 'estimated_f1', 'estimated_auc'] -%}
        {%- do metrics['model_performance'].update({name: (name, 'prediction_count')}) -%}
    {%- endfor -%}
    {%- for name in ['prediction_count', 'rate_per_second', 'error_rate', 'version_share'] -%}
        {%- do metrics['service'].update({name: (name, 'prediction_count')}) -%}
    {%- endfor -%}
    {#- Of a window without predictions its whole length is known to be silent. -#}
    {%- do metrics['service'].update({'freshness_seconds': (
        "dateDiff('second', ifNull(facts.last_predicted_at, facts.window_start), facts.window_end)",
        'prediction_count',
    )}) -%}
    {%- for name in ['latency_mean_ms', 'latency_p50_ms', 'latency_p95_ms', 'latency_p99_ms'] -%}
        {%- do metrics['service'].update({name: (name, 'latency_count')}) -%}
    {%- endfor -%}
    {#- Of topics, not of models: an event that is rejected may name none. -#}
    {%- do metrics['rejects'].update({
        'reject_rate': ('reject_rate', 'event_count'),
        'reject_run': ('longest_reject_run', 'event_count'),
    }) -%}
    {{- return(metrics) -}}
{%- endmacro %}
