{#- The (model_name, model_version, window_start) whose drift is not what it would be now: touched ones, and
    those that were still open at their last computation and are over by now. -#}
{% macro changed_drift_windows(granularity) -%}
    {{ touched_windows(granularity) }}
    {#- While parsing, every reference counts. -#}
    {%- if not execute or is_incremental() %}
    union distinct
    select distinct model_name, model_version, window_start
    from {{ this }}
    where reason = 'window_open' and window_end <= {{ as_of() }}
    {%- endif %}
{%- endmacro %}
