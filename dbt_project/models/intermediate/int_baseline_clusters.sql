{#- Only of baselines whose rows have the key: one that lacks it says nothing of its clusters. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='(baseline_id, segment_key, segment_value)',
) }}

{% if is_up_to_date(baselines_to_recount()) -%}
select * from {{ this }} where false
{%- else -%}
with recounted as (

    {{ baselines_to_recount() }}

),

clustered_models as (

    select model_name, cluster_key from {{ ref('models') }}
    where cluster_key != ''

),

baselines as (

    select baseline_id, model_name from {{ ref('stg_raw__baselines') }}

),

segment_sets as (

    select * from {{ ref('int_segment_sets') }}

),

baseline_rows as (

    select
        latest.baseline_id as baseline_id,
        latest.row_number as row_number,
        latest.number_features as number_features,
        latest.string_features as string_features,
        latest.boolean_features as boolean_features,
        latest.segments as segments,
        clustered_models.cluster_key as cluster_key,
        segment_sets.segment_key_sets as segment_key_sets
    from {{ ref('int_baseline_rows_latest') }} as latest
    inner join baselines on latest.baseline_id = baselines.baseline_id
    inner join clustered_models on baselines.model_name = clustered_models.model_name
    left join segment_sets on baselines.model_name = segment_sets.model_name
    where latest.baseline_id in (select recounted.baseline_id from recounted)

),

clustered as (

    select
        baseline_id,
        {{ segment_pairs('segments', 'segment_key_sets') }} as segment_pairs,
        {{ cluster_value('cluster_key') }} as cluster_value,
        sipHash64(cluster_value, if(cluster_value = '', toString(row_number), '')) as cluster_id,
        cluster_value != '' as has_cluster,
        max(has_cluster) over (partition by baseline_id) as has_clusters
    from baseline_rows

),

final as (

    select
        baseline_id,
        segment_pair.1 as segment_key,
        segment_pair.2 as segment_value,
        count() as row_count,
        uniqCombined64State(cluster_id) as clusters,
        {{ run_version() }} as run_version
    from clustered
    array join segment_pairs as segment_pair
    where has_clusters
    group by baseline_id, segment_key, segment_value
    union all
    -- A mark, so that a baseline has no clusters any more when its model has no key any more.
    select
        baseline_id,
        '' as segment_key,
        '' as segment_value,
        toUInt64(0) as row_count,
        arrayReduce('uniqCombined64State', emptyArrayUInt64()) as clusters,
        {{ run_version() }} as run_version
    from recounted

)

select * from final
{%- endif %}
