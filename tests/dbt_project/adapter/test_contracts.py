"""Contracts of SQL models: checked by describing the model's query, once, or once for many runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from dbt.adapters.clickhouse.httpclient import ChHttpClient
from dbt.adapters.clickhousepy.described_columns import DescribedColumns, key_of
from dbt_common.exceptions import DbtDatabaseError

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
_UPSTREAM = """
{{ config(materialized='table', order_by='n') }}
select %s(1) as n
"""
_DOWNSTREAM = """
select
    toUInt8(2) as n,
    upstream.n as found,
    {{ var('moment', 1795953236) }} as moment,
    '{{ var('day', '2026-01-02') }} 00:00:00' as day
from (select toUInt8(2) as n) as here
left join {{ ref('upstream') }} as upstream on here.n = upstream.n
"""
_DOWNSTREAM_CONTRACT = """
models:
  - name: contracted
    config: {materialized: table, order_by: n, contract: {enforced: true}}
    columns:
      - {name: n, data_type: UInt8}
      - {name: found, data_type: UInt8}
      - {name: moment, data_type: UInt32}
      - {name: day, data_type: String}
"""


@pytest.fixture
def project(clickhouse_server: ClickHouseProcess, tmp_path: Path) -> Iterator[Project]:
    project = Project(clickhouse_server, tmp_path)
    project.write("contracted.sql", _MODEL)
    yield project
    project.client.command(f"drop database if exists {project.database}")


@pytest.fixture
def remembering(clickhouse_server: ClickHouseProcess, tmp_path: Path) -> Iterator[Project]:
    """A project whose runs share the columns of their queries; `contracted` is in it."""
    project = Project(
        clickhouse_server, tmp_path, profile=f"described_columns: {_file(tmp_path)}\n"
    )
    project.write("upstream.sql", _UPSTREAM % "toUInt8")
    project.write("contracted.sql", _DOWNSTREAM)
    project.write("schema.yml", _DOWNSTREAM_CONTRACT)
    yield project
    project.client.command(f"drop database if exists {project.database}")


def _file(folder: Path) -> Path:
    return folder / "state" / "columns.json"


@contextmanager
def _counted_descriptions() -> Iterator[list[str]]:
    """Give the queries that are described meanwhile."""
    described: list[str] = []
    query: Any = ChHttpClient.query

    def noted(client: ChHttpClient, sql: str, **options: Any) -> Any:
        if sql.strip().startswith("describe table ("):
            described.append(sql)
        return query(client, sql, **options)

    with mock.patch.object(ChHttpClient, "query", noted):
        yield described


def test_query_is_described_once_a_run_and_with_its_settings(project: Project) -> None:
    project.write("schema.yml", _CONTRACT % "Nullable(String)")
    project.succeed()
    with _counted_descriptions() as described:
        project.succeed()
    assert len(described) == 1
    assert project.rows("contracted", "n, name") == [(0, None), (1, "one"), (2, None)]


def test_later_run_does_not_describe_again(remembering: Project) -> None:
    remembering.succeed()
    with _counted_descriptions() as described:
        # Of another time and in another database the query is another text with the same columns.
        remembering.succeed("--vars", "{moment: 1795953256, day: '2026-02-03'}")
        remembering.client.command(f"drop database {remembering.database}")
        remembering.database += "_other"
        remembering.write_profile()
        remembering.succeed()
    assert described == []


def test_integer_of_another_type_is_described_again(remembering: Project) -> None:
    remembering.succeed()
    with _counted_descriptions() as described:
        message = remembering.fail("contracted", "--vars", "{moment: 17959532560}")
    assert len(described) == 1
    assert "data type mismatch" in message
    assert "UInt64" in message


def test_changed_column_upstream_is_described_again(remembering: Project) -> None:
    remembering.succeed()
    remembering.write("upstream.sql", _UPSTREAM % "toInt32")
    with _counted_descriptions() as described:
        message = remembering.fail("contracted")
    assert len(described) == 1
    assert "data type mismatch" in message
    assert "Int32" in message


@pytest.mark.parametrize("place", ["custom_settings", "query_settings"])
def test_changed_setting_is_described_again(remembering: Project, place: str) -> None:
    remembering.succeed()
    if place == "custom_settings":
        remembering.profile += "custom_settings: {join_use_nulls: 1}\n"
        remembering.write_profile()
    else:
        remembering.write(
            "contracted.sql", "{{ config(query_settings={'join_use_nulls': 1}) }}" + _DOWNSTREAM
        )
    message = remembering.fail("contracted")
    assert "data type mismatch" in message
    assert "Nullable(UInt8)" in message


def test_damaged_file_is_replaced(remembering: Project, tmp_path: Path) -> None:
    remembering.succeed()
    deep = b'{"a": ' + b"[" * 100_000
    for damaged in (
        b"",
        b"{",
        b"[1]",
        b'{"a": 1}',
        b'{"a": [[1, 2]]}',
        b'{"a": ["ab"]}',
        b"\xff",
        deep,
    ):
        _file(tmp_path).write_bytes(damaged)
        with _counted_descriptions() as described:
            remembering.succeed()
            remembering.succeed()
        assert len(described) == 1
    assert [path.name for path in _file(tmp_path).parent.iterdir()] == ["columns.json"]


def test_file_that_cannot_be_written_is_told_and_stops_nothing(
    remembering: Project, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    with _counted_descriptions() as described:
        remembering.succeed()
        remembering.succeed()
    assert len(described) == 2
    log = (tmp_path / "logs" / "dbt.log").read_text()
    assert log.count(f"described_columns of the profile: {_file(tmp_path)} cannot be written") == 2


def test_relation_that_changes_meanwhile_is_not_remembered(remembering: Project) -> None:
    query: Any = ChHttpClient.query
    upstream = f"{remembering.database}.upstream"
    remembering.succeed()
    remembering.client.command(f"alter table {upstream} add column later UInt8")

    def slow(client: ChHttpClient, sql: str, **options: Any) -> Any:
        answer = query(client, sql, **options)
        if sql.strip().startswith("describe table ("):
            remembering.client.command(f"alter table {upstream} drop column later")
        return answer

    with mock.patch.object(ChHttpClient, "query", slow):
        remembering.succeed("--select", "contracted")
    remembering.client.command(f"alter table {upstream} add column later UInt8")
    with _counted_descriptions() as described:
        remembering.succeed("--select", "contracted")
    assert len(described) == 1


class Server:
    """Answers as dbt's client does, for queries over two databases."""

    def __init__(self, server: ClickHouseProcess) -> None:
        self._client = server.client()
        for statement in _TWO_DATABASES:
            self._client.command(statement)

    def query(self, sql: str, **options: Any) -> Any:
        try:
            return self._client.query(sql, **options)
        except DatabaseError as error:
            raise DbtDatabaseError(str(error)) from error

    def key(self, sql: str, **settings: Any) -> str | None:
        key: str | None = key_of(cast("ChHttpClient", self), sql, settings)
        return key


