"""The raw tables on a cluster: what is created, and what writes to and alters them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from driftline.settings import ClickHouseSettings, ClusterSettings, SettingsError
from ingest.batches import Batch
from ingest.landing import ClickHouseSink
from ingest.messages import message_block
from ingest.offsets import PartitionId
from ingest.raw_tables import (
    LABEL_EVENTS,
    OFFSET_GAPS,
    PREDICTION_EVENTS,
    create_raw_tables,
    raw_statements,
    stored_table,
)
from ingest.warehouse import connect
from tests.cluster_front import (
    CLUSTER,
    ENVIRONMENT,
    ClusterFront,
    cluster_front,
)
from tests.golden_files import assert_golden
from tests.warehouse_fixtures import ClickHouseProcess

GOLDEN = Path(__file__).parent / "golden" / "raw_tables_on_cluster.sql"


def test_statements_of_the_raw_tables_are_those_reviewed(
    clickhouse_server: ClickHouseProcess,
) -> None:
    statements = [statement.strip() for statement in raw_statements("raw", CLUSTER)]
    assert_golden(";\n\n".join(statements) + ";\n", GOLDEN)
    client = clickhouse_server.client()
    for statement in statements:
        client.command(f"explain ast {statement}")


def test_a_single_server_has_no_replicated_table() -> None:
    together = " ".join(raw_statements("raw"))
    assert "Replicated" not in together
    assert "on cluster" not in together
    assert "Distributed" not in together


@dataclass
class Cluster:
    front: ClusterFront
    settings: ClickHouseSettings
    client: Client


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_front(tmp_path_factory.mktemp("cluster")) as front:
        settings = ClickHouseSettings.from_environment(
            {**front.server.environment(), **ENVIRONMENT}
        )
        client = connect(settings)
        create_raw_tables(client, settings.raw_database, CLUSTER)
        yield Cluster(front, settings, client)
        client.close()


def batch(topic: str, partition: int, offsets: range) -> Batch:
    block = message_block(
        offsets=list(offsets),
        timestamps=[0] * len(offsets),
        keys=[None] * len(offsets),
        headers=[()] * len(offsets),
        values=[b"{}"] * len(offsets),
    )
    return Batch(PartitionId("kafka", topic, "id", partition), date(2026, 1, 1), (block,))


def test_tables_say_of_which_cluster_they_are(cluster: Cluster) -> None:
    database = cluster.settings.raw_database
    for table in (PREDICTION_EVENTS, LABEL_EVENTS):
        stored = stored_table(cluster.client, database, table)
        assert str(stored) == f"`{database}`.`{table}_local` on cluster `{CLUSTER}`"
    assert str(stored_table(cluster.client, database, OFFSET_GAPS)) == (
        f"`{database}`.`{OFFSET_GAPS}`"
    )


def test_table_of_a_later_version_is_made_where_the_others_are(cluster: Cluster) -> None:
    database = cluster.settings.raw_database
    cluster.client.command(f"drop table {database}.{OFFSET_GAPS} sync")
    cluster.front.statements.clear()
    create_raw_tables(cluster.client, database)
    [made] = [text for text in cluster.front.statements if OFFSET_GAPS in text]
    assert f"on cluster `{CLUSTER}`" in made
    assert "ReplicatedMergeTree('/clickhouse/tables/{database}/{table}/all'" in made


def test_batch_lands_once_and_whole_on_the_shard_of_its_partition(cluster: Cluster) -> None:
    database = cluster.settings.raw_database
    sink = ClickHouseSink(cluster.client, database, {"predictions": PREDICTION_EVENTS})
    for partition in range(4):
        landed = batch("predictions", partition, range(10, 20))
        assert sink.landed_last(landed.partition) is None
        for _ in range(2):
            sink.insert(landed, landed.token)
        assert sink.landed_last(landed.partition) == 19
        assert set(sink.missing(landed.partition, range(8, 22))) == {8, 9, 20, 21}
    assert cluster.client.query(
        "select shardNum() as shard, `partition`, count() "
        f"from {database}.{PREDICTION_EVENTS} group by all order by `partition`"
    ).result_rows == [(1, 0, 10), (2, 1, 10), (1, 2, 10), (2, 3, 10)]


def test_month_is_dropped_on_every_shard(cluster: Cluster) -> None:
    stored = stored_table(cluster.client, cluster.settings.raw_database, LABEL_EVENTS)
    cluster.front.statements.clear()
    cluster.client.command(f"alter table {stored} drop partition 202601")
    [dropped] = cluster.front.statements
    assert f"`label_events_local` on cluster `{CLUSTER}` drop partition" in dropped


def test_client_of_a_cluster_waits_for_each_replica_of_a_shard() -> None:
    cluster = ClusterSettings.from_environment(
        {**ENVIRONMENT, "CLICKHOUSE_SHARDS": "3", "CLICKHOUSE_REPLICAS": "2"}
    )
    assert cluster == ClusterSettings(CLUSTER, shards=3, replicas=2)
    assert cluster.client_settings["insert_quorum"] == 2


def test_settings_of_a_cluster_reach_every_statement_of_ingest(cluster: Cluster) -> None:
    found = cluster.client.query(
        "select name, value from system.settings where name in "
        "('distributed_product_mode', 'prefer_global_in_and_join', 'insert_quorum')"
    )
    assert {row["name"]: row["value"] for row in found.named_results()} == {
        "distributed_product_mode": "global",
        "prefer_global_in_and_join": "1",
        "insert_quorum": "1",
    }


@pytest.mark.parametrize("counts", [{}, {"CLICKHOUSE_SHARDS": "2"}, {"CLICKHOUSE_SHARDS": "0"}])
def test_cluster_without_its_numbers_is_refused(counts: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"CLICKHOUSE_(SHARDS|REPLICAS) is not set"):
        ClusterSettings.from_environment({"DRIFTLINE_TARGET": "cluster", **counts})


@pytest.mark.conformance
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "tests",
    [
        "test_loader.py",
        "test_erasure.py",
        "test_archive.py::test_expired_months_are_dropped_and_come_back",
        "test_archive.py::test_commands_archive_verify_expire_and_restore",
    ],
)
def test_what_holds_on_one_server_holds_on_a_cluster(tests: str) -> None:
    """The loader's crashes and rivals, and what alters raw tables, on two shards."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(Path(__file__).parent / tests)],
        env={**os.environ, "DRIFTLINE_TEST_TARGET": "cluster"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout
