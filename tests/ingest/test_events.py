"""Events are strict JSON whatever a model hands over."""

from __future__ import annotations

import json
import math
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.events import (
    encode_label,
    encode_prediction,
    encode_truncated,
    format_time,
    milliseconds_of,
    new_event_id,
    repaired,
)

MOMENT = datetime(2026, 11, 22, 10, 0, 0, 123_999, tzinfo=UTC)


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


def strictly_read(value: bytes) -> Any:
    return json.loads(value.decode(), parse_constant=refuse)


def encoded(**given_: Any) -> Any:
    event = encode_prediction(**{"model_name": "m", "model_version": "1", "features": {}, **given_})
    return strictly_read(event.value)


def feature(value: Any) -> Any:
    return encoded(features={"x": value})["features"]["x"]


def test_prediction_has_the_documented_shape() -> None:
    event = encode_prediction(
        model_name="flights_delay",
        model_version="1",
        features={"carrier": "UA", "distance": 1400.0, "is_weekend": True, "wind_gust": None},
        score=0.83,
        label="late",
        prediction_id="id-1",
        predicted_at=MOMENT,
        latency_ms=4.2,
        segments={"origin": "EWR"},
        entity_id="N14228",
        metadata={"pod": "a"},
    )
    assert strictly_read(event.value) == {
        "schema_version": 1,
        "prediction_id": "id-1",
        "model_name": "flights_delay",
        "model_version": "1",
        "predicted_at": "2026-11-22T10:00:00.123Z",
        "features": {"carrier": "UA", "distance": 1400.0, "is_weekend": True, "wind_gust": None},
        "prediction": {"score": 0.83, "label": "late"},
        "status": "ok",
        "latency_ms": 4.2,
        "segments": {"origin": "EWR"},
        "entity_id": "N14228",
        "metadata": {"pod": "a"},
    }
    assert event.prediction_id == "id-1"
    assert not event.was_repaired


def test_what_is_not_given_is_absent() -> None:
    assert set(encoded()) == {
        "schema_version",
        "prediction_id",
        "model_name",
        "model_version",
        "predicted_at",
        "features",
        "prediction",
        "status",
    }


def test_label_has_the_documented_shape() -> None:
    event = encode_label(
        model_name="m", prediction_id="id-1", label=17.0, observed_at=MOMENT, source="batch"
    )
    assert strictly_read(event.value) == {
        "schema_version": 1,
        "prediction_id": "id-1",
        "model_name": "m",
        "label": 17.0,
        "observed_at": "2026-11-22T10:00:00.123Z",
        "source": "batch",
    }


class Colour(Enum):
    RED = "red"


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (np.float32(0.1), 0.10000000149011612),
        (np.float64("nan"), "NaN"),
        (np.float16("inf"), "Infinity"),
        (np.longdouble("nan"), "NaN"),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), "a"),
        (np.datetime64("2026-11-22T10:00:00.123999"), "2026-11-22T10:00:00.123Z"),
        (np.datetime64("NaT"), None),
        (np.timedelta64(1500, "ms"), 1.5),
        (np.array([1.0, np.nan]), [1.0, "NaN"]),
        (np.array(2.5), 2.5),
        (pd.NaT, None),
        (pd.NA, None),
        (pd.Timestamp(MOMENT), "2026-11-22T10:00:00.123Z"),
        (Decimal("1.25"), 1.25),
        (Decimal("sNaN"), "NaN"),
        (Decimal("1e400"), "Infinity"),
        (Fraction(1, 4), 0.25),
        (10**400, "Infinity"),
        (-(10**30), -1e30),
        (2**64 - 1, 2**64 - 1),
        (MOMENT, "2026-11-22T10:00:00.123Z"),
        (MOMENT.replace(tzinfo=None), "2026-11-22T10:00:00.123Z"),
        (MOMENT.astimezone(timezone(timedelta(hours=-5))), "2026-11-22T10:00:00.123Z"),
        (date(2026, 11, 22), "2026-11-22"),
        (timedelta(seconds=2, milliseconds=500), 2.5),
        (b"UA", "UA"),
        (b"\xff", "base64:/w=="),
        (bytearray(b"UA"), "UA"),
        ("lone \ud800", "lone \ufffd"),
        ("\x00é", "\x00é"),
        (Colour.RED, "red"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        ({"b": {1}}, {"b": [1]}),
        ({1: math.nan, (1, 2): 3}, {"1": "NaN", "[1,2]": 3}),
        (range(2), [0, 1]),
        (1 + 2j, "(1+2j)"),
        (Hostile(), "<Hostile>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_value_is_converted_as_documented(value: Any, expected: Any) -> None:
    found = feature(value)
    assert found == expected
    assert type(found) is type(expected)


def test_cycle_ends_at_the_depth_limit() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert "…" in json.dumps(feature(loop), ensure_ascii=False)


def test_pandas_row_is_taken_as_features() -> None:
    row = pd.DataFrame({"a": [1], "b": ["x"]}).iloc[0]
    assert encoded(features=row)["features"] == {"a": 1, "b": "x"}


def test_segments_are_texts_and_missing_ones_are_left_out() -> None:
    segments = {"a": 7, "b": True, "c": None, "d": math.nan, "e": pd.NA, "f": "NaN", "g": "x"}
    assert encoded(segments=segments)["segments"] == {"a": "7", "b": "true", "f": "NaN", "g": "x"}


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-22T12:00:00+02:00", "2026-11-22T10:00:00.000Z"),
        (date(2026, 11, 22), "2026-11-22T00:00:00.000Z"),
        (np.datetime64("2026-11-22"), "2026-11-22T00:00:00.000Z"),
        ("yesterday", "yesterday"),
        (pd.NaT, "NaT"),
        (12, "12"),
    ],
)
def test_time_is_read_or_kept_for_the_warehouse_to_reject(moment: Any, expected: str) -> None:
    event = encode_prediction(model_name="m", model_version="1", features={}, predicted_at=moment)
    assert strictly_read(event.value)["predicted_at"] == expected
    assert event.was_repaired == (not expected.startswith("2026"))


JSON_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.timedeltas()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.integers() | st.floats() | st.none(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON_SCALARS))
def test_plain_values_arrive_as_they_were(features: dict[str, Any]) -> None:
    event = encode_prediction(model_name="m", model_version="1", features=features)
    assert strictly_read(event.value)["features"] == features
    assert not event.was_repaired


@given(st.dictionaries(st.text(st.characters()), ANYTHING, max_size=4))
def test_anything_becomes_strict_json(features: dict[str, Any]) -> None:
    event = encode_prediction(
        model_name="m", model_version="1", features=features, metadata={"inner": features}
    )
    strictly_read(event.value)


@given(ANYTHING)
def test_repair_changes_nothing_the_second_time(value: Any) -> None:
    once = repaired(value)
    assert repaired(once) == once


@given(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_time_is_written_with_floored_milliseconds(moment: datetime) -> None:
    written = format_time(milliseconds_of(moment))
    back = datetime.fromisoformat(written)
    assert timedelta(0) <= moment - back < timedelta(milliseconds=1)
    assert len(written) == 24


@given(st.integers(0, 2**48 - 1))
def test_id_is_a_uuid7_of_its_time(milliseconds: int) -> None:
    identifier = uuid.UUID(new_event_id(milliseconds))
    assert identifier.version == 7
    assert identifier.variant == uuid.RFC_4122
    assert identifier.int >> 80 == milliseconds


def test_ids_are_distinct_and_sort_by_predicted_at() -> None:
    ids = [new_event_id(1_000_000 + step) for step in range(2000)]
    assert sorted(ids) == ids
    assert len({new_event_id(5) for _ in range(20_000)}) == 20_000


def test_truncated_event_says_what_it_was() -> None:
    event = encode_prediction(model_name="m", model_version="1", features={"x": "y" * 5000})
    marker = strictly_read(encode_truncated(event, model_name="m", model_version="1"))
    assert marker["is_truncated"] is True
    assert marker["original_bytes"] == len(event.value)
    assert marker["prediction_id"] == event.prediction_id
    assert marker["predicted_at"] == event.occurred_at
    assert "features" not in marker


def is_repaired(features: Any, **given_: Any) -> bool:
    return encode_prediction(
        model_name="m", model_version="1", features=features, **given_
    ).was_repaired


def test_missing_values_among_numpy_ones_are_no_repair() -> None:
    features = {
        "a": None,
        "b": np.float64(0.5),
        "c": np.int64(3),
        "d": np.float32(0.5),
        "e": "null",
    }
    assert not is_repaired(features)
    assert encoded(features=features)["features"] == {
        "a": None,
        "b": 0.5,
        "c": 3,
        "d": 0.5,
        "e": "null",
    }


def test_numpy_text_as_a_key_is_no_repair() -> None:
    features = {np.str_("a"): 1.0}
    assert not is_repaired(features)
    assert encoded(features=features)["features"] == {"a": 1.0}


@pytest.mark.parametrize(
    "odd", [math.nan, np.float64("nan"), np.float32("inf"), [1.0, math.nan], np.array([math.inf])]
)
def test_value_that_is_not_finite_never_becomes_null(odd: Any) -> None:
    assert is_repaired({"x": odd})
    assert "null" not in json.dumps(feature(odd))
    assert is_repaired({"x": None}, metadata={"deep": [{"er": odd}]})


@pytest.mark.parametrize("wide", [2**64, -(2**63) - 1])
def test_wide_integer_becomes_a_float_wherever_it_is(wide: int) -> None:
    assert is_repaired({}, metadata={"x": [wide]})
    found = encoded(metadata={"x": [wide]})["metadata"]["x"][0]
    assert isinstance(found, float)
    assert found == float(wide)


@pytest.mark.parametrize("edge", [2**64 - 1, -(2**63)])
def test_integer_of_64_bits_stays(edge: int) -> None:
    assert not is_repaired({"x": edge})
    assert feature(edge) == edge
