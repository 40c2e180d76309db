from dbt_project.python.performance import group_statistics


def model(dbt, session):
    dbt.config(
        materialized="incremental",
        incremental_strategy="delete_insert",
        unique_key=[
            "baseline_id",
            "model_name",
            "model_version",
            "granularity",
            "window_start",
            "segment_key",
            "segment_value",
        ],
        order_by=(
            "(model_name, model_version, granularity, window_start, segment_key, segment_value, "
            "baseline_id)"
        ),
        on_schema_change="fail",
    )
    groups = dbt.ref("int_performance_inputs").to_arrow_batches()
    return map(group_statistics, groups)