_TWO_DATABASES = (
    *(f"create database if not exists {database}" for database in ("key_a", "key_b", "key_c")),
    "create or replace table key_a.t (n UInt8, s String) engine Memory",
    "create or replace table key_b.t (n String, s String) engine Memory",
    "create or replace table key_b.hidden (n UInt8, s String alias 's') engine Memory",
    "create or replace table key_c.t (n UInt8, s String) engine Memory",
    "create or replace table key_c.hidden (n UInt8, s String) engine Memory",
    *(
        f"create or replace table {database}.`t-1795953236` (n UInt8) engine Memory"
        for database in ("key_a", "key_c")
    ),
    "create or replace view key_a.parametrized as select {n:UInt8} as n",
)


@pytest.fixture(scope="module")
def server(clickhouse_server: ClickHouseProcess) -> Iterator[Server]:
    yield Server(clickhouse_server)
    client = clickhouse_server.client()
    for database in ("key_a", "key_b", "key_c"):
        client.command(f"drop database {database}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select n from `key_a`.`t`", "select n from `key_b`.`t`"),
        (
            "select l.n, r.n from `key_a`.`t` as l, `key_b`.`t` as r",
            "select l.n, r.n from `key_b`.`t` as l, `key_a`.`t` as r",
        ),
        ("select * from `key_c`.`hidden`", "select * from `key_b`.`hidden`"),
        ("select 4000000000", "select 5000000000"),
        ("select -2000000000", "select -3000000000"),
        ("select 1000000000", "select 100"),
        ("select '--', toUInt8(1)", "select '--', toUInt16(1)"),
        (
            "select cast('2026-01-02' as Enum8('2026-01-02' = 1))",
            "select cast('2026-01-03' as Enum8('2026-01-03' = 1))",
        ),
    ],
)
def test_queries_with_other_columns_have_other_keys(server: Server, one: str, other: str) -> None:
    assert server.key(one) is not None
    assert server.key(one) != server.key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select n from `key_a`.`t`", "select n from `key_c`.`t`"),
        ("select 3000000000, -1000000000", "select 4000000000, -1200000000"),
        ("select toDateTime('2026-01-02 03:04:05')", "select toDateTime('2027-12-31 23:59:59')"),
        ("select n from `key_a`.`t-1795953236`", "select n from `key_c`.`t-1795953236`"),
    ],
)
def test_queries_that_differ_in_nothing_of_their_columns_have_one_key(
    server: Server, one: str, other: str
) -> None:
    assert server.key(one) is not None
    assert server.key(one) == server.key(other)


@pytest.mark.parametrize("comment", ["-- it's read from key_a.t", "/* from\nkey_b.t */"])
def test_relation_in_a_comment_is_none(server: Server, comment: str) -> None:
    assert server.key(f"select 1 {comment}") is not None


def test_settings_are_in_the_key(server: Server) -> None:
    assert server.key("select 1", join_use_nulls=0) != server.key("select 1", join_use_nulls=1)


@pytest.mark.parametrize(
    "sql",
    [
        "select n from key_a.t",
        'select n from "key_a"."t"',
        "select n from `key_a`.t",
        "select n from `key_a`.`t` join key_b.t using (s)",
        "select '--' from key_a.t",
        r"select 'it\'s --' from key_a.t",
        "select n from `key_a`.`parametrized`(n=1)",
        "select n from `key_a`.`missing`",
    ],
)
def test_query_of_a_relation_that_is_not_known_has_no_key(server: Server, sql: str) -> None:
    assert server.key(sql) is None


def test_server_that_does_not_say_its_state_has_no_key(server: Server) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise DbtDatabaseError("no grant on system.columns")

    with mock.patch.object(server, "query", refused):
        assert server.key("select 1") is None


def test_only_newest_queries_are_kept(tmp_path: Path) -> None:
    described = DescribedColumns(_file(tmp_path))
    with mock.patch("dbt.adapters.clickhousepy.described_columns._MOST_QUERIES", 2):
        for key in "abc":
            described.put(key, [(key, "String")])
    again = DescribedColumns(_file(tmp_path))
    assert [again.get(key) for key in "abc"] == [None, [("b", "String")], [("c", "String")]]


def test_wrong_type_is_named(project: Project) -> None:
    project.write("schema.yml", _CONTRACT % "String")
    message = project.fail("contracted")
    assert "Nullable(String)" in message
    assert "data type mismatch" in message
