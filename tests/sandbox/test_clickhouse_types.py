"""Every type of ClickHouse through clickhouse-connect's Native format, both ways."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import math
import re
import uuid
from typing import Any

import numpy as np
import pytest
from clickhouse_connect.datatypes.base import type_map
from clickhouse_connect.datatypes.dynamic import typed_variant

INT = {bits: [-(2 ** (bits - 1)), -1, 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64, 128, 256)}
UINT = {bits: [0, 1, 2**bits - 1] for bits in INT}


def moment(text: str) -> dt.datetime:
    """Give a time as clickhouse-connect does: in UTC, without saying so."""
    return dt.datetime.fromisoformat(text)


TRIANGLE = [(0.0, 0.0), (1.5, 0.0), (0.0, -1.5)]
INSERTED: list[tuple[str, list[Any]]] = [
    *((f"Int{bits}", values) for bits, values in INT.items()),
    *((f"UInt{bits}", values) for bits, values in UINT.items()),
    ("Bool", [True, False]),
    ("Float32", [1.5, -0.25, math.inf]),
    ("Float64", [1e300, -math.inf, 5e-324]),
    ("BFloat16", [1.5, -0.25]),
    ("Decimal(9, 2)", [decimal.Decimal("-1.01"), decimal.Decimal("9999999.99")]),
    ("Decimal32(4)", [decimal.Decimal("-1.0001")]),
    ("Decimal64(4)", [decimal.Decimal("12345678901.0001")]),
    ("Decimal128(6)", [decimal.Decimal("-1.000001"), decimal.Decimal("12345678901234.5")]),
    ("Decimal256(10)", [decimal.Decimal(10) ** 60 + decimal.Decimal("0.5"), decimal.Decimal(-1)]),
    ("String", ["", "né; 'quoted' \\ \t\n\0 🐟"]),
    ("FixedString(4)", [b"abcd", b"a\0\0\0"]),
    ("LowCardinality(String)", ["a", "b", "a"]),
    ("LowCardinality(FixedString(2))", [b"ab", b"cd"]),
    ("LowCardinality(Nullable(String))", [None, "x"]),
    ("Nullable(String)", [None, "x"]),
    ("Nullable(Decimal(9, 2))", [None, decimal.Decimal("1.5")]),
    ("Nullable(UUID)", [None, uuid.UUID(int=7)]),
    ("Date", [dt.date(1970, 1, 1), dt.date(2149, 6, 6)]),
    ("Date32", [dt.date(1900, 1, 1), dt.date(2299, 12, 31)]),
    ("Time", [dt.timedelta(hours=-999, minutes=-59), dt.timedelta(seconds=1)]),
    ("Time64(6)", [dt.timedelta(hours=25, microseconds=7), dt.timedelta(microseconds=-1)]),
    ("DateTime('UTC')", [moment("2024-01-02 03:04:05"), moment("1970-01-01")]),
    ("DateTime64(3, 'UTC')", [moment("2024-01-02 03:04:05.678"), moment("1980-01-01")]),
    ("DateTime64(6, 'UTC')", [moment("1900-01-01"), moment("2261-12-31 23:59:59.999999")]),
    ("UUID", [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)]),
    ("IPv4", [ipaddress.IPv4Address("10.0.0.1"), ipaddress.IPv4Address("255.0.0.1")]),
    ("IPv6", [ipaddress.IPv6Address("::1"), ipaddress.IPv6Address("2001:db8::2")]),
    ("Enum('a' = 1, 'b' = -2)", ["a", "b"]),
    ("Enum8('a' = 1, 'it\\'s' = -2)", ["a", "it's"]),
    ("Enum16('a' = 1000, 'b' = -2000)", ["a", "b"]),
    ("Array(Array(Nullable(Float64)))", [[], [[1.0, None], []]]),
    ("Array(LowCardinality(Nullable(String)))", [["a", None], []]),
    ("Map(LowCardinality(String), Float64)", [{}, {"a": 1.5, "b": -2.0}]),
    ("Map(String, Array(UInt8))", [{"a": [1, 2]}, {}]),
    ("Tuple(name String, value Nullable(UInt8))", [{"name": "a", "value": None}] * 2),
    ("Tuple(String, UInt32)", [("a", 1), ("", 0)]),
    ("Array(Tuple(String, UInt32))", [[("a", 1)], []]),
    ("Nested(k String, n UInt8)", [[{"k": "a", "n": 1}, {"k": "b", "n": 2}], []]),
    ("SimpleAggregateFunction(sum, UInt64)", [7, 2**64 - 1]),
    ("SimpleAggregateFunction(groupArrayArray, Array(String))", [["a"], []]),
    ("JSON", [{"a": {"b": [1, 2]}}, {"c": "x"}]),
    ("JSON(a UInt8)", [{"a": 1, "b": True}, {"a": 0}]),
    ("Variant(String, UInt64)", ["x", 7, None]),
    ("Dynamic", ["x", "7"]),  # the client writes text only; other members are selected below
    ("Point", [(1.5, -2.5)]),
    ("Ring", [TRIANGLE, []]),
    ("LineString", [TRIANGLE]),
    ("MultiPoint", [TRIANGLE]),
    ("Polygon", [[TRIANGLE], []]),
    ("MultiLineString", [[TRIANGLE, TRIANGLE]]),
    ("MultiPolygon", [[[TRIANGLE]], []]),
    ("QBit(Float32, 4)", [[1.0, -2.0, 0.5, 0.0]]),
]
# What cannot be, or is not, stored: as an expression, and what comes of it.
SELECTED: list[tuple[str, Any]] = [
    *(
        (f"toInterval{unit}(-3)", -3)
        for unit in (
            *("Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"),
            *("Day", "Week", "Month", "Quarter", "Year"),
        )
    ),
    ("null", None),
    ("[]", []),
    ("7::UInt16::Dynamic", 7),
    ("null::Dynamic", None),
    ("[map('a', 1.5)]::Dynamic", [{"a": 1.5}]),
    ("(1.5, 2.5)::Geometry", (1.5, 2.5)),
]
NOT_ROUND_TRIPPED = {
    "AggregateFunction": "clickhouse-connect has no codec for states of aggregate functions",
    "Boolean": "another name for Bool, under which no server sends a column",
    "SharedDataString": "inside of Dynamic and JSON only",
    "SharedVariant": "inside of Dynamic and JSON only",
}


@pytest.mark.parametrize(("kind", "values"), INSERTED, ids=[kind for kind, _ in INSERTED])
def test_type_comes_back_as_inserted(
    client: Any, database: str, kind: str, values: list[Any]
) -> None:
    table = f"{database}.typed"
    settings = {
        "allow_experimental_qbit_type": 1,
        "enable_time_time64_type": 1,
        "flatten_nested": 0,
        "allow_suspicious_low_cardinality_types": 1,
    }
    client.command(f"create table {table} (n UInt8, v {kind}) order by n", settings=settings)
    client.insert(table, list(enumerate(values)), column_names=["n", "v"])
    result = client.query(f"select v from {table} order by n")
    assert [row[0] for row in result.result_rows] == values


@pytest.mark.parametrize(("expression", "expected"), SELECTED)
def test_type_that_is_not_stored_can_be_selected(
    client: Any, expression: str, expected: Any
) -> None:
    assert client.query(f"select {expression}").first_row == (expected,)


def test_every_type_that_the_client_knows_is_tried() -> None:
    tried = {word for kind, _ in INSERTED for word in re.findall(r"\w+", kind)}
    tried |= {f"Interval{unit}" for unit in re.findall(r"toInterval(\w+)", str(SELECTED))}
    tried |= {"Geometry", "Nothing"}
    assert set(type_map) - tried == set(NOT_ROUND_TRIPPED)


def test_member_of_a_variant_can_be_named(client: Any, database: str) -> None:
    table = f"{database}.variants"
    client.command(f"create table {table} (n UInt8, v Variant(UInt8, UInt64)) order by n",
                   settings={"allow_suspicious_variant_types": 1})  # fmt: skip
    rows = [[0, typed_variant(7, "UInt8")], [1, typed_variant(7, "UInt64")]]
    client.insert(table, rows, column_names=["n", "v"])
    kinds = client.query(f"select variantType(v) from {table} order by n").result_columns[0]
    assert kinds == ["UInt8", "UInt64"]


def test_aggregate_states_are_kept_and_merged(client: Any, database: str) -> None:
    table = f"{database}.states"
    client.command(
        f"create table {table} (k UInt8, s AggregateFunction(uniqExact, UInt64)) "
        "engine = AggregatingMergeTree order by k"
    )
    for _ in range(2):
        client.command(f"insert into {table} select 1, uniqExactState(number) from numbers(10)")
    assert client.command(f"select uniqExactMerge(s) from {table}") == 10


def test_times_come_back_in_the_zone_that_is_asked_for(client: Any) -> None:
    at = client.query(
        "select toDateTime('2024-07-01 12:00:00', 'UTC') as a", query_tz="America/New_York"
    ).first_row[0]
    assert (at.hour, at.utcoffset()) == (8, dt.timedelta(hours=-4))


def test_formats_change_what_python_gets(client: Any) -> None:
    statement = "select toUUID('00000000-0000-0000-0000-000000000001'), toIPv4('10.0.0.1')"
    row = client.query(statement, query_formats={"UUID": "string", "IP*": "string"}).first_row
    assert row == ("00000000-0000-0000-0000-000000000001", "10.0.0.1")


def test_numbers_come_as_numpy(client: Any) -> None:
    matrix = client.query_np("select number, number * 2 from numbers(1000)")
    assert matrix.shape == (1000, 2)
    assert np.array_equal(matrix[:, 1], np.arange(1000, dtype=np.uint64) * 2)
