{#- The q-value of each p-value in its family of tests (Benjamini & Hochberg 1995): the least
    p * tests / rank over this rank and the ones above. Null p-values are no tests: filter them first. -#}
{% macro benjamini_hochberg(p_value, family) -%}
    least(
        1.,
        min({{ p_value }} * tests_in_family / rank_in_family) over (
            partition by {{ family }} order by rank_in_family
            rows between current row and unbounded following
        )
    )
{%- endmacro %}
