{#- The baseline_id of baselines whose bins and counts are not what they would be now: their rows came, or
    their model is configured otherwise. -#}
{% macro baselines_to_recount() -%}
    select baseline_id from {{ ref('int_baseline_rows') }}
    where run_version > {{ last_run_version() }}
    {#- While parsing, every reference counts. -#}
    {%- if not execute or is_incremental() %}
    union distinct
    select baseline_id from {{ ref('stg_raw__baselines') }}
    where model_name in (
        select changed.model_name from {{ ref('int_model_configurations') }} as changed
        where changed.run_version > {{ last_run_version() }}
    )
    {%- endif %}
{%- endmacro %}
