"""clickhouse-connect's asynchronous client, which goes through aiohttp instead of urllib3."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import clickhouse_connect
import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from tests.warehouse_fixtures import ClickHouseProcess

Result = TypeVar("Result")


def with_client(
    server: ClickHouseProcess, work: Callable[[Any], Awaitable[Result]], **options: Any
) -> Result:
    """Do `work` with a client in an event loop of its own."""

    async def run() -> Result:
        client = await clickhouse_connect.get_async_client(
            host=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            **options,
        )
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(run())


async def read_all(client: Any, statement: str) -> None:
    async with await client.query_row_block_stream(statement) as blocks:
        async for _ in blocks:
            pass


def test_many_queries_run_at_once(clickhouse_server: ClickHouseProcess) -> None:
    async def work(client: Any) -> list[int]:
        results = await asyncio.gather(*(client.query(f"select {n}") for n in range(32)))
        return [row[0] for result in results for row in result.result_rows]

    numbers = with_client(clickhouse_server, work, autogenerate_session_id=False)
    assert numbers == list(range(32))


@pytest.mark.parametrize("compression", ["lz4", "zstd", "br", "gzip", False])
def test_rows_columns_frames_and_arrow_go_in_and_out(
    clickhouse_server: ClickHouseProcess, database: str, compression: str | bool
) -> None:
    async def work(client: Any) -> None:
        await client.command("create table kept (a UInt32, b String) order by a")
        await client.insert("kept", [[1, "x"], [2, "y"]], column_names=["a", "b"])
        await client.insert("kept", [[3], ["z"]], column_names=["a", "b"], column_oriented=True)
        await client.insert_df("kept", pd.DataFrame({"a": [4], "b": ["df"]}))
        rows = pa.table({"a": pa.array([5], pa.uint32()), "b": ["arrow"]})
        await client.insert_arrow("kept", rows)
        await client.raw_insert("kept", insert_block=b"6,raw\n", fmt="CSV")
        statement = "select * from kept order by a"
        expected = [(1, "x"), (2, "y"), (3, "z"), (4, "df"), (5, "arrow"), (6, "raw")]
        assert (await client.query(statement)).result_rows == expected
        assert (await client.query_df(statement))["b"].tolist() == [row[1] for row in expected]
        arrow = await client.query_arrow(statement, use_strings=True)
        assert arrow.column("b").to_pylist() == [row[1] for row in expected]
        assert await client.raw_query("select count() from kept", fmt="TSV") == b"6\n"

    with_client(clickhouse_server, work, database=database, compress=compression)


def test_results_stream(clickhouse_server: ClickHouseProcess) -> None:
    async def work(client: Any) -> tuple[int, int]:
        rows = batches = 0
        statement = "select number from numbers(500000)"
        async with await client.query_row_block_stream(statement) as blocks:
            async for block in blocks:
                rows += len(block)
        async with await client.query_arrow_stream(statement) as stream:
            async for batch in stream:
                batches += batch.num_rows
        return rows, batches

    assert with_client(clickhouse_server, work) == (500_000, 500_000)


def test_parameters_settings_and_external_data_are_sent(
    clickhouse_server: ClickHouseProcess,
) -> None:
    async def work(client: Any) -> tuple[Any, Any]:
        data = ExternalData(
            file_name="cities", data=b"1,Rome\n2,Oslo\n", fmt="CSV",
            structure="id UInt8, city String",
        )  # fmt: skip
        city = await client.query(
            "select city from cities where id = {id:UInt8}", {"id": 2}, external_data=data
        )
        setting = await client.query(
            "select getSetting('max_block_size')", settings={"max_block_size": 77}
        )
        return city.first_row, setting.first_row

    assert with_client(clickhouse_server, work) == (("Oslo",), (77,))


def test_session_keeps_temporary_tables(clickhouse_server: ClickHouseProcess) -> None:
    async def work(client: Any) -> int:
        await client.command("create temporary table kept (a UInt8)")
        await client.insert("kept", [[1], [2]], column_names=["a"])
        total: int = await client.command("select sum(a) from kept")
        return total

    assert with_client(clickhouse_server, work, session_id="asynchronous") == 3


def test_errors_are_raised_and_leave_the_client_usable(
    clickhouse_server: ClickHouseProcess,
) -> None:
    async def work(client: Any) -> int:
        with pytest.raises(DatabaseError, match="UNKNOWN_IDENTIFIER") as raised:
            await client.query("select nope")
        assert raised.value.code == 47
        statement = "select throwIf(number = 5000000), number from numbers(10000000)"
        # What broke it off is at the end of what the client throws away with the rest.
        with pytest.raises(StreamFailureError):
            await read_all(client, statement)
        one: int = await client.command("select 1")
        return one

    assert with_client(clickhouse_server, work, autogenerate_session_id=False) == 1


def test_cancelled_query_leaves_the_client_usable(clickhouse_server: ClickHouseProcess) -> None:
    async def work(client: Any) -> int:
        endless = asyncio.create_task(
            client.query("select sum(cityHash64(number)) from numbers(100000000000)")
        )
        running = "select count() from system.processes where query like '%sum(cityHash64%'"
        async with asyncio.timeout(30):
            while await client.command(running) < 2:  # this question is one itself
                await asyncio.sleep(0.02)
            endless.cancel()
            while await client.command(running) > 1:
                await asyncio.sleep(0.02)
        one: int = await client.command("select 1")
        return one

    assert with_client(clickhouse_server, work, autogenerate_session_id=False) == 1
