{#- The chance that a chi-squared variable with a whole number of degrees of freedom (>= 1) exceeds x >= 0.
    Closed form, in log space: erfc(sqrt(x/2)) for odd degrees, plus a finite sum of
    exp(-x/2) (x/2)^s / Gamma(s + 1) (Abramowitz & Stegun 26.4.4 and 26.4.5). -#}
{% macro chi_squared_survival(x, degrees) -%}
    if(
        {{ x }} <= 0,
        1.,
        least(1., if({{ degrees }} % 2 = 1, erfc(sqrt({{ x }} / 2)), 0.) + arraySum(
            step -> exp(
                -{{ x }} / 2
                + (step + ({{ degrees }} % 2) / 2) * log({{ x }} / 2)
                - lgamma(step + ({{ degrees }} % 2) / 2 + 1)
            ),
            range(toUInt32(intDiv({{ degrees }}, 2)))
        ))
    )
{%- endmacro %}
