{#- A row of retraining.csv that cannot be used is an error with its model and the remedy. -#}
{%- set problems -%}
select
    'retraining.csv' as file_name,
    model_name as row_name,
    concat(replaceAll(problem, '_', ' '), ': ', remedy) as problem
from {{ ref('int_retraining_rules') }} as rules
where rules.problem != ''
order by row_name, problem
{%- endset -%}
{{ raise_invalid_configuration(problems) }}
{{ problems }}
