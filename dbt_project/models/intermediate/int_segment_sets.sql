{{ config(materialized='view') }}

with configured_models as (

    select model_name from {{ ref('models') }}

),

declared as (

    select
        model_name,
        groupUniqArrayIf(splitByChar('|', segment_key), segment_key not in ('', 'all')) as key_sets,
        groupUniqArrayIf(segment_key, min_granularity = 'hour') as hourly_keys
    from {{ ref('segment_sets') }}
    group by model_name

),

final as (

    select
        configured_models.model_name as model_name,
        arraySort(declared.key_sets) as segment_key_sets,
        arraySort(declared.hourly_keys) as hourly_segment_keys
    from configured_models
    left join declared on configured_models.model_name = declared.model_name

)

select * from final
