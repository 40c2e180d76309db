"""The published JSON Schemas: what is sent validates, what the warehouse rejects does not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ingest.event_schemas import label_schema, prediction_schema, schema_files
from ingest.events import encode_label, encode_prediction
from tests.dbt_project.test_staging_rejects import LABEL, ODD, PREDICTION, REJECTED
from tests.ingest.test_events import ANYTHING

PUBLISHED = Path(__file__).parents[2] / "docs" / "events"
VALIDATORS = {
    topic: Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for topic, schema in (("predictions", prediction_schema()), ("labels", label_schema()))
}
# For these the bytes are no JSON, or none that ClickHouse takes: a schema never sees them.
NOT_JSON = {"null_value", "empty_value", "invalid_utf8", "invalid_json"}
# Kept, but its score counts as invalid: the schema is stricter there.
STRICTER = {"score-text"}


def problems(topic: str, event: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATORS[topic].iter_errors(event)]


@pytest.mark.parametrize("name", ["prediction.schema.json", "label.schema.json"])
def test_published_schema_is_the_generated_one(name: str) -> None:
    published = (PUBLISHED / name).read_text(encoding="utf-8")
    assert published == schema_files()[name], f"docs/events/{name} is stale: run `make schemas`"


def test_nothing_else_is_published() -> None:
    assert {path.name for path in PUBLISHED.iterdir()} == schema_files().keys()


@pytest.mark.parametrize("topic", VALIDATORS)
def test_schema_is_itself_valid(topic: str) -> None:
    Draft202012Validator.check_schema(VALIDATORS[topic].schema)


@pytest.mark.parametrize(("topic", "event"), [("predictions", PREDICTION), ("labels", LABEL)])
def test_ordinary_event_is_valid(topic: str, event: Mapping[str, Any]) -> None:
    assert problems(topic, event) == []


# What dbt rejects is tested there on the same bytes, and that no reason is left out.
@pytest.mark.parametrize(
    ("topic", "reason", "value"),
    [
        (topic, reason, value)
        for topic, cases in REJECTED.items()
        for reason, value in cases
        if reason not in NOT_JSON
    ],
)
def test_event_that_the_warehouse_rejects_is_invalid(topic: str, reason: str, value: bytes) -> None:
    assert problems(topic, json.loads(value)) != [], reason


@pytest.mark.parametrize("name", ODD)
def test_odd_event_that_the_warehouse_keeps_is_valid(name: str) -> None:
    assert (problems("predictions", json.loads(ODD[name])) != []) == (name in STRICTER)


def test_marker_of_a_truncated_event_is_invalid_for_being_one() -> None:
    assert problems("predictions", {**PREDICTION, "is_truncated": False}) == []
    assert problems("predictions", {**PREDICTION, "is_truncated": True}) != []


@pytest.mark.parametrize(
    "moment",
    [
        "1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "2026-13-01T00:00:00Z",
        "2026-01-32T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01",
        "2026-01-01T00:00:00",
    ],
)  # fmt: skip
def test_wrong_time_is_seen_without_asserting_formats(moment: str) -> None:
    without_formats = Draft202012Validator(prediction_schema())
    assert without_formats.is_valid(PREDICTION)
    assert not without_formats.is_valid({**PREDICTION, "predicted_at": moment})


NAMES = st.text(st.characters(), min_size=1)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
NUMBERS = (
    st.integers()
    | st.floats()
    | st.decimals()
    | st.fractions()
    | st.floats(width=32).map(np.float32)
    | st.integers(0, 255).map(np.uint8)
)
FEATURE_NAMES = st.text(st.characters()).filter(lambda name: not name.startswith("__"))
LABELS = NUMBERS | NAMES | st.booleans() | st.datetimes() | st.binary(min_size=1)


@given(
    st.fixed_dictionaries(
        {
            "model_name": NAMES,
            "model_version": NAMES,
            "features": st.dictionaries(FEATURE_NAMES, ANYTHING, max_size=4),
        },
        optional={
            "score": NUMBERS,
            "value": NUMBERS,
            "label": LABELS,
            "scores": st.dictionaries(NAMES | st.integers(), NUMBERS, max_size=3),
            "prediction_id": NAMES | st.uuids() | st.integers(),
            "predicted_at": MOMENTS,
            "latency_ms": NUMBERS,
            "status": st.text(),
            "segments": st.dictionaries(NAMES, ANYTHING, max_size=3),
            "entity_id": ANYTHING,
            "metadata": st.dictionaries(NAMES, ANYTHING, max_size=3),
        },
    )
)
def test_every_encoded_prediction_is_valid(given_: dict[str, Any]) -> None:
    assert problems("predictions", json.loads(encode_prediction(**given_).value)) == []


@given(
    st.fixed_dictionaries(
        {
            "model_name": NAMES,
            "prediction_id": NAMES | st.uuids() | st.integers(),
            "label": LABELS,
            "source": st.text(),
        },
        optional={"observed_at": MOMENTS},
    )
)
def test_every_encoded_label_is_valid(given_: dict[str, Any]) -> None:
    assert problems("labels", json.loads(encode_label(**given_).value)) == []


@pytest.mark.parametrize(
    "number",
    [
        math.nan,
        -math.inf,
        Decimal("sNaN"),
        Decimal("1e400"),
        Fraction(1, 3),
        10**400,
        np.float16(1),
    ],
    ids=repr,
)
def test_number_that_json_does_not_know_is_valid_as_encoded(number: Any) -> None:
    encoded = encode_prediction(
        model_name="m", model_version="1", features={}, score=number, latency_ms=number
    )
    assert problems("predictions", json.loads(encoded.value)) == []
