"""Events that break the contract: each keeps its bytes and a reason, none ever fails a run."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.events import EncodedEvent, encode_label, encode_prediction, encode_truncated
from tests.dbt_project.conftest import MakeWarehouse
from tests.dbt_project.warehouse import DBT_PROJECT, Message, Warehouse

AT = datetime(2025, 3, 1, 12, tzinfo=UTC)
PREDICTION: dict[str, Any] = json.loads(
    encode_prediction(
        model_name="m",
        model_version="1",
        prediction_id="rejected",
        predicted_at=AT,
        features={"x": 1.5},
        score=0.25,
        segments={"origin": "EWR"},
    ).value
)
LABEL: dict[str, Any] = json.loads(
    encode_label(
        model_name="m", prediction_id="rejected", label="late", observed_at=AT, source="test"
    ).value
)


def prediction(**changes: Any) -> bytes:
    return json.dumps(PREDICTION | changes).encode()


def label(**changes: Any) -> bytes:
    return json.dumps(LABEL | changes).encode()


def without(event: dict[str, Any], field: str) -> bytes:
    return json.dumps({name: part for name, part in event.items() if name != field}).encode()


def unparsable(event: bytes) -> Iterator[tuple[str, bytes | None]]:
    yield "null_value", None
    yield "empty_value", b""
    yield "invalid_utf8", event.replace(b"2025", b"\xff\xfe")
    yield "invalid_utf8", b"\xed\xa0\x80"
    yield "invalid_json", event[:-1]
    yield "invalid_json", event + event
    yield "invalid_json", b" "
    yield "invalid_json", b"\x00"
    yield "invalid_json", b"[" * 200_000
    yield "invalid_json", event[:-1] + b', "extra": NaN}'
    yield "invalid_json", event[:-1] + b', "extra": -Infinity}'
    yield "invalid_json", event[:-1] + b', "extra": 1e400}'
    yield "invalid_json", event[:-1] + rb', "extra": "\ud800"}'
    yield "invalid_json", event[:-1] + b', "extra": ' + b"[" * 2_000 + b"]" * 2_000 + b"}"
    yield "not_an_object", b"[" + event + b"]"
    yield "not_an_object", b'"text"'
    yield "not_an_object", b"12"
    yield "not_an_object", b"null"


def rejected_predictions() -> Iterator[tuple[str, bytes | None]]:
    yield from unparsable(prediction())
    for version in (0, 2, -1, 1.5, None, "one", [1]):
        yield "unsupported_schema_version", prediction(schema_version=version)
    for field in ("prediction_id", "model_name", "model_version"):
        yield f"missing_{field}", without(PREDICTION, field)
        yield f"missing_{field}", prediction(**{field: ""})
        yield f"missing_{field}", prediction(**{field: None})
    too_large = EncodedEvent("large", b"x" * 9, "", was_repaired=False)
    yield "truncated", encode_truncated(too_large, model_name="m", model_version="1")
    for time in (
        "", "yesterday", "2025-03-01", "2025-13-01T00:00:00Z", "2025-02-30T00:00:00Z", "12:00:00",
        "2025-03-01T12:00:00Z and more", "1", 1_740_000_000, None, ["2025-03-01T12:00:00Z"],
    ):  # fmt: skip
        yield "invalid_predicted_at", prediction(predicted_at=time)
    yield "invalid_predicted_at", without(PREDICTION, "predicted_at")
    for time in ("1970-01-01T00:00:00Z", "1999-12-31T23:59:59.999Z", "2100-01-01T00:00:00Z"):
        yield "predicted_at_out_of_range", prediction(predicted_at=time)
    not_features: list[Any] = [None, [], "x", 1, True]
    for features in not_features:
        yield "features_not_an_object", prediction(features=features)
    yield "features_not_an_object", without(PREDICTION, "features")
    not_output: list[Any] = [[], 0.5, "late", True]
    for output in not_output:
        yield "prediction_not_an_object", prediction(prediction=output)
    for name in ("__score__", "__prediction__", "__label__"):
        yield "reserved_feature_name", prediction(features={"x": 1, name: 2})
    # the first reason that applies
    yield "unsupported_schema_version", prediction(schema_version=9, predicted_at="never")


def rejected_labels() -> Iterator[tuple[str, bytes | None]]:
    yield from unparsable(label())
    yield "unsupported_schema_version", label(schema_version=2)
    for field in ("prediction_id", "model_name"):
        yield f"missing_{field}", without(LABEL, field)
        yield f"missing_{field}", label(**{field: ""})
    for time in ("", "tomorrow", "2025-03-01", None, 1_740_000_000, "2025-02-30T00:00:00Z"):
        yield "invalid_observed_at", label(observed_at=time)
    for time in ("1969-07-20T20:17:00Z", "2100-01-01T00:00:00Z"):
        yield "observed_at_out_of_range", label(observed_at=time)
    yield "missing_label", without(LABEL, "label")
    for truth in (None, "", [], ["late"], {"late": 1}):
        yield "missing_label", label(label=truth)


REJECTED = {
    "predictions": list(rejected_predictions()),
    "labels": list(rejected_labels()),
}
# A prediction of each id, odd in some way that is no reason to reject it.
ODD = {
    "spaced": b"  " + prediction(prediction_id="spaced") + b"\n",
    "offset": prediction(prediction_id="offset", predicted_at="2025-03-01T14:30:00+02:30"),
    "no-prediction": without(PREDICTION | {"prediction_id": "no-prediction"}, "prediction"),
    "no-features": prediction(prediction_id="no-features", features={}),
    "null-segment": prediction(prediction_id="null-segment", segments={"origin": None, "gate": 4}),
    "twice": prediction(prediction_id="twice").replace(b'"x": 1.5', b'"x": 1.5, "x": "two"'),
    "score-nan": prediction(prediction_id="score-nan", prediction={"score": "NaN"}),
    "score-text": prediction(prediction_id="score-text", prediction={"score": "0.5"}),
    "typed": prediction(
        prediction_id="typed",
        features={
            "number": 31.7, "whole": 3, "negative zero": -0.0, "tiny": 5e-324, "huge": 1.7e308,
            "text": "31.7", "empty": "", "true": True, "false": False, "null": None,
            "list": [1], "object": {}, "": 1, "naïve “ключ”\u0000": "✓",
        },
        prediction={"label": 1.0, "scores": {"1": 0.75, "2": 0.25}},
    ),
}  # fmt: skip


def fuzzed(count: int) -> list[bytes]:
    """Give valid events with a few bytes changed: most are broken in ways nobody thought of."""
    source = random.Random(20_250_301)  # noqa: S311 - seeded on purpose
    events = []
    for number in range(count):
        text = bytearray(prediction(prediction_id=f"fuzzed-{number}"))
        for _ in range(source.randint(1, 4)):
            place = source.randrange(len(text))
            text[place : place + source.randint(0, 3)] = source.choice(
                [source.randbytes(2), b'"', b"{", b"]", b"\\", b"null", b"1e999", b":", b""]
            )
        events.append(bytes(text))
    return events


@pytest.fixture(scope="module")
def warehouse(make_warehouse: MakeWarehouse) -> Warehouse:
    warehouse = make_warehouse("staging_rejects", seeds={"models": ["m,binary,late,0.5,1,48,1,,,"]})
    for topic, cases in REJECTED.items():
        warehouse.land(Message(topic, value) for _, value in cases)
    warehouse.land(Message("predictions", value, partition=1) for value in ODD.values())
    warehouse.land(Message("predictions", value, partition=2) for value in fuzzed(400))
    warehouse.run("--select", "+fct_rejected_events", "+fct_predictions")
    return warehouse


@pytest.mark.parametrize("topic", REJECTED)
def test_every_reason_is_given_with_the_bytes(warehouse: Warehouse, topic: str) -> None:
    rows = warehouse.query(
        "select reject_reason, hex(raw_value) as bytes, event_type, cluster "
        "from {database}.fct_rejected_events "
        "where topic = {topic:String} and kafka_partition = 0 order by kafka_offset",
        topic=topic,
    )
    found = [
        (row["reject_reason"], None if row["bytes"] is None else bytes.fromhex(row["bytes"]))
        for row in rows
    ]
    assert found == REJECTED[topic]
    assert {(row["event_type"], row["cluster"]) for row in rows} == {(topic[:-1], "test")}


@pytest.mark.parametrize(
    ("topic", "model"),
    [("predictions", "stg_raw__prediction_events"), ("labels", "stg_raw__label_events")],
)
def test_no_reason_is_left_untested(topic: str, model: str) -> None:
    sql = (DBT_PROJECT / "models" / "staging" / f"{model}.sql").read_text()
    listed = re.findall(r"'([a-z0-9_]+)',$", sql, flags=re.MULTILINE)
    # What was erased is no reject: tests/ingest/test_erasure.py.
    assert set(listed) == {reason for reason, _ in REJECTED[topic]} | {"erased"}


def test_every_message_is_kept_rejected_or_counted_as_duplicate(warehouse: Warehouse) -> None:
    [row] = warehouse.query(
        """
        with accounted as (
            select topic, topic_id, kafka_partition, kafka_offset
            from {database}.fct_rejected_events where event_type = 'prediction'
            union all
            select topic, topic_id, kafka_partition, kafka_offset
            from {database}.int_predictions_latest
            union all
            select topic, topic_id, kafka_partition, kafka_offset
            from {database}.int_duplicate_predictions final
        )
        select
            (select count() from {database}_raw.prediction_events) as landed,
            (select count() from accounted) as accounted,
            (select uniqExact(*) from accounted) as distinct_accounted
        """
    )
    assert row["landed"] == len(REJECTED["predictions"]) + len(ODD) + 400
    assert row["landed"] == row["accounted"] == row["distinct_accounted"]


def test_odd_events_are_kept(warehouse: Warehouse) -> None:
    kept = {
        row["prediction_id"]: row
        for row in warehouse.query(
            "select * from {database}.int_predictions_latest where kafka_partition = 1"
        )
    }
    assert kept.keys() == ODD.keys()
    assert kept["spaced"]["number_features"] == {"x": 1.5}
    assert kept["offset"]["predicted_at"] == AT.replace(tzinfo=None)
    assert kept["no-prediction"]["score"] is None
    assert kept["no-features"]["number_features"] == {}
    assert kept["null-segment"]["segments"] == {"gate": "4"}


def test_first_of_a_doubled_key_counts(warehouse: Warehouse) -> None:
    [row] = warehouse.query(
        "select number_features, string_features from {database}.fct_predictions "
        "where prediction_id = 'twice'"
    )
    assert row == {"number_features": {"x": 1.5}, "string_features": {}}


def test_score_that_is_no_number_is_invalid(warehouse: Warehouse) -> None:
    rows = warehouse.query(
        "select score, invalid_features from {database}.fct_predictions "
        "where startsWith(prediction_id, 'score-')"
    )
    assert rows == [{"score": None, "invalid_features": ["__score__"]}] * 2


def test_features_have_the_type_that_the_event_gives_them(warehouse: Warehouse) -> None:
    [row] = warehouse.query(
        "select * from {database}.fct_predictions where prediction_id = 'typed'"
    )
    assert row["number_features"] == {
        "": 1.0, "number": 31.7, "whole": 3.0, "negative zero": 0.0, "tiny": 5e-324,
        "huge": 1.7e308,
    }  # fmt: skip
    assert row["string_features"] == {"text": "31.7", "empty": "", "naïve “ключ”\u0000": "✓"}
    assert row["boolean_features"] == {"true": 1, "false": 0}
    assert row["null_features"] == ["null"]
    assert row["invalid_features"] == ["list", "object"]
    assert row["predicted_label"] == "1"
    assert row["class_scores"] == {"1": 0.75, "2": 0.25}


def test_second_run_adds_no_rejects(warehouse: Warehouse) -> None:
    before = warehouse.query("select count() as rows from {database}.fct_rejected_events")
    warehouse.run("--select", "+fct_rejected_events")
    assert warehouse.query("select count() as rows from {database}.fct_rejected_events") == before
