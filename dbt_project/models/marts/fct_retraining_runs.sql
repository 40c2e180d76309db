{#- Figure of a run → column. -#}
{%- set figures = {} -%}
{%- for metric in ('auc', 'f1') -%}
    {%- for suffix in ('', '_lower', '_upper') -%}
        {%- do figures.update({
            'champion_' ~ metric ~ suffix: 'champion_' ~ metric ~ suffix,
            'challenger_' ~ metric ~ suffix: 'challenger_' ~ metric ~ suffix,
            'difference_' ~ metric ~ suffix: metric ~ '_difference' ~ suffix,
        }) -%}
    {%- endfor -%}
{%- endfor -%}
{{ config(order_by='(model_name, run_id)') }}

with runs as (

    select * from {{ ref('stg_raw__retraining_runs') }}

),

-- The figures of a run that came to no comparison are not there, and so null.
final as (

    select
        run_id,
        model_name,
        status,
        reason,
        trigger,
        breach_ids,
        trainer,
        metric,
        champion_version,
        challenger_version,
        as_of,
        training_from,
        cut_off,
        evaluation_until,
        training_row_count,
        evaluation_row_count,
        evaluation_positive_count,
        {%- for figure, column in figures.items() %}
        if(mapContains(figures, '{{ figure }}'), figures['{{ figure }}'], null) as {{ column }},
        {%- endfor %}
        challenger_threshold,
        baseline_id,
        artefact,
        started_at,
        ended_at,
        dateDiff('millisecond', started_at, ended_at) / 1000 as duration_seconds
    from runs

)

select * from final
