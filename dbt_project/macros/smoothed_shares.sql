{#- From pairs of counts of the bins kept and both sums, the shares (p of the baseline, q of the window).
    Half a count is added to each bin, so that an empty bin has a finite divergence. -#}
{% macro smoothed_shares(kept, baseline_count, current_count) -%}
    arrayMap(
        pair -> (
            (pair.1 + 0.5) / ({{ baseline_count }} + 0.5 * length({{ kept }})),
            (pair.2 + 0.5) / ({{ current_count }} + 0.5 * length({{ kept }}))
        ),
        {{ kept }}
    )
{%- endmacro %}
