{{ config(order_by='(model_name, model_version, baseline_id, feature_name)') }}

with binning as (

    select * from {{ ref('int_feature_binning_latest') }}

),

baselines as (

    select * from {{ ref('dim_baselines') }}

),

final as (

    select
        toLowCardinality(baselines.model_name) as model_name,
        toLowCardinality(baselines.model_version) as model_version,
        toLowCardinality(binning.baseline_id) as baseline_id,
        baselines.is_active as is_active,
        toLowCardinality(binning.feature_name) as feature_name,
        toUInt8(binning.feature_name in ('__score__', '__prediction__')) as is_model_output,
        ifNull(binning.feature_type, '') as feature_type,
        binning.importance as importance,
        binning.min_value as min_value,
        binning.max_value as max_value,
        binning.declared_nullable as is_nullable,
        binning.min_granularity as min_granularity,
        binning.distinct_count as distinct_count,
        binning.bin_count as bin_count,
        binning.mean as mean,
        binning.standard_deviation as standard_deviation
    from binning
    inner join baselines on binning.baseline_id = baselines.baseline_id

)

select * from final
