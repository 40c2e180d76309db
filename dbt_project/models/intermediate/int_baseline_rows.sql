{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='(baseline_id, row_number)',
) }}

{#- The post-hook writes to it; only the order of the models matters, and that is known from parsing. -#}
{%- if not execute -%} {%- do ref('int_run_ledger') -%} {%- endif -%}
with baselines as (

    select * from {{ ref('stg_raw__baselines') }}

),

{% if is_incremental() %}
stored as (

    select baseline_id, uniqExact(row_number) as stored_row_count
    from {{ this }}
    group by baseline_id

),

-- A baseline whose rows were written in part, by a run that died, is written again.
incomplete as (

    select baselines.baseline_id as baseline_id
    from baselines
    left join stored on baselines.baseline_id = stored.baseline_id
    where ifNull(stored.stored_row_count, 0) < baselines.row_count

),
{% else %}
incomplete as (

    select baseline_id from baselines

),
{% endif %}

final as (

    select
        baseline_id,
        row_number,
        number_features,
        string_features,
        boolean_features,
        null_features,
        invalid_features,
        score,
        predicted_value,
        predicted_label,
        class_scores,
        label,
        label_number,
        segments,
        predicted_at,
        {{ run_version() }} as run_version
    from {{ ref('stg_raw__baseline_rows') }}
    where baseline_id in (select incomplete.baseline_id from incomplete)
    order by row_number
    limit 1 by baseline_id, row_number

)

select * from final
