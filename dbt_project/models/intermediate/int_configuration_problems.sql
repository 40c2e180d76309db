{{ config(materialized='view') }}

-- Every row of models.csv, features.csv, segment_sets.csv and mutes.csv that cannot mean what it says.
with configured_models as (

    select * from {{ ref('models') }}

),

declared_features as (

    select * from {{ ref('features') }}

),

declared_sets as (

    select * from {{ ref('segment_sets') }}

),

mutes as (

    select * from {{ ref('int_monitor_mutes') }}

),

model_problems as (

    select
        'models.csv' as file_name,
        model_name as row_name,
        multiIf(
            model_name = '', 'it has no model_name: give it one',
            count() over (partition by model_name) > 1, 'model_name stands there twice: keep one row',
            task not in ('binary', 'multiclass', 'regression'),
            concat('task ', task, ' is unknown: use binary, multiclass or regression'),
            task = 'binary' and positive_label = '',
            'a binary model needs a positive_label: give the label of the positive class',
            threshold is not null and not ifNull(threshold between 0 and 1, 0),
            concat('threshold ', toString(threshold), ' is not between 0 and 1: give a score'),
            ''
        ) as problem
    from configured_models

),

feature_problems as (

    select
        'features.csv' as file_name,
        concat(model_name, '.', feature_name) as row_name,
        multiIf(
            model_name = '' or feature_name = '', 'model_name or feature_name is empty: give both',
            count() over (partition by model_name, feature_name) > 1,
            'feature_name stands there twice: keep one row',
            type not in ('', 'numeric', 'categorical', 'boolean'),
            concat('type ', type, ' is unknown: use numeric, categorical or boolean, or leave it empty'),
            ifNull(min > max, 0),
            concat('min ', toString(min), ' is greater than max ', toString(max), ': exchange them'),
            nullable not in (0, 1), 'nullable is neither 0 nor 1: use one of them, or leave it empty',
            min_granularity not in ('', 'hour', 'day', 'week', 'month'),
            concat('min_granularity ', min_granularity, ' is unknown: use hour, day, week or month'),
            ''
        ) as problem
    from declared_features

),

segment_set_problems as (

    select
        'segment_sets.csv' as file_name,
        concat(model_name, ': ', segment_key) as row_name,
        splitByChar('|', segment_key) as segment_keys,
        multiIf(
            model_name not in (select configured_models.model_name from configured_models),
            'model_name is not in models.csv, so the set has no effect: add it there, or remove the row',
            segment_key in ('', 'all'), 'segment_key names everyone, who is always there: remove the row',
            has(segment_keys, ''), 'segment_key has an empty key: write keys with one | between them',
            length(segment_keys) != length(arrayDistinct(segment_keys)),
            'segment_key has a key twice: keep one',
            count() over (partition by model_name, segment_key) > 1,
            'segment_key stands there twice: keep one row',
            min_granularity not in ('', 'hour', 'day'),
            concat('min_granularity ', min_granularity, ' is unknown: use hour or day, or leave it empty'),
            ''
        ) as problem
    from declared_sets

),

unioned as (

    select file_name, row_name, problem from model_problems
    union all
    select file_name, row_name, problem from feature_problems
    union all
    select file_name, row_name, problem from segment_set_problems
    union all
    select 'mutes.csv' as file_name, row_name, problem from mutes

),

final as (

    select file_name, row_name, assumeNotNull(problem) as problem
    from unioned
    where problem != ''

)

select * from final
