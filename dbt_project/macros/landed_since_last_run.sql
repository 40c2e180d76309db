{#- The moment from which raw rows are read: the start of the last completed run, less an overlap for
    inserts that were under way then and for clocks that differ. -#}
{% macro landed_since_last_run() -%}
    fromUnixTimestamp64Micro(toInt64({{ last_run_version() }}), 'UTC')
    - toIntervalMinute({{ var('landing_overlap_minutes') }})
{%- endmacro %}
