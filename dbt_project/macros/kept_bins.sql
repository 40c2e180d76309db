{#- The pairs of counts (baseline, window) of the bins that are not empty on both sides. -#}
{% macro kept_bins(baseline_counts, current_counts) -%}
    arrayFilter(
        pair -> pair.1 + pair.2 > 0, arrayZip({{ baseline_counts }}, {{ current_counts }})
    )
{%- endmacro %}
