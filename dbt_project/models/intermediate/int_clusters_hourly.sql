{#- Clusters do not add up over hours, so each hour holds a set of them, which is exact up to some ten
    thousand and a sketch beyond, whatever the order it is merged in. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='delete_insert',
    unique_key=['model_name', 'model_version', 'predicted_hour'],
    order_by='(model_name, model_version, predicted_hour, segment_key, segment_value)',
    meta={'vanished': ['delete_vanished_hours']},
) }}

with touched_hours as (

    {{ hours_to_recount() }}

),

clustered_models as (

    select model_name, cluster_key from {{ ref('models') }}
    where cluster_key != ''

),

segment_sets as (

    select * from {{ ref('int_segment_sets') }}

),

predictions as (

    select
        latest.model_name as model_name,
        latest.model_version as model_version,
        latest.predicted_hour as predicted_hour,
        latest.prediction_id as prediction_id,
        latest.number_features as number_features,
        latest.string_features as string_features,
        latest.boolean_features as boolean_features,
        latest.segments as segments,
        clustered_models.cluster_key as cluster_key,
        if(
            clustered_models.cluster_key = 'entity_id',
            latest.entity_id,
            JSONExtractRaw(latest.metadata, clustered_models.cluster_key)
        ) as own_value,
        segment_sets.segment_key_sets as segment_key_sets
    from {{ ref('int_predictions_latest') }} as latest
    inner join clustered_models on latest.model_name = clustered_models.model_name
    left join segment_sets on latest.model_name = segment_sets.model_name
    where
        (latest.model_name, latest.model_version, latest.predicted_hour) in (
            select touched_hours.model_name, touched_hours.model_version, touched_hours.predicted_hour
            from touched_hours
        )

),

clustered as (

    select
        model_name,
        model_version,
        predicted_hour,
        {{ segment_pairs('segments', 'segment_key_sets') }} as segment_pairs,
        {{ cluster_value('cluster_key', 'own_value') }} as cluster_value,
        -- A row without a value is a cluster of its own.
        sipHash64(cluster_value, if(cluster_value = '', prediction_id, '')) as cluster_id
    from predictions

),

counted as (

    select
        model_name,
        model_version,
        predicted_hour,
        segment_pair.1 as segment_key,
        segment_pair.2 as segment_value,
        count() as row_count,
        uniqCombined64State(cluster_id) as clusters
    from clustered
    array join segment_pairs as segment_pair
    group by model_name, model_version, predicted_hour, segment_key, segment_value

),

final as (

    select
        model_name,
        model_version,
        predicted_hour,
        segment_key,
        segment_value,
        row_count,
        clusters,
        {{ run_version() }} as run_version
    from counted

)

select * from final
