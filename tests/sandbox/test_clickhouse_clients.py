"""Clients that know nothing of the sandbox: clickhouse-connect, pandas, what dbt sends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import decimal
import ipaddress
import math
import uuid
from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect import dbapi
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

from tests.warehouse_fixtures import ClickHouseProcess


@pytest.fixture
def client(clickhouse_server: ClickHouseProcess) -> Iterator[Any]:
    client = clickhouse_server.client()
    yield client
    client.close()


@pytest.fixture
def database(client: Any) -> Iterator[str]:
    name = f"d_{uuid.uuid4().hex[:12]}"
    client.command(f"create database {name} engine = Atomic")
    yield name
    client.command(f"drop database {name} sync")


def moment(text: str) -> dt.datetime:
    """Give a time as clickhouse-connect does: in UTC, without saying so."""
    return dt.datetime.fromisoformat(text)


VALUES: list[tuple[str, list[Any]]] = [
    ("Bool", [True, False]),
    ("UInt8", [0, 255]),
    ("Int64", [-(2**63), 2**63 - 1]),
    ("UInt256", [0, 2**256 - 1]),
    ("Float32", [1.5, -0.25]),
    ("Float64", [1e300, -math.inf]),
    ("Decimal(38, 6)", [decimal.Decimal("-1.000001"), decimal.Decimal("12345678901234.5")]),
    ("String", ["", "né; 'quoted' \\ \t\n\0 🐟"]),
    ("FixedString(4)", [b"abcd", b"a\0\0\0"]),
    ("LowCardinality(String)", ["a", "b"]),
    ("Nullable(String)", [None, "x"]),
    ("LowCardinality(Nullable(String))", [None, "x"]),
    ("Date", [dt.date(1970, 1, 1), dt.date(2149, 6, 6)]),
    ("Date32", [dt.date(1900, 1, 1), dt.date(2299, 12, 31)]),
    ("DateTime('UTC')", [moment("2024-01-02 03:04:05"), moment("1970-01-01")]),
    ("DateTime64(3, 'UTC')", [moment("2024-01-02 03:04:05.678"), moment("1980-01-01")]),
    ("UUID", [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)]),
    ("IPv4", [ipaddress.IPv4Address("10.0.0.1"), ipaddress.IPv4Address("255.0.0.1")]),
    ("IPv6", [ipaddress.IPv6Address("::1"), ipaddress.IPv6Address("2001:db8::2")]),
    ("Enum8('a' = 1, 'b' = -2)", ["a", "b"]),
    ("Array(Array(Nullable(Float64)))", [[], [[1.0, None], []]]),
    ("Map(LowCardinality(String), Float64)", [{}, {"a": 1.5, "b": -2.0}]),
    ("Tuple(name String, value Nullable(UInt8))", [{"name": "a", "value": None}] * 2),
    ("Array(Tuple(String, UInt32))", [[("a", 1)], []]),
    ("JSON", [{"a": {"b": [1, 2]}}, {"c": "x"}]),
    ("Variant(String, UInt64)", ["x", 7]),
]


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=[kind for kind, _ in VALUES])
def test_type_comes_back_as_inserted(
    client: Any, database: str, kind: str, values: list[Any]
) -> None:
    table = f"{database}.typed"
    client.command(f"create table {table} (n UInt8, v {kind}) order by n")
    client.insert(table, list(enumerate(values)), column_names=["n", "v"])
    result = client.query(f"select v from {table} order by n")
    assert [row[0] for row in result.result_rows] == values


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_insert_and_query_with_each_compression(
    clickhouse_server: ClickHouseProcess, database: str, compression: str | bool
) -> None:
    client = clickhouse_server.client(database=database, compress=compression)
    client.command("create table packed (a UInt32, b String) order by a")
    rows = [[number, f"value {number}"] for number in range(50_000)]
    summary = client.insert("packed", rows, column_names=["a", "b"])
    assert summary.written_rows == 50_000
    assert client.query("select * from packed order by a").result_rows == [tuple(r) for r in rows]
    client.close()


def test_result_streams_in_blocks(client: Any) -> None:
    with client.query_row_block_stream("select number from numbers(1000000)") as blocks:
        sizes = [len(block) for block in blocks]
    assert sum(sizes) == 1_000_000
    assert len(sizes) > 5


def test_error_in_the_middle_of_a_stream_is_raised(client: Any) -> None:
    statement = "select throwIf(number = 5000000), number from numbers(10000000)"
    with (
        pytest.raises(Exception, match="throwIf"),
        client.query_row_block_stream(statement) as blocks,
    ):
        for _ in blocks:
            pass
    assert client.command("select 1") == 1


def test_abandoned_stream_leaves_the_client_usable(
    clickhouse_server: ClickHouseProcess,
) -> None:
    client = clickhouse_server.client()
    with client.query_row_block_stream("select number from numbers(100000000)") as blocks:
        next(iter(blocks))
    other = clickhouse_server.client()
    assert other.command("select 1") == 1


def test_limit_0_gives_names_and_types(client: Any) -> None:
    result = client.query("select 1 as a, toDateTime64('2024-01-01', 3, 'UTC') as b limit 0")
    assert result.column_names == ("a", "b")
    assert [kind.name for kind in result.column_types] == ["UInt8", "DateTime64(3, 'UTC')"]
    assert result.result_rows == []


def test_summary_has_rows_and_query_id(client: Any) -> None:
    result = client.query("select number from numbers(10)")
    assert result.summary["read_rows"] == "10"
    assert uuid.UUID(result.summary["query_id"])


def test_parameters_are_bound_by_the_server(client: Any) -> None:
    at = moment("2024-01-02 03:04:05.678")
    result = client.query(
        "select {a:Int32} + 1, {b:String}, {c:Array(String)}, {d:DateTime64(3)}, "
        "{e:Nullable(Int8)}",
        parameters={"a": 4, "b": "tab\t'quote'\\ 'n'\n", "c": ["it's", "a\nb"], "d": at, "e": None},
    )
    assert result.first_row == (5, "tab\t'quote'\\ 'n'\n", ["it's", "a\nb"], at, None)


def test_error_has_code_and_name(client: Any) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_IDENTIFIER") as raised:
        client.query("select nope")
    assert raised.value.code == 47


def test_wrong_password_is_told(clickhouse_server: ClickHouseProcess) -> None:
    with pytest.raises(DatabaseError, match="AUTHENTICATION_FAILED"):
        clickhouse_server.client(password="wrong")


def test_session_keeps_temporary_tables_and_settings(client: Any) -> None:
    client.command("create temporary table kept (a UInt8)")
    client.insert("kept", [[1], [2]], column_names=["a"])
    client.command("set max_block_size = 77")
    assert client.command("select count() from kept") == 2
    assert client.command("select getSetting('max_block_size')") == 77
    one = client.query("select getSetting('max_block_size')", settings={"max_block_size": 5})
    assert one.first_row == (5,)
    assert client.command("select getSetting('max_block_size')") == 77


def test_unknown_setting_is_refused_by_the_client(client: Any) -> None:
    with pytest.raises(Exception, match="no_such_setting"):
        client.query("select 1", settings={"no_such_setting": 1})


def test_frames_go_in_and_out(client: Any, database: str) -> None:
    table = f"{database}.frames"
    client.command(
        f"create table {table} (a UInt32, b Nullable(Float64), c String, d DateTime64(3)) "
        "order by a"
    )
    frame = pd.DataFrame(
        {
            "a": np.arange(1000, dtype="uint32"),
            "b": [None if n % 3 else n / 2 for n in range(1000)],
            "c": [f"c{n}" for n in range(1000)],
            "d": pd.date_range("2024-01-01", periods=1000, freq="min"),
        }
    )
    client.insert_df(table, frame)
    back = client.query_df(f"select * from {table} order by a")
    assert back["a"].tolist() == frame["a"].tolist()
    assert back["b"].isna().tolist() == frame["b"].isna().tolist()
    assert back["d"].dt.tz_localize(None).tolist() == frame["d"].tolist()
    assert client.query_np(f"select a from {table} order by a").ravel().tolist() == list(
        range(1000)
    )


def test_arrow_goes_in_and_out(client: Any, database: str) -> None:
    table = f"{database}.arrows"
    client.command(f"create table {table} (a UInt32, b String) order by a")
    rows = pa.table({"a": pa.array(range(100_000), pa.uint32()), "b": ["x"] * 100_000})
    client.insert_arrow(table, rows)
    back = client.query_arrow(f"select * from {table} order by a", use_strings=True)
    assert back.column("a").to_pylist() == list(range(100_000))
    with client.query_arrow_stream(f"select * from {table}") as batches:
        assert sum(batch.num_rows for batch in batches) == 100_000


@pytest.mark.parametrize("output_format", ["CSVWithNames", "JSONEachRow", "Parquet", "TSV"])
def test_raw_data_goes_out_and_in(client: Any, database: str, output_format: str) -> None:
    client.command(f"create table {database}.raw (number UInt64) order by number")
    data = client.raw_query("select number from numbers(1000)", fmt=output_format)
    client.raw_insert(f"{database}.raw", insert_block=data, fmt=output_format)
    with client.raw_stream("select number from numbers(1000, 1000)", fmt=output_format) as stream:
        client.raw_insert(f"{database}.raw", insert_block=stream.read(), fmt=output_format)
    assert client.command(f"select sum(number) from {database}.raw") == sum(range(2000))


def test_external_data_is_joined(client: Any) -> None:
    data = ExternalData(
        file_name="cities.csv", data=b"1,Rome\n2,Oslo\n", fmt="CSV",
        structure=["id UInt8", "city String"],
    )  # fmt: skip
    result = client.query("select city from cities where id = {id:UInt8}", {"id": 2},
                          external_data=data)  # fmt: skip
    assert result.result_rows == [("Oslo",)]


def test_insert_that_fails_to_build_raises_and_inserts_nothing(client: Any, database: str) -> None:
    client.command(f"create table {database}.strict (a UInt8) order by a")
    with pytest.raises(Exception, match="native array for column"):
        client.insert(f"{database}.strict", [[1], ["not a number"]], column_names=["a"])
    assert client.command(f"select count() from {database}.strict") == 0


def test_deduplication_token_holds(client: Any, database: str) -> None:
    client.command(
        f"create table {database}.once (a UInt8) order by a "
        "settings non_replicated_deduplication_window = 100"
    )
    for _ in range(2):
        settings = {"async_insert": 0, "insert_deduplication_token": "first"}
        client.insert(f"{database}.once", [[1]], column_names=["a"], settings=settings)
    assert client.command(f"select count() from {database}.once") == 1


def test_one_client_a_thread_works_at_once(clickhouse_server: ClickHouseProcess) -> None:
    def work(number: int) -> int:
        client = clickhouse_server.client()
        try:
            total: int = client.command(f"select sum(number) + {number} from numbers(100000)")
            return total
        finally:
            client.close()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(24)))
    assert results == [4_999_950_000 + number for number in range(24)]


def test_dbapi_executes_and_fetches(clickhouse_server: ClickHouseProcess, database: str) -> None:
    connection = dbapi.connect(
        host=clickhouse_server.host,
        port=clickhouse_server.port,
        username=clickhouse_server.user,
        password=clickhouse_server.password,
        database=database,
    )
    cursor = connection.cursor()
    cursor.execute("create table api (a UInt8, b String) order by a")
    cursor.executemany("insert into api (a, b) values", [(1, "x"), (2, "y")])
    cursor.execute("select * from api where a = %(a)s", {"a": 2})
    assert cursor.fetchall() == [(2, "y")]
    connection.close()


def test_asynchronous_client_runs_queries_at_once(clickhouse_server: ClickHouseProcess) -> None:
    pytest.importorskip("aiohttp", reason="uv pip install aiohttp")

    async def ask() -> list[int]:
        client = await clickhouse_connect.get_async_client(
            host=clickhouse_server.host,
            port=clickhouse_server.port,
            username=clickhouse_server.user,
            password=clickhouse_server.password,
            autogenerate_session_id=False,
        )
        try:
            results = await asyncio.gather(*(client.query(f"select {n}") for n in range(10)))
            return [row[0] for result in results for row in result.result_rows]
        finally:
            await client.close()

    assert asyncio.run(ask()) == list(range(10))


def test_sqlalchemy_reflects_and_reads(clickhouse_server: ClickHouseProcess, database: str) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="uv pip install sqlalchemy")
    url = sqlalchemy.URL.create(
        "clickhousedb",
        username=clickhouse_server.user,
        password=clickhouse_server.password,
        host=clickhouse_server.host,
        port=clickhouse_server.port,
        database=database,
    )
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table reflected (a UInt8, b String) order by a"))
        connection.execute(sqlalchemy.text("insert into reflected values (1, 'x')"))
        table = sqlalchemy.Table("reflected", sqlalchemy.MetaData(), autoload_with=connection)
        assert [column.name for column in table.columns] == ["a", "b"]
        assert connection.execute(sqlalchemy.select(table)).fetchall() == [(1, "x")]
    engine.dispose()


def test_analyst_reads_with_an_ordinary_client(
    clickhouse_server: ClickHouseProcess, client: Any, database: str
) -> None:
    client.command(f"create table {database}.facts (a UInt8) order by a")
    client.insert(f"{database}.facts", [[1]], column_names=["a"])
    analyst = clickhouse_server.client(user="analyst", database=database)
    assert analyst.query("select * from facts").result_rows == [(1,)]
    assert analyst.query_df("select a from facts")["a"].tolist() == [1]
    limited = analyst.query("select 1", settings={"max_execution_time": 5})
    assert limited.first_row == (1,)
    with pytest.raises(DatabaseError, match="READONLY"):
        analyst.insert("facts", [[2]], column_names=["a"])
    analyst.close()


# What dbt-clickhouse sends


def test_statements_of_dbt_clickhouse(client: Any, database: str) -> None:
    client.command(f"create table {database}.a (x UInt8) engine = MergeTree order by x as select 1")
    client.command(f"create table {database}.b engine = MergeTree order by x as select 2 as x")
    client.command(f"exchange tables {database}.a and {database}.b")
    assert client.command(f"select x from {database}.a") == 2
    client.command(f"create or replace table {database}.a order by x as select 3 as x")
    client.command(f"create or replace view {database}.v as select * from {database}.a")
    assert client.command(f"select x from {database}.v") == 3
    client.command(f"insert into {database}.a select number from numbers(10)")
    settings = {"mutations_sync": 2, "lightweight_deletes_sync": 2}
    client.command(f"delete from {database}.a where x in (select 3)", settings=settings)
    assert client.command(f"select count() from {database}.a") == 9
    client.command(f"rename table {database}.b to {database}.c")
    settings = client.query("select name, value, readonly from system.settings").result_rows
    assert len(settings) > 1000
    create = client.command(f"show create table {database}.c")
    assert "ENGINE = MergeTree" in create
    assert client.query(f"describe table {database}.c").result_rows[0][:2] == ("x", "UInt8")
    engine = f"select engine from system.databases where name = '{database}'"
    assert client.command(engine) == "Atomic"
