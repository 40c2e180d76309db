"""Marts are the same whatever order events arrive in and however they are cut into dbt runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.dbt_project.conftest import Replay
from tests.dbt_project.event_stories import Happening, Story, land_happenings
from tests.dbt_project.mart_comparison import differences, read_marts

pytestmark = pytest.mark.slow
RUNS = 3


@dataclass(frozen=True)
class Arrival:
    """In which order a story's happenings land, and how many before each run but the last."""

    seed: int
    cuts: tuple[float, float]

    def slices(self, story: Story) -> list[Sequence[Happening]]:
        order = np.random.default_rng(self.seed).permutation(len(story.happenings))
        places = [round(cut * len(order)) for cut in sorted(self.cuts)]
        return [[story.happenings[i] for i in part] for part in np.split(order, places)]


shares = st.floats(0, 1, allow_nan=False)
arrivals = st.builds(Arrival, st.integers(0, 2**32 - 1), st.tuples(shares, shares))


# In the last run of the fifth story, a window loses its only prediction and its baseline at once.
HARD_ORDERS = [
    Arrival(842, (0.275, 0.0)),
    Arrival(901290, (0.0, 0.149)),
    Arrival(103, (0.0, 0.687)),
    Arrival(150, (0.0, 0.125)),
    Arrival(0, (0.555, 0.1)),
    Arrival(245436, (0.0, 0.374)),
    Arrival(33403, (0.659, 0.88)),
    Arrival(564, (0.999, 0.56)),
]


def test_another_order_in_three_cuts_gives_the_marts_of_one_run_in_order(replay: Replay) -> None:
    assert_same_marts(replay, HARD_ORDERS, overlap_minutes=15, merges=True)


@pytest.mark.thorough
@pytest.mark.timeout(3600)
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# Eight histories, one of each story, share the runs of a round.
@given(
    plans=st.lists(arrivals, min_size=8, max_size=8, unique_by=lambda one: one.seed),
    overlap_minutes=st.sampled_from([0, 15]),
    merges=st.booleans(),
)
def test_many_orders_in_many_cuts_give_the_marts_of_one_run_in_order(
    replay: Replay, plans: list[Arrival], overlap_minutes: int, merges: bool
) -> None:
    assert_same_marts(replay, plans, overlap_minutes, merges)


def assert_same_marts(
    replay: Replay, plans: list[Arrival], overlap_minutes: int, merges: bool
) -> None:
    warehouse = replay.warehouse
    warehouse.empty()
    warehouse.variables = {
        **replay.in_order.variables, "landing_overlap_minutes": overlap_minutes,
    }  # fmt: skip
    parts = [plan.slices(story) for plan, story in zip(plans, replay.stories, strict=True)]
    for run in range(RUNS):
        for story, slices in zip(replay.stories, parts, strict=True):
            land_happenings(warehouse, story, slices[run])
        warehouse.run()
        for table in warehouse.replacing_tables():
            # Either all that ClickHouse would merge some time is merged, or nothing.
            warehouse.client.command(
                f"optimize table {table} final" if merges else f"system stop merges {table}"
            )
    assert differences(read_marts(warehouse), replay.expected) == []


def test_comparison_notices_a_lost_row(replay: Replay) -> None:
    """Guard the test above: a state that lacks one row must not pass."""
    lacking = {mart: rows[1:] for mart, rows in replay.expected.items()}
    found = differences(lacking, replay.expected)
    with_rows = {mart for mart, rows in replay.expected.items() if rows}
    # No story is of a multiclass model; test_performance_tasks compares its classes.
    assert with_rows == set(replay.expected) - {"fct_model_performance_by_class"}
    assert {line.split(":")[0] for line in found} == with_rows
