"""Clients that know nothing of the sandbox: clickhouse-connect, pandas, what dbt sends."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import gzip
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect import dbapi
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData
from clickhouse_connect.driver.tools import insert_file

from tests.warehouse_fixtures import ClickHouseProcess


@pytest.mark.parametrize("compression", ["lz4", "zstd", "br", "gzip", False])
def test_insert_and_query_with_each_compression(
    clickhouse_server: ClickHouseProcess, database: str, compression: str | bool
) -> None:
    client = clickhouse_server.client(database=database, compress=compression)
    client.command("create table packed (a UInt32, b String) order by a")
    rows = [[number, f"value {number}"] for number in range(10_000)]
    summary = client.insert("packed", rows, column_names=["a", "b"])
    assert summary.written_rows == 10_000
    assert client.query("select * from packed order by a").result_rows == [tuple(r) for r in rows]
    client.close()


# How each kind of stream is called, and how many rows a piece of it has.
STREAMS: dict[str, Callable[[Any], int]] = {
    "query_row_block_stream": len,
    "query_column_block_stream": lambda block: len(block[0]),
    "query_np_stream": len,
    "query_df_stream": len,
    "query_arrow_stream": lambda batch: int(batch.num_rows),
    "query_df_arrow_stream": len,
}


@pytest.mark.parametrize("kind", STREAMS)
def test_result_streams_in_pieces(client: Any, kind: str) -> None:
    with getattr(client, kind)("select number from numbers(1000000)") as pieces:
        sizes = [STREAMS[kind](piece) for piece in pieces]
    assert sum(sizes) == 1_000_000
    assert len(sizes) > 5


def test_result_streams_row_by_row(client: Any) -> None:
    with client.query_rows_stream("select number from numbers(100000)") as rows:
        assert sum(row[0] for row in rows) == sum(range(100_000))


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
    at = dt.datetime.fromisoformat("2024-01-02 03:04:05.678")
    result = client.query(
        "select {a:Int32} + 1, {b:String}, {c:Array(String)}, {d:DateTime64(3)}, "
        "{e:Nullable(Int8)}",
        parameters={"a": 4, "b": "tab\t'quote'\\ 'n'\n", "c": ["it's", "a\nb"], "d": at, "e": None},
    )
    assert result.first_row == (5, "tab\t'quote'\\ 'n'\n", ["it's", "a\nb"], at, None)


def test_parameters_are_bound_by_the_client(client: Any) -> None:
    row = client.query("select %(a)s, %(b)s", {"a": "it's \\ %", "b": [1, 2]}).first_row
    assert row == ("it's \\ %", [1, 2])


def test_identifier_and_binary_parameters_are_bound(client: Any) -> None:
    table = {"database": "system", "table": "one"}
    assert client.query("select * from {database:Identifier}.{table:Identifier}", table)
    result = client.query("select hex($raw$) as a", {"$raw$": b"\xff\x00"})
    assert result.first_row == ("FF00",)


@pytest.mark.parametrize(
    ("statement", "code", "name"),
    [
        ("select nope", 47, "UNKNOWN_IDENTIFIER"),
        ("selct", 62, "SYNTAX_ERROR"),
        ("select * from no_such_table", 60, "UNKNOWN_TABLE"),
        ("select throwIf(1)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("select throwIf(number = 90000) from numbers(100000)", 395, "FUNCTION_THROW_IF"),
        ("create table d (a UInt8) engine = Nope", 56, "UNKNOWN_STORAGE"),
        ("select sleepEachRow(0.5) from numbers(5) settings max_execution_time = 0.2", 159,
         "TIMEOUT_EXCEEDED"),
    ],
)  # fmt: skip
def test_error_has_code_and_name(client: Any, statement: str, code: int, name: str) -> None:
    with pytest.raises(DatabaseError, match=name) as raised:
        client.query(statement)
    assert raised.value.code == code


def test_settings_of_client_and_query(clickhouse_server: ClickHouseProcess) -> None:
    with clickhouse_server.client(settings={"max_block_size": 71}) as client:
        statement = "select getSetting('max_block_size'), getSetting('max_execution_time')"
        assert client.query(statement).first_row == (71, 0)
        client.set_client_setting("max_execution_time", 33)
        assert client.get_client_setting("max_execution_time") == "33"
        assert client.query(statement, settings={"max_block_size": 72}).first_row == (72, 33)
        assert client.query(statement).first_row == (71, 33)


def test_client_learns_about_the_server(client: Any) -> None:
    assert client.ping()
    assert client.server_version == client.command("select version()")
    assert client.min_version("24.1")
    assert client.server_tz is not None
    assert client.query("select 1 as a, 'x' as b").named_results().__next__() == {"a": 1, "b": "x"}


def test_query_limit_of_the_client_holds(clickhouse_server: ClickHouseProcess) -> None:
    with clickhouse_server.client(query_limit=10) as client:
        assert len(client.query("select number from numbers(1000)").result_rows) == 10


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


def test_columns_go_in_and_out(client: Any, database: str) -> None:
    table = f"{database}.columns"
    client.command(f"create table {table} (a UInt32, b Nullable(String)) order by a")
    columns = [list(range(10_000)), [None if n % 2 else str(n) for n in range(10_000)]]
    client.insert(table, columns, column_names=["a", "b"], column_oriented=True)
    back = client.query(f"select a, b from {table} order by a", column_oriented=True)
    assert [list(column) for column in back.result_columns] == columns


def test_insert_context_is_used_again(client: Any, database: str) -> None:
    client.command(f"create table {database}.again (a UInt32, b String default 'x') order by a")
    context = client.create_insert_context("again", ["a"], database=database)
    for number in range(3):
        client.insert(context=context, data=[[number]])
    result = client.query(f"select * from {database}.again order by a")
    assert result.result_rows == [(0, "x"), (1, "x"), (2, "x")]


def test_frames_of_pandas_own_types_go_in_and_out(client: Any, database: str) -> None:
    table = f"{database}.extended"
    client.command(
        f"create table {table} (a Nullable(Int64), b Nullable(Bool), c LowCardinality(String), "
        "d Nullable(DateTime64(6, 'UTC'))) order by tuple()"
    )
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None, 2**53 + 1], dtype="Int64"),
            "b": pd.array([True, None, False], dtype="boolean"),
            "c": pd.Categorical(["x", "y", "x"]),
            "d": pd.DatetimeIndex(["2024-07-01 10:00:00.000001", None, "1999-12-31"], tz="UTC"),
        }
    )
    client.insert_df(table, frame)
    back = client.query_df(f"select * from {table}")
    assert back["a"].tolist() == frame["a"].tolist()
    assert back["b"].tolist() == [True, None, False]
    assert back["c"].tolist() == ["x", "y", "x"]
    assert back["d"].isna().tolist() == [False, True, False]
    assert back["d"].dropna().dt.tz_localize("UTC").tolist() == frame["d"].dropna().tolist()


def test_frames_over_arrow_go_in_and_out(client: Any, database: str) -> None:
    table = f"{database}.arrow_frames"
    client.command(f"create table {table} (a UInt32, b String) order by a")
    frame = pd.DataFrame(
        {"a": pd.array([1, 2], "uint32[pyarrow]"), "b": pd.array(["x", "y"], "string[pyarrow]")}
    )
    frame["b"] = frame["b"].astype(pd.ArrowDtype(pa.string()))
    client.insert_df_arrow(table, frame)
    back = client.query_df_arrow(f"select * from {table} order by a")
    assert back["a"].tolist() == [1, 2]
    assert back["b"].tolist() == ["x", "y"]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_file_goes_in(client: Any, database: str, tmp_path: Path, compression: str | None) -> None:
    client.command(f"create table {database}.filed (a UInt32, b String) order by a")
    path = tmp_path / "rows.csv"
    content = b"a,b\n1,x\n2,y\n"
    path.write_bytes(gzip.compress(content) if compression else content)
    insert_file(client, f"{database}.filed", str(path), compression=compression)
    assert client.query(f"select * from {database}.filed").result_rows == [(1, "x"), (2, "y")]


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


def test_several_external_tables_are_joined(client: Any) -> None:
    data = ExternalData(
        file_name="cities", data=b"1\tRome\n2\tOslo\n", fmt="TSV", types=["UInt8", "String"]
    )
    people = pa.BufferOutputStream()
    with pa.ipc.new_file(people, pa.schema([("city", pa.uint8()), ("name", pa.string())])) as out:
        out.write_table(pa.table({"city": pa.array([2], pa.uint8()), "name": ["\r\n--Åse"]}))
    data.add_file(
        file_name="people", data=people.getvalue().to_pybytes(), fmt="Arrow",
        structure="city UInt8, name String",
    )  # fmt: skip
    result = client.query(
        "select _2, name from cities join people on _1 = city", external_data=data
    )
    assert result.result_rows == [("Oslo", "\r\n--Åse")]


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
