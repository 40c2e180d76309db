{#- Of baseline rows that have times, and of the segments that have hourly marts only: what the baseline's
    own hours differ by. -#}
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
        {{ window_start('assumeNotNull(predicted_at)', 'hour') }} as bucket,
        arrayFilter(
            pair -> {{ is_hourly_segment('model_name', 'pair.1') }}, segment_pairs
        ) as segment_pairs,
        entries
    from {{ ref('int_baseline_entries') }}
    where
        predicted_at is not null
        and baseline_id in (
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
