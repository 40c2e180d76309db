{#- Stops a test with one line for each rule of monitors.csv that can never be evaluated: its name, what is
    wrong, its columns and the remedy. `invalid_rules` is a query of them, with the columns of
    int_monitor_rules. -#}
{% macro raise_invalid_monitors(invalid_rules) -%}
    {%- if execute and flags.WHICH in ('build', 'test') -%}
        {%- set messages = [] -%}
        {%- for rule in run_query(invalid_rules).rows -%}
            {%- do messages.append(
                "monitors.csv, '" ~ rule.monitor_name ~ "': " ~ rule.problem | replace('_', ' ')
                ~ ' (' ~ rule.declaration ~ '): ' ~ rule.remedy
            ) -%}
        {%- endfor -%}
        {%- if messages -%}
            {{ exceptions.raise_compiler_error(messages | join('\n')) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
