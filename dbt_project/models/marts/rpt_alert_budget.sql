{{ config(order_by='(model_name, week_start, monitor_name)') }}

-- How many incidents each rule opened in each week, beside what the model's people can take seriously.
with found as (

    select * from {{ ref('int_breaches_found') }}
    where status in ('open', 'resolved')

),

-- They rang, too.
retracted as (

    select * from {{ ref('int_breaches_reported_latest') }}
    where is_retracted

),

models as (

    select model_name, incidents_per_week from {{ ref('dim_models') }}

),

unioned as (

    select model_name, monitor_name, severity, opened_at, 0 as is_retracted from found
    union all
    select model_name, monitor_name, severity, opened_at, 1 as is_retracted from retracted

),

counted as (

    select
        model_name,
        monitor_name,
        max(severity = 'error') as has_error,
        {{ window_start('assumeNotNull(opened_at)', 'week') }} as week_start,
        count() as incident_count,
        sum(is_retracted) as retracted_count
    from unioned
    group by model_name, monitor_name, week_start

),

summed as (

    select
        *,
        sum(incident_count) over (partition by model_name, week_start) as model_incident_count
    from counted

),

final as (

    select
        toLowCardinality(summed.model_name) as model_name,
        summed.week_start as week_start,
        toLowCardinality(summed.monitor_name) as monitor_name,
        if(summed.has_error, 'error', 'warn') as severity,
        toUInt32(summed.incident_count) as incident_count,
        toUInt32(summed.retracted_count) as retracted_count,
        toUInt32(summed.model_incident_count) as model_incident_count,
        -- Rules about topics belong to no model.
        toUInt32(ifNull(
            models.incidents_per_week, {{ var('default_incidents_per_week') }}
        )) as incidents_per_week,
        toUInt8(summed.model_incident_count > incidents_per_week) as is_over_budget,
        toUInt8(row_number() over (
            partition by summed.model_name, summed.week_start
            order by summed.incident_count desc, summed.monitor_name asc
        )) as rank_in_week
    from summed
    left join models on summed.model_name = models.model_name

)

select * from final
