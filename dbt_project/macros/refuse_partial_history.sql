{#- Hook at the start of a run: stops a full refresh of a model that reads raw events, before anything is dropped,
    where raw no longer has rows that the archive has. var('allow_partial_history') lets it go on. -#}
{% macro refuse_partial_history() -%}
    {%- if execute and flags.FULL_REFRESH and not var('allow_partial_history') -%}
        {%- set refreshed = [] -%}
        {%- for id in selected_resources if id in graph.nodes -%}
            {%- set node = graph.nodes[id] -%}
            {#- What every run makes anew has no history. -#}
            {%- set keeps_history = node.config.materialized == 'incremental' and not node.config.full_refresh -%}
            {%- for parent in node.depends_on.nodes if keeps_history -%}
                {%- if parent in (
                    'model.driftline.stg_raw__prediction_events',
                    'model.driftline.stg_raw__label_events',
                    'model.driftline.stg_raw__messages',
                ) -%}
                    {%- do refreshed.append(node.name) -%}
                {%- endif -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- set manifest = source('raw', 'archive_manifest') -%}
        {%- if refreshed and adapter.get_relation('', manifest.schema, manifest.identifier) -%}
            {%- for row in run_query(expired_days()).rows -%}
                {%- if row.object_count -%}
                    {{ exceptions.raise_compiler_error(
                        'a full refresh of ' ~ (refreshed | unique | sort | join(', '))
                        ~ ' would lose history: raw lacks rows of ' ~ row.object_count
                        ~ ' archived objects, of the days ' ~ row.first_day ~ ' to ' ~ row.last_day
                        ~ '. Nothing was dropped. Bring them back first: driftline archive restore --from '
                        ~ row.first_day ~ ' --to ' ~ row.last_day
                        ~ "; or do without them: --vars '{allow_partial_history: true}'"
                    ) }}
                {%- endif -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
