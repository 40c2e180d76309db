{{ config(order_by='model_name') }}

with configured_models as (

    select * from {{ ref('models') }}

),

monthly as (

    select * from {{ ref('fct_service_monthly') }}
    where segment_key = 'all' and prediction_count > 0

),

served as (

    select
        model_name,
        arraySort(groupUniqArray(model_version)) as model_versions,
        sum(monthly.prediction_count) as prediction_count,
        min(monthly.first_predicted_at) as first_predicted_at,
        max(monthly.last_predicted_at) as last_predicted_at
    from monthly
    group by model_name

),

model_names as (

    select model_name from configured_models
    union distinct
    select model_name from served

),

final as (

    select
        toLowCardinality(model_names.model_name) as model_name,
        toUInt8(configured_models.model_name is not null) as is_configured,
        ifNull(configured_models.task, '') as task,
        ifNull(configured_models.positive_label, '') as positive_label,
        configured_models.threshold as threshold,
        ifNull(configured_models.active_version, '') as active_version,
        configured_models.label_maturity_hours as label_maturity_hours,
        ifNull(configured_models.min_rows, {{ var('default_min_rows') }}) as min_rows,
        ifNull(
            configured_models.incidents_per_week, {{ var('default_incidents_per_week') }}
        ) as incidents_per_week,
        ifNull(configured_models.cluster_key, '') as cluster_key,
        ifNull(configured_models.owner, '') as owner,
        ifNull(configured_models.runbook_url, '') as runbook_url,
        served.model_versions as model_versions,
        toUInt64(ifNull(served.prediction_count, 0)) as prediction_count,
        served.first_predicted_at as first_predicted_at,
        served.last_predicted_at as last_predicted_at
    from model_names
    left join configured_models on model_names.model_name = configured_models.model_name
    left join served on model_names.model_name = served.model_name

)

select * from final
