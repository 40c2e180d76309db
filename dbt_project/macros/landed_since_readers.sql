{#- The moment since which events have landed that one of `readers` may not have read: the start of the last run
    that made this model and was followed by a completed run of each of them, less the overlap. A reader that is
    not there yet will read all raw events by itself; where none is there, nothing is given. -#}
{% macro landed_since_readers(readers) -%}
    {%- set ledger = ref('int_run_ledger') -%}
    {%- set last_versions = [] -%}
    {%- if execute -%}
        {%- for reader in readers -%}
            {%- if load_cached_relation(this.incorporate(path={'identifier': reader})) is not none -%}
                {%- do last_versions.append(last_version_of(reader, ledger)) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if last_versions -%}
        {#- Where this model was never made before, the readers had read raw events themselves. -#}
        {%- set version = run_query(
            'with arrayMin([' ~ last_versions | join(', ') ~ ']) as read_version '
            'select if(count() = 0, read_version, max(run_version)) from ' ~ ledger ~
            " where model_name = '" ~ this.identifier ~ "' and run_version <= read_version"
        ).rows[0][0] -%}
        fromUnixTimestamp64Micro(toInt64({{ version | int }}), 'UTC')
        - toIntervalMinute({{ var('landing_overlap_minutes') }})
    {%- elif not execute -%}
        now64(6, 'UTC')
    {%- endif -%}
{%- endmacro %}

{% macro last_version_of(model_name, ledger) -%}
    (
        select max(run_version) from {{ ledger }}
        where model_name = '{{ model_name }}' and run_version < {{ run_version() }}
    )
{%- endmacro %}
