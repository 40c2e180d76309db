"""Nothing that a client sends crashes the server, hangs it or makes it fail: it is refused.

Few cases each in `make test`, thousands in `make conformance`, the same every time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sandbox.clickhouse_http import Answer, PlainHttp
from tests.sandbox.hostile_requests import (
    HostileRequest,
    answer_to_bytes,
    ask,
    damaged,
    hostile_requests,
)
from tests.warehouse_fixtures import ClickHouseProcess

# The limit of a query's memory, which damaged lengths may reach: the server's to say, in ClickHouse
# with status 500.
MEMORY_LIMIT = "241"
# What the engine itself calls a bug, and what a server says that has not read the error.
BUGS = {"49", "1000", "1001", "1002"}
COLUMNS = (
    "a UInt32, b String, c Nullable(Float64), d Array(String), e DateTime64(3), "
    "f LowCardinality(String), g Map(String, UInt8), h Decimal(18, 4), i UUID"
)
ROWS = (
    "select toUInt32(number) as a, toString(number) as b, if(number % 2, null, number / 3) as c, "
    "[b, ''] as d, toDateTime64(number, 3) as e, toLowCardinality(b) as f, map(b, 7) as g, "
    "toDecimal64(number, 4) as h, toUUID('00000000-0000-0000-0000-00000000000a') as i "
    "from numbers(5)"
)
PLAIN_ROWS = "select toUInt32(number) as a, toString(number) as b from numbers(5)"


class Target:
    """A server to be hostile to. Not a dataclass: hypothesis would write all of it out."""

    def __init__(self, server: ClickHouseProcess) -> None:
        self.server = server
        self.admin = PlainHttp(server, server.user, server.password)
        self.analyst = PlainHttp(server, server.analyst_user, server.analyst_password)
        # Rows as every format has them: the statement that takes them, and they.
        self.rows: dict[str, tuple[str, bytes]] = {}


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """Run a server of this module's own, and look at what it has gone through at the end."""
    with tempfile.TemporaryDirectory(prefix="driftline-hostile-") as folder:
        server = ClickHouseProcess(Path(folder) / "data").start()
        try:
            target = Target(server)
            admin = target.admin
            admin.query("create database hostile")
            admin.query(
                "create table hostile.kept (a UInt32, b String) order by a as select 1, 'x'"
            )
            admin.query("create table hostile.dropped (a UInt32, b String) engine = Null")
            admin.query(f"create table hostile.wide ({COLUMNS}) engine = Null")
            target.rows = rows_by_format(admin)
            yield target
            assert server.process
            assert server.process.poll() is None, server.log.read_text()[-4000:]
            assert admin.query("select * from hostile.kept") == "1\tx\n"
            assert admin.query("select count() from system.processes") == "1\n"
            assert list((server.data / "spool").iterdir()) == []
            log = server.log.read_text(errors="replace")
            # uvicorn may stumble over its own answer to a HEAD whose body is no HTTP; nothing
            # may come through our code.
            _, ours, what = log.partition("/sandbox/clickhouse_")
            assert not ours, what[:4000]
            assert server.stop() == 0
        finally:
            server.stop()


def rows_by_format(http: PlainHttp) -> dict[str, tuple[str, bytes]]:
    """Give rows in each format that goes both ways without a schema."""
    both = "select name from system.formats where is_input and is_output order by name"
    found = {}
    for name in http.query(both).split():
        for table, rows in (("hostile.wide", ROWS), ("hostile.dropped", PLAIN_ROWS)):
            data = http.ask(f"{rows} format {name}")
            statement = f"insert into {table} format {name}"
            if data.status == 200 and http.ask(data.body, {"query": statement}).status == 200:
                found[name] = statement, data.body
                break
    return found


def check(answer: Answer, what: object) -> None:
    """Fail where the server failed instead of refusing."""
    about = (answer.status, answer.code, answer.body[:500], what)
    assert answer.status != 500 or answer.code == MEMORY_LIMIT, about
    assert answer.status < 500 or answer.code, about
    assert b"Traceback" not in answer.body, about


@given(data=st.data())
def test_hostile_request_is_answered_or_refused(target: Target, data: st.DataObject) -> None:
    by = data.draw(st.sampled_from((target.admin, target.analyst)))
    request = data.draw(hostile_requests(by))
    check(ask(target.server, request), request)


@given(data=st.data())
def test_damaged_http_is_answered_or_refused(target: Target, data: st.DataObject) -> None:
    whole = hostile_requests(target.admin).map(HostileRequest.as_bytes)
    sent = data.draw(st.one_of(st.binary(max_size=50), damaged(whole)))
    answer = answer_to_bytes(target.server, sent)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 "), (sent, answer)
    assert b"HTTP/1.1 500" not in answer, (sent, answer)


@given(data=st.data())
def test_damaged_rows_are_refused_in_every_format(target: Target, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(target.rows)))
    statement, rows = target.rows[name]
    sent = data.draw(damaged(st.just(rows)))
    check(target.admin.ask(sent, {"query": statement}), (name, sent))


# Words out of which statements are made that change nothing.
WORDS = (
    *("select", "from", "where", "group by", "having", "order by", "limit", "union all", "with"),
    *("as", "distinct", "join", "on", "using", "array join", "format", "settings", "in", "not"),
    *("(", ")", "[", "]", ",", ".", "*", "+", "-", "=", "::", "->", "?", ":", "{p:UInt8}", ";"),
    *("1", "0", "-1", "1.5", "nan", "''", "'x'", "null", "a", "b", "hostile.kept", "system.one"),
    *("count()", "sum(a)", "toString", "arrayMap", "tuple", "map", "if", "cast", "over ()", "null"),
    *("JSON", "Native", "Parquet", "Null", "explain", "describe table", "show databases", "exists"),
    *("interval 1 day", "toDate('2024-01-01')", "case when 1 then", "end", "--", "/*", "\n", "`"),
)


@given(
    words=st.lists(st.sampled_from(WORDS), max_size=14),
    read_only=st.booleans(),
    compressed=st.booleans(),
)
def test_any_words_are_answered_or_refused(
    target: Target, words: list[str], read_only: bool, compressed: bool
) -> None:
    by = target.analyst if read_only else target.admin
    answer = by.ask(" ".join(words), {"enable_http_compression": str(int(compressed))})
    # A statement that is well formed and fails has a 500 in ClickHouse, too, but a code.
    assert answer.status < 500 or answer.code, (words, answer)
    assert answer.code not in BUGS, (words, answer)


def test_most_formats_are_among_the_rows(target: Target) -> None:
    assert len(target.rows) > 40
    assert {"Native", "Parquet", "Arrow", "Avro", "ORC", "RowBinary", "JSON"} <= set(target.rows)
