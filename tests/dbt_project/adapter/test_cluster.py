"""The adapter on a profile that names a cluster: what is sent, and what becomes of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_front import CLUSTER, ClusterFront, cluster_front
from tests.dbt_project.adapter.adapter_project import Project
from tests.dbt_project.cluster_statements import heads, listed, parse_all
from tests.golden_files import assert_golden

GOLDEN = Path(__file__).parents[1] / "golden" / "adapter_on_cluster.sql"
PROFILE = f"""
cluster: {CLUSTER}
cluster_mode: true
custom_settings: {{distributed_product_mode: global, prefer_global_in_and_join: 1}}
"""
EVERYWHERE = "ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}')"

PYTHON_MODEL = """
import pandas as pd

def model(dbt, session):
    dbt.config(engine="ENGINE", order_by="day", CONFIG)
    if not dbt.is_incremental:
        return pd.DataFrame({"day": [1, 1, 2], "version": [1, 1, 1]})
    return pd.DataFrame({"day": [2, 3], "version": [2, 2]})
""".replace("ENGINE", EVERYWHERE)
MODELS = {
    "whole": 'materialized="table"',
    "appended": 'materialized="incremental", incremental_strategy="append"',
    "replaced_by_key": (
        'materialized="incremental", incremental_strategy="delete_insert", unique_key="day", '
        'query_settings={"optimize_on_insert": 0}'
    ),
    "replaced_by_partition": (
        'materialized="incremental", incremental_strategy="insert_overwrite", partition_by="day"'
    ),
}
SHARDED = """
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine="ENGINE",
    order_by='n',
    sharding_key='cityHash64(n)',
    on_schema_change='append_new_columns',
    indexes=[{'name': 'by_version', 'definition': 'version TYPE minmax GRANULARITY 1'}],
    projections=[{'name': 'of_version', 'query': 'select version, count() group by version'}],
    settings={'deduplicate_merge_projection_mode': 'drop'},
) }}
select number as n, toUInt64({{ var('version') }}) as version COLUMNS
from numbers(20)
where n not in (select n from {{ this if is_incremental() else "numbers(0, 0)" }} where n < 10)
""".replace(
    "ENGINE",
    "ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', version)",
)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterFront]:
    with cluster_front(tmp_path_factory.mktemp("cluster")) as front:
        yield front


@pytest.fixture
def project(front: ClusterFront, tmp_path: Path) -> Project:
    front.statements.clear()
    return Project(front.server, tmp_path, profile=PROFILE)


def test_python_models_run_on_every_node(front: ClusterFront, project: Project) -> None:
    for name, config in MODELS.items():
        project.write(f"{name}.py", PYTHON_MODEL.replace("CONFIG", config))
    for _ in range(2):
        project.succeed()
    found = heads(front.statements, project.database)
    assert_golden(listed(found, MODELS), GOLDEN)
    assert parse_all(front.engine.client(), front.statements) > 50
    assert {name: project.rows(name) for name in MODELS} == {
        "whole": [(1, 1), (1, 1), (2, 1)],
        "appended": [(1, 1), (1, 1), (2, 1), (2, 2), (3, 2)],
        "replaced_by_key": [(1, 1), (1, 1), (2, 2), (3, 2)],
        "replaced_by_partition": [(1, 1), (1, 1), (2, 2), (3, 2)],
    }


def test_sharded_table_is_split_by_its_key_read_whole_and_replaced_whole(project: Project) -> None:
    def run(version: int, columns: str = "", *arguments: str) -> None:
        project.write("sharded.sql", SHARDED.replace("COLUMNS", columns))
        project.succeed("--vars", f"{{version: {version}}}", *arguments)

    run(1)
    assert project.rows("sharded", "count()") == [(20,)]
    assert project.tables() == {"sharded", "sharded_local"}
    shards = project.client.query(
        f"select n, shardNum() as shard from {project.database}.sharded"
    ).result_rows
    assert {shard for _, shard in shards} == {1, 2}

    # Appended: those below 10 are there already; of the others the newest of each key counts.
    run(2, ", 'x' as added")
    assert project.rows("sharded", "count(), countIf(added = 'x')") == [(30, 10)]
    assert project.rows("sharded final", "count(), countIf(version = 2)") == [(20, 10)]

    run(3, "", "--full-refresh")
    assert project.rows("sharded", "count(), min(version)") == [(20, 3)]
    assert project.types("sharded") == {"n": "UInt64", "version": "UInt64"}
    assert project.tables() == {"sharded", "sharded_local"}
    made = project.client.query(
        "select (select groupArray(name) from system.data_skipping_indices "
        f"where database = '{project.database}' and table = 'sharded_local'), "
        "(select groupArray(name) from system.projections "
        f"where database = '{project.database}' and table = 'sharded_local')"
    ).first_row
    assert made == (["by_version"], ["of_version"])


def test_what_cannot_be_sharded_is_refused(project: Project) -> None:
    project.write(
        "by_key.sql",
        "{{ config(materialized='incremental', sharding_key='n', unique_key='n',"
        " incremental_strategy='delete_insert') }} select 1 as n",
    )
    project.write(
        "of_python.py",
        """
        def model(dbt, session):
            dbt.config(materialized="incremental", sharding_key="n")
            return None
        """,
    )
    messages = {name: str(result.message) for name, result in project.run().items()}
    assert "appended to: set incremental_strategy append" in messages["by_key"]
    assert "sharding_key is for SQL models only" in messages["of_python"]
    assert project.tables() == set()
