{#- Post-hook of every model, before its run is recorded: rows that no row of this run has replaced although they
    are of something that was computed anew. A model names its macro for that, with arguments, as
    `meta={'vanished': [...]}`; a hook of its own would come after the ledger's, and a run that dies between
    them would leave such rows for good. -#}
{% macro remove_vanished() -%}
    {%- set vanished = model.config.get('meta', {}).get('vanished') -%}
    {%- if vanished -%}
        {{ context[vanished[0]](*vanished[1:]) }}
    {%- endif -%}
{%- endmacro %}
