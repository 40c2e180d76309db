{#- Sum of (q - p) ln(q / p) over an Array(Tuple(p, q)) of shares: both Kullback-Leibler divergences. -#}
{% macro population_stability_index(shares) -%}
    arraySum(share -> (share.2 - share.1) * log(share.2 / share.1), {{ shares }})
{%- endmacro %}
