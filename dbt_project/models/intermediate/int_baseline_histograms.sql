{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='(baseline_id, segment_key, segment_value, feature_name)',
) }}

{% set recounted_baselines -%}
select baseline_id from {{ ref('int_baseline_histograms_daily') }} where run_version > {{ last_run_version() }}
{%- endset %}
{% if is_up_to_date(recounted_baselines) -%}
select * from {{ this }} where false
{%- else -%}
with daily as (

    select * from {{ ref('int_baseline_histograms_daily_latest') }}
    where run_version > {{ last_run_version() }}

),

summed as (

    select
        baseline_id,
        segment_key,
        segment_value,
        feature_name,
        {{ histogram_columns(merge=true) }}
    from daily
    group by baseline_id, segment_key, segment_value, feature_name

),

final as (

    select
        baseline_id,
        segment_key,
        segment_value,
        feature_name,
        {{ histogram_columns() }},
        {{ run_version() }} as run_version
    from summed

)

select * from final
{%- endif %}
