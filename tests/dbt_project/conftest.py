"""Warehouses that several modules of this folder read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dbt_project.drift_oracle import Model, Row
from tests.dbt_project.drift_rows import SHOP, UNLISTED, populations
from tests.dbt_project.event_stories import AS_OF, Story, land_happenings, make_story, merged_seeds
from tests.dbt_project.fault_rows import faulty_models, model_lines, segment_set_lines
from tests.dbt_project.mart_comparison import Marts, read_marts
from tests.dbt_project.warehouse import Warehouse
from tests.warehouse_fixtures import ClickHouseProcess

REFERENCE = Path(__file__).parents[1] / "reference"
GRANULARITIES = {"day": "daily", "week": "weekly", "month": "monthly"}
DRIFT_GRANULARITIES = {"hour": "hourly", **GRANULARITIES}
DRIFT_MARTS = [f"+fct_feature_drift_{name}" for name in DRIFT_GRANULARITIES.values()] + [
    "+dim_baseline_bins",
    "+fct_data_quality_daily",
]
START = datetime(2025, 1, 1, tzinfo=UTC)
MOTIVATION = Model(name="motivation", task="", types={"x": "numeric"})
MakeWarehouse = Callable[..., Warehouse]


@pytest.fixture(scope="session")
def make_warehouse(
    clickhouse_server: ClickHouseProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeWarehouse]:
    """Make a warehouse of a name that no other test module uses; drop it when the session ends."""
    made: list[Warehouse] = []

    def make(name: str, **options: Any) -> Warehouse:
        warehouse = Warehouse(clickhouse_server, tmp_path_factory.mktemp(name), name, **options)
        made.append(warehouse)
        return warehouse

    yield make
    for warehouse in made:
        warehouse.close()


@dataclass(frozen=True)
class MotivatingRows:
    """A case of the metrics reference as rows."""

    baseline: Sequence[Row]
    current: Sequence[Row]
    expected: dict[str, Any]


def motivating_rows() -> dict[str, MotivatingRows]:
    """Give the four cases, each within one day."""
    noon = datetime(2025, 5, 1, 12, tzinfo=UTC)
    cases = json.loads((REFERENCE / "motivation_cases.json").read_text())
    return {
        name: MotivatingRows(
            [Row({"x": value}, None) for value in case["baseline"]],
            [
                Row({"x": value}, noon + timedelta(seconds=number))
                for number, value in enumerate(case["current"])
            ],
            case["expected"],
        )
        for name, case in cases.items()
    }


@pytest.fixture(scope="session")
def drift_warehouse(make_warehouse: MakeWarehouse) -> Warehouse:
    """Build, once, the drift marts of rows of every kind, and of the four motivating cases."""
    warehouse = make_warehouse(
        "drift_marts",
        seeds={
            "models": [
                f"{SHOP.name},binary,{SHOP.positive_label},{SHOP.threshold},1,48,{SHOP.min_rows},,,",
                "price,regression,,,1,48,100,,,",
                "genre,multiclass,,,b,48,50,entity_id,,",
                "meter,regression,,,1,48,15,device,,",
                "motivation,,,,1,48,300,,,",
                *model_lines(),
            ],
            "segment_sets": [
                "shop,region,",
                "shop,channel|region,day",
                "genre,store,",
                "meter,site,hour",
                "meter,unit,",
                *segment_set_lines(),
            ],
            "features": [
                "shop,weekday,,,,,week",
                "shop,hour_of_day,,,,,day",
                "shop,postal_code,categorical,,,,",
                "meter,hour_of_day,,,,,day",
            ],
        },
        variables={"baseline_backfill_days": 3650},
    )
    for population in populations():
        model, version = population.model, population.version
        warehouse.land_rows(model.name, version, population.current)
        if model is UNLISTED:
            warehouse.land_baseline(model, version, population.baseline or [], "unlisted-1", START)
        elif model is SHOP and population.baseline:
            # The configuration says that these numbers are categories.
            types = {**model.types, "postal_code": "numeric"}
            warehouse.register_baseline(replace(model, types=types), version, population.baseline)
        elif population.baseline:
            warehouse.register_baseline(model, version, population.baseline)
    for faulty in faulty_models():
        for version, current in faulty.current.items():
            warehouse.land_rows(faulty.model.name, version, current)
            warehouse.register_baseline(faulty.model, version, faulty.baseline)
    for case, rows in motivating_rows().items():
        warehouse.land_rows(MOTIVATION.name, case, rows.current)
        warehouse.register_baseline(MOTIVATION, case, rows.baseline)
    warehouse.run("--select", *DRIFT_MARTS)
    return warehouse


@pytest.fixture(scope="session")
def baseline_ids(drift_warehouse: Warehouse) -> dict[tuple[str, str], str]:
    """Give the baseline of each model version of `drift_warehouse`."""
    return {
        (row["model_name"], row["model_version"]): row["baseline_id"]
        for row in drift_warehouse.query("select * from {database}.dim_baselines")
    }


@dataclass(frozen=True)
class Replay:
    """Stories, the marts they make when all comes in order before one run, and room to replay."""

    stories: Sequence[Story]
    in_order: Warehouse
    expected: Marts
    warehouse: Warehouse


@pytest.fixture(scope="session")
def replay(make_warehouse: MakeWarehouse) -> Replay:
    """Land eight stories in order, run once, and give an empty warehouse of the same set-up."""
    stories = [make_story(number) for number in range(8)]
    options = {
        "seeds": merged_seeds(stories),
        "variables": {"as_of": AS_OF, "baseline_backfill_days": 3650},
    }
    in_order = make_warehouse("stories_in_order", **options)
    for story in stories:
        land_happenings(in_order, story, story.happenings)
    in_order.run()
    return Replay(
        stories, in_order, read_marts(in_order), make_warehouse("stories_replayed", **options)
    )
