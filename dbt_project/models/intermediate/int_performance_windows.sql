{{ config(materialized='view') }}

-- What the three performance marts say of a row that finer marts show in parts: its status, and the group of
-- the baseline that it stands beside.
with unioned as (

    {% for granularity, suffix in {'day': 'daily', 'week': 'weekly', 'month': 'monthly'}.items() -%}
    {% if not loop.first -%}
    union all
    {% endif -%}
    select
        '{{ granularity }}' as granularity,
        model_name,
        model_version,
        segment_key,
        segment_value,
        window_start,
        window_end,
        task,
        status,
        baseline_id,
        baseline_scope
    from {{ ref('fct_model_performance_' ~ suffix) }}
    {% endfor %}

),

final as (

    select
        toLowCardinality(granularity) as granularity,
        model_name,
        model_version,
        segment_key,
        segment_value,
        window_start,
        window_end,
        task,
        status,
        baseline_id,
        baseline_scope,
        if(baseline_scope = 'segment', toString(segment_key), 'all') as compared_segment_key,
        if(baseline_scope = 'segment', toString(segment_value), 'all') as compared_segment_value
    from unioned

)

select * from final
