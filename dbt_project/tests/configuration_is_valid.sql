{#- A row of the configuration that cannot mean what it says is an error with its file, name and the remedy.
    Nothing is built on it, so one wrong row skips nothing. -#}
{%- set problems -%}
select *
from {{ ref('int_configuration_problems') }}
order by file_name, row_name, problem
{%- endset -%}
{{ raise_invalid_configuration(problems) }}
{{ problems }}
