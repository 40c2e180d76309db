"""Target `cluster`: which statements dbt would send to one, and that they build the warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.erasure.operations import Erasure
from ingest.erasure.plan import Entity
from ingest.events import encode_label, encode_prediction
from ingest.raw_tables import create_raw_tables
from tests.cluster_front import CLUSTER, ENVIRONMENT, ClusterFront, cluster_front
from tests.dbt_project.cluster_statements import heads, listed, parse_all
from tests.dbt_project.conftest import Replay
from tests.dbt_project.event_stories import land_happenings
from tests.dbt_project.mart_comparison import differences, read_marts
from tests.dbt_project.warehouse import Message, Warehouse
from tests.golden_files import assert_golden

GOLDEN = Path(__file__).parent / "golden" / "models_on_cluster.sql"

# A seed, a view, a table, one that is appended to and two that are sharded, one of them made anew
# by each run; the adapter's own test has those of Python and those that are replaced by key.
REPRESENTATIVES = (
    "segment_sets",
    "stg_raw__label_events",
    "int_judged_label_events",
    "int_run_ledger",
    "fct_retraining_runs",
    "int_label_events",
)


class ClusterWarehouse(Warehouse):
    """A warehouse of target `cluster`."""

    def empty(self) -> None:
        super().empty()
        self.client.command(f"drop database {self.raw_database} sync")
        create_raw_tables(self.client, self.raw_database, CLUSTER)

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **ENVIRONMENT}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterFront]:
    with cluster_front(tmp_path_factory.mktemp("cluster")) as front:
        yield front


def label(number: int) -> bytes:
    return encode_label(
        model_name="shop",
        prediction_id=f"p{number}",
        label="yes",
        observed_at=datetime(2026, 1, 1, tzinfo=UTC),
        source="test",
    ).value


def prediction(number: int) -> bytes:
    return encode_prediction(
        model_name="shop",
        model_version="1",
        features={"x": 1.0},
        score=0.5,
        prediction_id=f"p{number}",
        predicted_at=datetime(2026, 1, 1, tzinfo=UTC),
        entity_id="somebody",
    ).value


def test_statements_for_a_cluster_are_those_reviewed(front: ClusterFront, tmp_path: Path) -> None:
    """A first run, one that goes on from it, and a full refresh of what is sharded."""
    warehouse = ClusterWarehouse(front.server, tmp_path, "cluster_statements")
    front.statements.clear()
    for run, parents in enumerate(("+", "")):
        warehouse.land(Message("labels", label(10 * run + number)) for number in range(10))
        warehouse.run("--select", *(f"{parents}{name}" for name in REPRESENTATIVES))
    warehouse.run("--select", "int_label_events", full_refresh=True)
    found = heads(front.statements, warehouse.database)
    assert_golden(listed(found, REPRESENTATIVES), GOLDEN)
    assert parse_all(front.engine.client(), front.statements) > 50
    [rows] = warehouse.query(
        "select count() as labels, uniqExact(prediction_id) as distinct_labels, "
        "uniqExact(shardNum()) as shards from {database}.int_label_events"
    )
    assert rows == {"labels": 20, "distinct_labels": 20, "shards": 2}

    # What is erased is erased from every shard.
    warehouse.land([Message("predictions", prediction(number)) for number in range(10)])
    front.statements.clear()
    erasure = Erasure(
        warehouse.client,
        Entity("shop", "somebody"),
        raw_database=warehouse.raw_database,
        database=warehouse.database,
        store=None,
    )
    assert erasure.run().marts == {"int_judged_label_events": 10, "int_label_events": 10}
    changed = {
        text.partition(" where ")[0].partition(" delete")[0].partition("update")[0].strip()
        for text in front.statements
        if text.startswith("alter table")
    }
    assert changed == {
        f"alter table `{database}`.`{table}`{on_cluster}"
        for database, table, on_cluster in (
            (warehouse.raw_database, "prediction_events_local", f" on cluster `{CLUSTER}`"),
            (warehouse.raw_database, "label_events_local", f" on cluster `{CLUSTER}`"),
            (warehouse.raw_database, "replays", ""),
            (warehouse.database, "int_judged_label_events_local", f" on cluster `{CLUSTER}`"),
            (warehouse.database, "int_label_events_local", f" on cluster `{CLUSTER}`"),
        )
    }
    [rows] = warehouse.query("select count() as labels from {database}.int_label_events")
    assert rows == {"labels": 10}
    assert parse_all(front.engine.client(), front.statements) > 20
    warehouse.close()


@pytest.mark.conformance
@pytest.mark.timeout(1800)
def test_marts_of_a_cluster_are_those_of_one_server(
    front: ClusterFront, replay: Replay, tmp_path: Path
) -> None:
    """Two shards, three runs: every incremental model goes on from what another run has written."""
    cluster = ClusterWarehouse(
        front.server,
        tmp_path,
        "stories_on_cluster",
        seeds=replay.in_order.seeds,
        variables=replay.in_order.variables,
    )
    front.statements.clear()
    for part in range(3):
        for story in replay.stories:
            land_happenings(cluster, story, story.happenings[part::3])
        cluster.run()
    assert differences(read_marts(cluster), replay.expected) == []
    found = heads(front.statements, cluster.database)
    unreplicated = [
        head
        for model in found
        for head in found[model]
        if head.startswith("create table") and "Replicated" not in head
    ]
    assert unreplicated == []
    assert parse_all(front.engine.client(), front.statements) > 500
    cluster.close()
