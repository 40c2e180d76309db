"""Arrow columns become the JSON that the logger would write."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.json_columns import (
    ColumnError,
    json_objects,
    json_values,
    plain_texts,
    time_texts,
)

MOMENT = datetime(2013, 1, 1, 10, 0, 0, 123_999, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def read(column: pa.Array) -> list[Any]:
    return [json.loads(text) for text in json_values(column, "column").to_pylist()]


@given(st.lists(st.none() | TEXTS))
def test_texts_come_back(values: list[str | None]) -> None:
    assert read(pa.array(values, pa.string())) == values
    assert read(pa.array(values, pa.string()).dictionary_encode()) == values
    assert read(pa.array(values, pa.large_string())) == values


@given(st.lists(st.none() | st.floats()))
def test_finite_numbers_come_back_and_others_are_null(values: list[float | None]) -> None:
    expected = [value if value is not None and np.isfinite(value) else None for value in values]
    assert read(pa.array(values, pa.float64(), from_pandas=False)) == expected


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_integers_come_back(values: list[int | None]) -> None:
    assert read(pa.array(values, pa.int64())) == values


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_float32_is_what_a_model_server_logs(values: list[float]) -> None:
    found = read(pa.array(np.array(values, np.float32)))
    assert found == [float(np.float32(value)) for value in values]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([True, None, False]), [True, None, False]),
        (pa.array([None, None]), [None, None]),
        (pa.array([Decimal("1.25")]), [1.25]),
        (pa.array([MOMENT]), ["2013-01-01T10:00:00.123Z"]),
        (pa.array([MOMENT.replace(tzinfo=None)]), ["2013-01-01T10:00:00.123Z"]),
        (pa.array([date(2013, 1, 1)]), ["2013-01-01"]),
        (pa.array([timedelta(milliseconds=1500)]), [1.5]),
        (pa.array([b"UA", b"\xff"]), ["UA", "base64:/w=="]),
        (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
        (pa.array([], pa.string()), []),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_type_is_written_as_documented(column: pa.Array, expected: list[Any]) -> None:
    assert read(column) == expected


def test_nested_column_is_refused_by_name() -> None:
    with pytest.raises(ColumnError, match="'embedding' is of type list"):
        json_values(pa.array([[1, 2]]), "embedding")


@given(st.lists(st.tuples(TEXTS, st.integers(-5, 5)), min_size=1, max_size=5))
def test_objects_hold_their_members(members: list[tuple[str, int]]) -> None:
    unique = dict(members)
    columns = [(name, pa.array([str(value)] * 2)) for name, value in unique.items()]
    assert [json.loads(text) for text in json_objects(columns, 2).to_pylist()] == [unique] * 2


def test_object_without_members_is_empty() -> None:
    assert json_objects([], 2).to_pylist() == ["{}", "{}"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2013-01-01T10:00:00Z", None], ["2013-01-01T10:00:00.000Z", None]),
        (["2013-01-01 10:00:00.5"], ["2013-01-01T10:00:00.500Z"]),
        (["2013-01-01"], ["2013-01-01T00:00:00.000Z"]),
        (
            ["2013-01-01T10:00:00+02:00", "2013-01-01T10:00:00"],
            ["2013-01-01T08:00:00.000Z", "2013-01-01T10:00:00.000Z"],
        ),
        (["2013-01-01T10:00:00Z", "soon", "9999-99-99"], ["2013-01-01T10:00:00.000Z", None, None]),
    ],
)
def test_texts_are_read_as_times(values: list[str], expected: list[str | None]) -> None:
    assert time_texts(pa.array(values), "at").to_pylist() == expected


def test_number_is_not_a_time() -> None:
    with pytest.raises(ColumnError, match="'at' is of type int64, not a time"):
        time_texts(pa.array([1]), "at")


def test_segments_are_spelled_like_the_loggers() -> None:
    assert plain_texts(pa.array([7, None]), "s").to_pylist() == ["7", None]
    assert plain_texts(pa.array([True, False]), "s").to_pylist() == ["true", "false"]
    with pytest.raises(ColumnError, match="'s' is of type double"):
        plain_texts(pa.array([7.0]), "s")
