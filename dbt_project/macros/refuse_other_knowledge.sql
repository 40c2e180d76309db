{#- Hook at the start of a run: what was known at one moment is a database of its own. Tables that go on from run
    to run cannot forget what they know, nor learn what landed in between. The ledger says what they know. -#}
{% macro refuse_other_knowledge() -%}
    {%- if execute and flags.WHICH in ('build', 'run') -%}
        {%- set ledger = adapter.get_relation('', target.schema, 'int_run_ledger') -%}
        {%- if ledger -%}
            {%- set known_at = var('known_at', none) -%}
            {%- set found = run_query(
                'select toUInt8(count() > 0) as has_run, maxIf(run_version, model_name = \'known_at\') as known, '
                ~ known_at_version() ~ ' as wanted from ' ~ ledger
            ).rows[0] -%}
            {%- if found.has_run and found.known != found.wanted -%}
                {{ exceptions.raise_compiler_error(
                    'known_at builds what was known at one moment in a database of its own, and '
                    ~ target.schema ~ ' was built ' ~ (
                        'as of another (' ~ found.known ~ ' microseconds since 1970)' if found.known
                        else 'from all that had landed'
                    ) ~ '. Nothing was changed. Name another database in CLICKHOUSE_DATABASE, or '
                    ~ ('give the same known_at again' if found.known else 'leave known_at out')
                ) }}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
