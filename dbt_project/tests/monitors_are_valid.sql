{#- A rule of monitors.csv that can never be evaluated is an error with its name and the remedy. It is in
    fct_breaches too, as not evaluated. A test of that model, which nothing is built on, keeps one wrong
    rule from skipping the others. -#}
{%- set invalid_rules -%}
select *
from {{ ref('int_monitor_rules') }}
where problem != ''
order by monitor_name, problem
{%- endset -%}
{{ raise_invalid_monitors(invalid_rules) }}
-- depends_on: {{ ref('fct_breaches') }}
{{ invalid_rules }}
