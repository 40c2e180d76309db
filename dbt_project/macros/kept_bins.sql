{#- The pairs of counts (baseline, window) of the bins that are not empty on both sides. The third of a pair
    says whether the bin is one of the first `decile_bins`, which the baseline itself was cut into. -#}
{% macro kept_bins(baseline_counts, current_counts, decile_bins='0') -%}
    arrayFilter(
        pair -> pair.1 + pair.2 > 0,
        arrayZip(
            {{ baseline_counts }},
            {{ current_counts }},
            arrayMap(bin -> bin <= {{ decile_bins }}, arrayEnumerate({{ baseline_counts }}))
        )
    )
{%- endmacro %}
