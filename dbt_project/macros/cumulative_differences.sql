{#- How far the distribution of the window is ahead of the baseline's after each piece of the line that
    numeric bins lie on (int_feature_binning.pieces), from both vectors of counts and their sums over the
    bins that hold numbers of known size. Empty without pieces. -#}
{% macro cumulative_differences(pieces, baseline_counts, current_counts, baseline_sum, current_sum) -%}
    arrayCumSum(arrayMap(
        piece -> piece.2 * (
            {{ current_counts }}[piece.1] / {{ current_sum }}
            - {{ baseline_counts }}[piece.1] / {{ baseline_sum }}
        ),
        {{ pieces }}
    ))
{%- endmacro %}
