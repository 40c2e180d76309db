{#- Stops a test with one line for each wrong row of the configuration: its file and name, what is wrong and
    the remedy. `problems` is a query of them, with the columns of int_configuration_problems. -#}
{% macro raise_invalid_configuration(problems) -%}
    {%- if execute and flags.WHICH in ('build', 'test') -%}
        {%- set messages = [] -%}
        {%- for row in run_query(problems).rows -%}
            {%- do messages.append(row.file_name ~ ", '" ~ row.row_name ~ "': " ~ row.problem) -%}
        {%- endfor -%}
        {%- if messages -%}
            {{ exceptions.raise_compiler_error(messages | join('\n')) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
