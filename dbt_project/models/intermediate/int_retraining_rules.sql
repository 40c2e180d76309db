{%- set remedies = {
    'duplicate_model': 'give every model one row',
    'unknown_model': 'name a model of models.csv',
    'unsupported_task': 'retrain models of the task binary only',
    'missing_positive_label': 'give the model a positive_label in models.csv',
    'missing_active_version': 'give the model an active_version in models.csv: the champion',
    'invalid_trainer': 'write the trainer as module:function',
    'unknown_monitor': 'name monitors of this model, joined by |, or none',
    'monitor_without_retrain': 'add retrain to the actions of these monitors in monitors.csv, or leave them out',
    'breaching_windows_not_positive': 'use 1 or more breaching_windows',
    'cooldown_not_positive': 'use 1 or more cooldown_hours, so that it cannot loop',
    'days_not_positive': 'use 1 or more training_days and evaluation_days',
    'too_few_evaluation_rows': 'use 30 or more minimum_evaluation_rows (of each class)',
    'unknown_metric': 'use auc or f1',
} -%}
{{ config(order_by='model_name') }}

-- The rows of retraining.csv, each with what is wrong with it.
with rules as (

    select
        *,
        arrayFilter(monitor_name -> monitor_name != '', splitByChar('|', monitors))
            as monitor_names,
        count() over (partition by model_name) as rules_of_model
    from {{ ref('retraining') }}

),

models as (

    select * from {{ ref('models') }}

),

known_monitors as (

    select
        model_name,
        groupUniqArray(monitor_name) as known_names,
        groupUniqArrayIf(monitor_name, position(actions, 'retrain') > 0) as retraining_names
    from {{ ref('int_monitor_rules') }}
    group by model_name

),

judged as (

    select
        rules.model_name as model_name,
        rules.trainer as trainer,
        rules.monitor_names as monitors,
        rules.breaching_windows as breaching_windows,
        rules.lookback_days as lookback_days,
        rules.cooldown_hours as cooldown_hours,
        rules.training_days as training_days,
        rules.evaluation_days as evaluation_days,
        rules.minimum_evaluation_rows as minimum_evaluation_rows,
        rules.metric as metric,
        multiIf(
            rules.rules_of_model > 1, 'duplicate_model',
            ifNull(models.model_name, '') = '', 'unknown_model',
            ifNull(models.task, '') != 'binary', 'unsupported_task',
            ifNull(models.positive_label, '') = '', 'missing_positive_label',
            ifNull(models.active_version, '') = '', 'missing_active_version',
            not match(rules.trainer, '^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$'),
            'invalid_trainer',
            not hasAll(known_monitors.known_names, rules.monitor_names), 'unknown_monitor',
            not hasAll(known_monitors.retraining_names, rules.monitor_names), 'monitor_without_retrain',
            rules.breaching_windows = 0, 'breaching_windows_not_positive',
            rules.cooldown_hours = 0, 'cooldown_not_positive',
            rules.training_days = 0 or rules.evaluation_days = 0, 'days_not_positive',
            -- Under 30 labels of a class an interval means nothing (docs/metrics.md).
            rules.minimum_evaluation_rows < 30, 'too_few_evaluation_rows',
            rules.metric not in ('auc', 'f1'), 'unknown_metric',
            ''
        ) as problem
    from rules
    left join models on rules.model_name = models.model_name
    left join known_monitors on rules.model_name = known_monitors.model_name

),

final as (

    select
        *,
        transform(
            problem,
            [
                {%- for name in remedies %}
                '{{ name }}'{{ ',' if not loop.last }}
                {%- endfor %}
            ],
            [
                {%- for remedy in remedies.values() %}
                '{{ remedy }}'{{ ',' if not loop.last }}
                {%- endfor %}
            ],
            ''
        ) as remedy
    from judged

)

select * from final
