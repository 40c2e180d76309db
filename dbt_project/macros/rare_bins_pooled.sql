{#- The kept bins with those pooled into one whose expected count in the window is under 5: the chi-squared
    approximation of the test needs that many. The baseline and the window's size decide, not its counts. -#}
{% macro rare_bins_pooled(kept, baseline_count, current_count) -%}
    arrayConcat(
        arrayFilter(
            pair -> pair.1 * {{ current_count }} >= 5 * {{ baseline_count }}, {{ kept }}
        ),
        if(
            arrayExists(pair -> pair.1 * {{ current_count }} < 5 * {{ baseline_count }}, {{ kept }}),
            [(
                arraySum(pair -> if(
                    pair.1 * {{ current_count }} < 5 * {{ baseline_count }}, pair.1, 0
                ), {{ kept }}),
                arraySum(pair -> if(
                    pair.1 * {{ current_count }} < 5 * {{ baseline_count }}, pair.2, 0
                ), {{ kept }})
            )],
            []
        )
    )
{%- endmacro %}
