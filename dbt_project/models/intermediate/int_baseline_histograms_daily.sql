{#- Baseline rows counted under their own bins: by day where they have times, else in one bucket
    at the epoch. The whole baseline is the sum of its days. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='(baseline_id, segment_key, segment_value, feature_name, window_start)',
    query_settings={'optimize_on_insert': 0},
) }}

{% if is_up_to_date(baselines_to_recount()) -%}
select * from {{ this }} where false
{%- else -%}
with entries as (

    select
        baseline_id,
        model_name,
        model_version,
        if(
            predicted_at is null,
            toDateTime(0, 'UTC'),
            {{ window_start('assumeNotNull(predicted_at)', 'day') }}
        ) as bucket,
        segment_pairs,
        entries
    from {{ ref('int_baseline_entries') }}
    where baseline_id in (
        {{ baselines_to_recount() }}
    )

),

{{ feature_histograms('entries', ref('int_feature_binning_latest')) }},

final as (

    select
        baseline_id,
        model_name,
        model_version,
        bucket as window_start,
        segment_key,
        segment_value,
        feature_name,
        {{ histogram_columns() }},
        {{ run_version() }} as run_version
    from histograms

)

select * from final
{%- endif %}
