{#- The kept bins with the rare ones (is_rare_bin) pooled into one. `smaller_count` is the number of rows on
    the side that has fewer. -#}
{% macro rare_bins_pooled(kept, baseline_count, current_count, smaller_count) -%}
    {%- set is_rare = is_rare_bin('pair', baseline_count, current_count, smaller_count) -%}
    arrayConcat(
        arrayFilter(pair -> not {{ is_rare }}, {{ kept }}),
        if(
            arrayExists(pair -> {{ is_rare }}, {{ kept }}),
            [(
                arraySum(pair -> if({{ is_rare }}, pair.1, 0), {{ kept }}),
                arraySum(pair -> if({{ is_rare }}, pair.2, 0), {{ kept }}),
                0
            )],
            []
        )
    )
{%- endmacro %}
