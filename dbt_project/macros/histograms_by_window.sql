{#- Histograms of features with the window of a granularity that each belongs to (`window_of_row`): days are
    summed to weeks and months. Hours are those of everyone, and of the sets that segment_sets.csv gives
    hours to. -#}
{% macro histograms_by_window(granularity) -%}
    {%- if granularity == 'hour' -%}
    select *, predicted_hour as window_of_row
    from {{ ref('int_feature_histograms_hourly_latest') }}
    where {{ is_hourly_segment('model_name', 'segment_key') }}
    {%- else -%}
    select *, {{ window_start('window_start', granularity) }} as window_of_row
    from {{ ref('int_feature_histograms_daily') }}
    {%- endif -%}
{%- endmacro %}
