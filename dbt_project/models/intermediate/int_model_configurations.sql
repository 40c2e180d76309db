{#- A changed seed must reach what was computed under the old one: a row is written when the part of a
    model's configuration that stored rows depend on is another than before. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='model_name',
) }}

{#- The post-hook writes to it; only the order of the models matters, and that is known from parsing. -#}
{%- if not execute -%} {%- do ref('int_run_ledger') -%} {%- endif -%}
with configured_models as (

    select model_name, task, positive_label, threshold, min_rows, cluster_key from {{ ref('models') }}

),

declared_features as (

    select
        model_name,
        arraySort(groupArray(toString((
            feature_name, type, ifNull(toString(min), ''), ifNull(toString(max), ''),
            ifNull(toString(nullable), ''), min_granularity
        )))) as declarations
    from {{ ref('features') }}
    group by model_name

),

model_names as (

    select model_name from configured_models
    union distinct
    select model_name from declared_features

),

segment_sets as (

    select model_name, segment_key_sets, hourly_segment_keys from {{ ref('int_segment_sets') }}

),

current_configurations as (

    select
        model_names.model_name as model_name,
        cityHash64(
            ifNull(configured_models.task, ''),
            ifNull(configured_models.positive_label, ''),
            ifNull(toString(configured_models.threshold), ''),
            ifNull(toString(configured_models.min_rows), ''),
            ifNull(configured_models.cluster_key, ''),
            segment_sets.segment_key_sets,
            segment_sets.hourly_segment_keys,
            declared_features.declarations
        ) as configuration_hash
    from model_names
    left join configured_models on model_names.model_name = configured_models.model_name
    left join segment_sets on model_names.model_name = segment_sets.model_name
    left join declared_features on model_names.model_name = declared_features.model_name

),

{% if is_incremental() %}
stored as (

    select model_name, argMax(configuration_hash, run_version) as configuration_hash
    from {{ this }}
    group by model_name

),

changed as (

    select model_name, configuration_hash
    from current_configurations
    where (model_name, configuration_hash) not in (
        select stored.model_name, stored.configuration_hash from stored
    )
    union all
    -- A model that is configured no longer.
    select stored.model_name as model_name, toUInt64(0) as configuration_hash
    from stored
    where
        stored.configuration_hash != 0
        and stored.model_name not in (
            select current_configurations.model_name from current_configurations
        )

),
{% else %}
changed as (

    select model_name, configuration_hash from current_configurations

),
{% endif %}

final as (

    select
        model_name,
        assumeNotNull(configuration_hash) as configuration_hash,
        {{ run_version() }} as run_version
    from changed

)

select * from final
