"""What a Python model may return, checked without dbt and without a server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from dbt.adapters.clickhousepy.returned_columns import (
    CheckedTable,
    DeclaredColumns,
    ReturnedColumnsError,
)

MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
VALUES: dict[str, list[Any]] = {
    "text": ["a", ""],
    "low": ["x", None],
    "whole": [1, None],
    "real": [0.5, None],
    "flag": [True, False],
    "moment": [MOMENT, None],
    "day": [date(2024, 1, 2), date(2024, 1, 3)],
    "price": [Decimal("1.50"), Decimal("2.00")],
    "list": [[1.0, None], []],
    "nested": [[[1], []], []],
    "names": [["a", "b"], []],
}
TYPES: dict[str, str | None] = {
    "text": "String",
    "low": "LowCardinality(Nullable(String))",
    "whole": "Nullable(Int32)",
    "real": "Nullable(Float64)",
    "flag": "Bool",
    "moment": "Nullable(DateTime64(3, 'UTC'))",
    "day": "Date",
    "price": "Decimal(10, 2)",
    "list": "Array(Nullable(Float64))",
    "nested": "Array(Array(UInt16))",
    "names": "Array(LowCardinality(String))",
}


def declared(types: dict[str, str | None]) -> DeclaredColumns:
    return DeclaredColumns("spending", "models/schema.yml", types)


def checked(types: dict[str, str | None], result: object) -> CheckedTable:
    [table] = declared(types).checked_tables(result)
    return table


FRAMES: dict[str, Callable[[], object]] = {
    "pandas": lambda: pd.DataFrame(VALUES),
    "pandas of Arrow": lambda: pd.DataFrame(VALUES).convert_dtypes(dtype_backend="pyarrow"),
    "polars": lambda: pl.DataFrame(VALUES, strict=False),
    "Arrow table": lambda: pa.table(VALUES),
    "Arrow batch": lambda: pa.RecordBatch.from_pydict(VALUES),
    "Arrow reader": lambda: pa.table(VALUES).to_reader(),
    "iterator": lambda: iter([pl.DataFrame(VALUES, strict=False)]),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frame_of_any_library_holds_the_same_values_in_the_declared_types(kind: str) -> None:
    table = checked(TYPES, FRAMES[kind]())
    assert table.types == TYPES
    assert table.rows.schema.field("moment").type == pa.timestamp("ms", "UTC")
    assert table.rows.schema.field("whole").type == pa.int32()
    assert table.rows.schema.field("price").type == pa.decimal128(10, 2)
    assert table.rows.to_pydict() == VALUES


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_empty_frame_takes_the_declared_types(frame: Any) -> None:
    table = checked(TYPES, frame({name: [] for name in TYPES}))
    assert table.rows.num_rows == 0
    assert table.rows.schema == checked(TYPES, pa.table(VALUES)).rows.schema


def test_empty_frame_without_declared_types_keeps_those_it_has() -> None:
    frame = pd.DataFrame({"n": pd.Series([], dtype="int32")})
    assert checked({}, frame).types == {"n": "Int32"}


def test_polars_columns_without_a_declared_type_take_their_own() -> None:
    frame = pl.DataFrame(
        {
            "n": pl.Series([1, 2], dtype=pl.UInt16),
            "kind": pl.Series(["a", None], dtype=pl.Categorical),
            "at": [MOMENT, MOMENT],
            "list": [["a"], []],
        }
    )
    assert checked({}, frame).types == {
        "n": "UInt16",
        "kind": "Nullable(String)",
        "at": "DateTime64(6, 'UTC')",
        "list": "Array(Nullable(String))",
    }


@pytest.mark.parametrize(
    ("later", "complaint"),
    [
        ({"n": [None, 2]}, "column `n`: expected Int64, found 1 nulls (the first in row 0)"),
        ({"n": [1.5]}, "column `n`: expected Int64, found double"),
        ({"n": ["1"]}, "column `n`: expected Int64, found large_string"),
        ({"m": [1]}, "column `n`: expected Int64, not returned"),
    ],
    ids=["null", "fraction", "text", "another column"],
)
def test_later_frame_of_other_types_is_refused_as_the_table_has_its_types_by_then(
    later: dict[str, list[Any]], complaint: str
) -> None:
    tables = declared({}).checked_tables(iter([pl.DataFrame({"n": [1]}), pl.DataFrame(later)]))
    assert next(tables).types == {"n": "Int64"}
    with pytest.raises(ReturnedColumnsError) as refused:
        next(tables)
    assert complaint in str(refused.value)
    assert "Python model `spending`" in str(refused.value)


def test_whole_floats_and_integers_of_another_width_are_not_refused_later() -> None:
    tables = declared({}).checked_tables(
        iter([pa.table({"n": [1]}), pa.table({"n": [2.0]}), pa.table({"n": pa.array([3], "int8")})])
    )
    assert [table.rows["n"].to_pylist() for table in tables] == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        ({"n": ["1"]}, "column `n`: expected Int32, found large_string"),
        ({"n": [1.5]}, "column `n`: expected Int32, found double: Float value 1.500000 was"),
        (
            {"n": [2**40]},
            "column `n`: expected Int32, found int64: Integer value 1099511627776 not",
        ),
        ({"n": [1, None]}, "column `n`: expected Int32, found 1 nulls (the first in row 1)"),
        ({"n": [object()]}, "column `n`: expected Int32, found"),
        ({}, "column `n`: expected Int32, not returned"),
        ({"n": [1], "m": [1]}, "column `m`: not declared, found int64"),
    ],
    ids=["text", "fraction", "overflow", "null", "object", "missing", "extra"],
)
def test_column_of_a_pandas_frame_that_does_not_fit_is_named(
    returned: dict[str, list[Any]], complaint: str
) -> None:
    with pytest.raises(ReturnedColumnsError) as refused:
        checked({"n": "Int32"}, pd.DataFrame(returned))
    assert complaint in str(refused.value)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize("kind", ["Array(String)", "Map(String, UInt8)", "Tuple(a UInt8)"])
def test_numbers_in_place_of_a_container_are_refused_by_name(frame: Any, kind: str) -> None:
    with pytest.raises(ReturnedColumnsError) as refused:
        checked({"tags": kind}, frame({"tags": [1.5, 2.5]}))
    assert f"column `tags`: expected {kind}, found" in str(refused.value)


@pytest.mark.parametrize("frame", [pl.DataFrame, pa.table])
def test_columns_that_do_not_fit_name_model_column_expected_and_found(frame: Any) -> None:
    with pytest.raises(ReturnedColumnsError) as refused:
        checked(
            {"n": "UInt8", "x": "Float64", "tags": "Array(String)"},
            frame({"n": [300], "tags": [["a", None]], "y": ["more"]}),
        )
    message = str(refused.value)
    assert "Python model `spending` returned columns that do not fit models/schema.yml" in message
    assert "column `n`: expected UInt8, found int64" in message
    assert "300 not in range" in message
    assert "column `x`: expected Float64, not returned" in message
    assert "column `tags`: expected Array(String), found inside it, 1 nulls" in message
    assert "column `y`: not declared, found" in message
