{#- Whether a bin's expected count on the smaller side is under 5: the chi-squared approximation of the test
    needs that many. Both counts together decide: without drift their sum says nothing about how it is
    divided, while a baseline's count alone is high, by chance, more often in the bins that it lets pass.
    Where the baseline was cut at its own deciles its counts are no chance, and they decide. -#}
{% macro is_rare_bin(pair, baseline_count, current_count, smaller_count) -%}
    if(
        {{ pair }}.3,
        {{ pair }}.1 * {{ smaller_count }} < 5 * {{ baseline_count }},
        ({{ pair }}.1 + {{ pair }}.2) * {{ smaller_count }}
        < 5 * ({{ baseline_count }} + {{ current_count }})
    )
{%- endmacro %}
