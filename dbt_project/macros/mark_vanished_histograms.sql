{#- For remove_vanished, beside append: a segment or feature that is gone from an hour which was counted anew is
    marked as deleted there. `predictions` names the table whose hours are counted. -#}
{% macro mark_vanished_histograms(predictions) -%}
    {%- if is_incremental() -%}
        {%- set key = [
            'baseline_id', 'model_name', 'model_version', 'predicted_hour', 'segment_key', 'segment_value',
            'feature_name',
        ] | join(', ') -%}
        insert into {{ this }} ({{ key }}, is_deleted, run_version)
        with active_baselines as (

            select baseline_id, model_name, model_version, registered_at, run_version
            from {{ ref('dim_baselines') }}
            where is_active = 1

        ),

        touched_hours as (

            {{ hours_to_count(predictions) }}

        )

        select {{ key }}, 1 as is_deleted, {{ run_version() }} as run_version
        from {{ this }} as stored final
        where
            stored.is_deleted = 0
            and stored.run_version < {{ run_version() }}
            and (model_name, model_version, predicted_hour) in (
                select model_name, model_version, predicted_hour from touched_hours
            )
            -- Counts under an older baseline stay what they are.
            and baseline_id in (
                select active_baselines.baseline_id from active_baselines
                union all
                select ''
            )
        {{ adapter.get_model_query_settings(model) }}
    {%- endif -%}
{%- endmacro %}
