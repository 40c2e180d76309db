"""Contracts of SQL models: checked by describing the model's query, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from dbt.adapters.clickhouse.httpclient import ChHttpClient

from tests.dbt_project.adapter.adapter_project import Project
from tests.warehouse_fixtures import ClickHouseProcess

_MODEL = """
{{ config(
    materialized='incremental', incremental_strategy='delete_insert', unique_key='n', order_by='n',
    on_schema_change='fail',
    query_settings={'join_use_nulls': 1}
) }}
select number as n, toDecimal64(number, 2) as price, map('a', [number]) as found, other.name as name
from numbers(3) as numbers
left join (select toUInt64(1) as n, 'one' as name) as other on numbers.number = other.n
"""
_CONTRACT = """
models:
  - name: contracted
    config: {contract: {enforced: true}}
    columns:
      - {name: n, data_type: UInt64}
      - {name: price, data_type: "Decimal(18, 2)"}
      - {name: found, data_type: "Map(String, Array(UInt64))"}
      - {name: name, data_type: %s}
"""


@pytest.fixture
def project(clickhouse_server: ClickHouseProcess, tmp_path: Path) -> Iterator[Project]:
    project = Project(clickhouse_server, tmp_path)
    project.write("contracted.sql", _MODEL)
    yield project
    project.client.command(f"drop database if exists {project.database}")


def test_query_is_described_once_a_run_and_with_its_settings(project: Project) -> None:
    project.write("schema.yml", _CONTRACT % "Nullable(String)")
    project.succeed()
    asked: list[str] = []
    query: Any = ChHttpClient.query

    def noted(client: ChHttpClient, sql: str, **options: Any) -> Any:
        asked.append(sql.strip())
        return query(client, sql, **options)

    with mock.patch.object(ChHttpClient, "query", noted):
        project.succeed()
    assert sum(sql.startswith("describe table (") for sql in asked) == 1
    assert project.rows("contracted", "n, name") == [(0, None), (1, "one"), (2, None)]


def test_wrong_type_is_named(project: Project) -> None:
    project.write("schema.yml", _CONTRACT % "String")
    message = project.fail("contracted")
    assert "Nullable(String)" in message
    assert "data type mismatch" in message
