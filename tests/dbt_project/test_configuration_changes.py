"""What was computed under another configuration, or before a window was over, is computed anew."""

from __future__ import annotations

import pytest

from tests.dbt_project.conftest import MakeWarehouse, Replay
from tests.dbt_project.event_stories import land_happenings, merged_seeds
from tests.dbt_project.mart_comparison import differences, read_marts

pytestmark = pytest.mark.slow


def test_changed_seeds_and_closing_windows_give_the_marts_of_a_first_run(replay: Replay) -> None:
    """Start with other seeds, in the middle of the stories' days; end with the stories' own."""
    warehouse = replay.warehouse
    warehouse.empty()
    for story in replay.stories:
        land_happenings(warehouse, story, story.happenings)
    seeds = merged_seeds(replay.stories)
    first, second, third, fourth, fifth, *_ = (story.model.name for story in replay.stories)
    other = {kind: list(lines) for kind, lines in seeds.items()}
    # Another threshold, fewer rows needed, another active version, no configuration at all.
    other["models"] = [
        *(f"{first},binary,yes,0.9,1,48,12,,,", f"{second},binary,yes,0.5,1,48,40,,,"),
        f"{third},binary,yes,0.5,2,48,12,,,",
        *(line for line in seeds["models"] if line.split(",")[0] not in (first, second, third)),
    ]
    other["models"] = [line for line in other["models"] if not line.startswith(f"{fourth},")]
    other["segment_sets"] = [
        *(line for line in seeds["segment_sets"] if not line.startswith(f"{first},")),
        f"{first},carrier",
    ]
    # A number as a category has other bins; a range has other counts.
    other["features"] = [*seeds["features"], f"{fifth},distance,categorical,,,,"]
    other["features"] += [f"{second},distance,,0,100,,day"]
    try:
        warehouse.configure(other)
        warehouse.variables = {**replay.in_order.variables, "as_of": "2025-02-01 06:00:00"}
        warehouse.run()
        open_windows = warehouse.query(
            "select verdict, count() as rows from {database}.fct_feature_drift_weekly "
            "where reason = 'window_open' group by verdict"
        )
        assert [row["verdict"] for row in open_windows] == ["not_evaluated"]
        assert differences(read_marts(warehouse), replay.expected)
    finally:
        warehouse.configure(seeds)
    warehouse.variables = replay.in_order.variables
    warehouse.run()
    assert differences(read_marts(warehouse), replay.expected) == []


@pytest.mark.thorough
def test_recompute_counts_the_given_hours_again_and_changes_nothing(replay: Replay) -> None:
    warehouse = replay.in_order
    [before] = warehouse.query("select max(run_version) as version from {database}.int_run_ledger")
    variables = warehouse.variables
    bounds = {"recompute_from": "2025-01-31 00:00:00", "recompute_until": "2025-02-01 00:00:00"}
    try:
        warehouse.variables = {**variables, **bounds}
        warehouse.run()
    finally:
        warehouse.variables = variables
    for mart in ("service", "feature_drift", "data_quality", "model_performance"):
        days = warehouse.query(
            f"select distinct toString(window_start) as day from {{database}}.fct_{mart}_daily "
            "where run_version > {version:UInt64} order by day",
            version=before["version"],
        )
        # The next day's drift is also measured against this day.
        next_day = ["2025-02-01 00:00:00"] if mart == "feature_drift" else []
        assert [row["day"] for row in days] == ["2025-01-31 00:00:00", *next_day], mart
    assert differences(read_marts(warehouse), replay.expected) == []


def test_first_build_of_an_empty_warehouse_passes_every_test(make_warehouse: MakeWarehouse) -> None:
    """As a newcomer runs it: seeds, models, unit tests and data tests, before anything landed."""
    warehouse = make_warehouse("nothing_landed")
    build = warehouse.dbt("build", "--resource-type", "test", "--resource-type", "unit_test")
    assert build.success, [
        f"{result.node.name}: {result.message}"
        for result in build.result
        if result.status not in ("success", "pass", "no-op")
    ]
    kinds = [result.node.resource_type for result in build.result]
    assert kinds.count("unit_test") > 20
    assert kinds.count("test") > 50


def test_wrong_configuration_is_named_with_its_remedy(make_warehouse: MakeWarehouse) -> None:
    warehouse = make_warehouse(
        "wrong_configuration",
        seeds={"models": ["churn,binary,,0.5,1,48,300,,,"], "segment_sets": ["chrun,region"]},
    )
    build = warehouse.dbt(
        "build", "--resource-type", "test", "--select", "+int_configuration_problems"
    )
    failed = {
        result.node.name: result.message for result in build.result if result.status == "error"
    }
    assert list(failed) == ["configuration_is_valid"]
    message = failed["configuration_is_valid"]
    assert "models.csv, 'churn': a binary model needs a positive_label" in message
    assert "segment_sets.csv, 'chrun: region': model_name is not in models.csv" in message
