from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from botocore.serialize import create_serializer

from orchestration.cloudwatch.metric_data import (
    MAX_REQUEST_BYTES,
    UNITS,
    Datum,
    as_request,
    batches,
    illegal_namespace,
    problem_of,
    request_bytes,
    sort_out,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GOOD = Datum("AUC", (("Model", "m"), ("ModelVersion", "1")), 0.7, "None", NOW)


def service_model() -> Any:
    return botocore.session.get_session().get_service_model("cloudwatch")


def dimensions(count: int) -> tuple[tuple[str, str], ...]:
    return tuple((f"Name{number}", "value") for number in range(count))


@pytest.mark.parametrize(
    "datum",
    [
        GOOD,
        replace(GOOD, name="n" * 255),
        replace(GOOD, dimensions=()),
        replace(GOOD, dimensions=dimensions(30)),
        replace(GOOD, dimensions=(("n" * 255, "v" * 1_024),)),
        replace(GOOD, dimensions=(("Segment", ":origin=EWR"),)),
        replace(GOOD, value=2.0**360),
        replace(GOOD, value=-(2.0**360)),
        replace(GOOD, value=tuple(map(float, range(150)))),
        replace(GOOD, timestamp=NOW - timedelta(days=14) + timedelta(seconds=1)),
        replace(GOOD, timestamp=NOW + timedelta(hours=2)),
    ],
)
def test_datum_is_good_up_to_every_limit(datum: Datum) -> None:
    assert problem_of(datum, NOW) == ""


@pytest.mark.parametrize(
    ("datum", "reason"),
    [
        (replace(GOOD, name="n" * 256), "name has 256 characters"),
        (replace(GOOD, name=" "), "name is empty"),
        (replace(GOOD, name="AÜC"), "name is not ASCII"),
        (replace(GOOD, name=":AUC"), "name begins with a colon"),
        (replace(GOOD, name="A\nUC"), "control characters"),
        (replace(GOOD, dimensions=dimensions(31)), "31 dimensions"),
        (replace(GOOD, dimensions=(("Model", "a"), ("Model", "b"))), "given twice"),
        (replace(GOOD, dimensions=(("", "a"),)), "name of dimension '' is empty"),
        (replace(GOOD, dimensions=(("n" * 256, "a"),)), "has 256 characters"),
        (replace(GOOD, dimensions=((":Model", "a"),)), "begins with a colon"),
        (replace(GOOD, dimensions=(("Modèle", "a"),)), "is not ASCII"),
        (replace(GOOD, dimensions=(("Mo\tdel", "a"),)), "control characters"),
        (replace(GOOD, dimensions=(("Model", ""),)), "value of dimension Model is empty"),
        (replace(GOOD, dimensions=(("Model", "v" * 1_025),)), "has 1,025 characters"),
        (replace(GOOD, dimensions=(("Model", "Zürich"),)), "is not ASCII"),
        (replace(GOOD, dimensions=(("Model", "a\x00"),)), "control characters"),
        (replace(GOOD, value=math.nan), "not a finite number"),
        (replace(GOOD, value=math.inf), "not a finite number"),
        (replace(GOOD, value=-math.inf), "not a finite number"),
        (replace(GOOD, value=math.nextafter(2.0**360, math.inf)), "beyond 2^360"),
        (replace(GOOD, value=-math.nextafter(2.0**360, math.inf)), "beyond 2^360"),
        (replace(GOOD, value=()), "no value"),
        (replace(GOOD, value=tuple(map(float, range(151)))), "151 values"),
        (replace(GOOD, value=(1.0, math.nan)), "not a finite number"),
        (replace(GOOD, unit="Furlongs"), "no unit"),
        (replace(GOOD, timestamp=NOW.replace(tzinfo=None)), "no time zone"),
        (replace(GOOD, timestamp=NOW - timedelta(days=14)), "two weeks old"),
        (replace(GOOD, timestamp=NOW + timedelta(hours=2, seconds=1)), "in the future"),
    ],
)
def test_datum_is_quarantined_beyond_every_limit(datum: Datum, reason: str) -> None:
    accepted, quarantined = sort_out([GOOD, datum, GOOD], NOW)

    assert accepted == (GOOD, GOOD)
    assert [bad.datum for bad in quarantined] == [datum]
    assert reason in quarantined[0].reason


def test_units_are_those_of_the_service() -> None:
    assert set(service_model().shape_for("StandardUnit").enum) == UNITS


@pytest.mark.parametrize(
    ("namespace", "wrong"),
    [
        ("Driftline", ""),
        ("n" * 255, ""),
        ("n" * 256, "has 256 characters"),
        (":Driftline", "begins with a colon"),
        ("AWS/Driftline", "begins with AWS/"),
        ("Überwachung", "is not ASCII"),
        ("", "is empty"),
    ],
)
def test_namespace_is_checked(namespace: str, wrong: str) -> None:
    assert wrong in illegal_namespace(namespace)
    assert bool(wrong) == bool(illegal_namespace(namespace))


def numbered(count: int, dimensions: Sequence[tuple[str, str]] = ()) -> list[Datum]:
    return [
        replace(GOOD, dimensions=(("Number", str(number)), *dimensions)) for number in range(count)
    ]


def test_key_is_the_same_in_any_order_of_dimensions() -> None:
    assert GOOD.key == replace(GOOD, dimensions=GOOD.dimensions[::-1]).key


def test_batches_hold_at_most_a_thousand_metrics() -> None:
    datums = numbered(2_001)
    cut = list(batches(datums))

    assert [len(batch) for batch in cut] == [1_000, 1_000, 1]
    assert [datum for batch in cut for datum in batch] == datums
    assert list(batches([])) == []


def serialised(protocol: str, datums: Sequence[Datum]) -> bytes:
    model = service_model()
    model.metadata["protocol"] = protocol
    request = create_serializer(protocol, include_validation=False).serialize_to_request(
        {"Namespace": "Driftline", "MetricData": [as_request(datum) for datum in datums]},
        model.operation_model("PutMetricData"),
    )
    body = request["body"]
    if isinstance(body, dict):
        from urllib.parse import urlencode

        return urlencode(body).encode()
    return bytes(body)


LONG = tuple((f"Name{number}", "ab/: ~" * 100) for number in range(29))


@pytest.mark.parametrize("protocol", ["query", "json", "smithy-rpc-v2-cbor"])
@pytest.mark.parametrize(
    "datums",
    [
        numbered(1_000),
        numbered(100, LONG),
        [replace(GOOD, value=tuple(-1.7976e-300 / (number + 3) for number in range(150)))],
    ],
    ids=["many", "long", "several values"],
)
def test_requests_keep_within_a_megabyte_in_every_protocol(
    protocol: str, datums: list[Datum]
) -> None:
    bodies = [(batch, serialised(protocol, batch)) for batch in batches(datums)]

    assert sum(len(batch) for batch, _ in bodies) == len(datums)
    for batch, body in bodies:
        assert len(body) <= sum(map(request_bytes, batch)) + 1_000
        assert len(body) <= MAX_REQUEST_BYTES


def test_requests_are_cut_by_bytes_where_dimensions_are_long() -> None:
    datums = numbered(100, LONG)
    assert len(serialised("query", datums)) > MAX_REQUEST_BYTES
    assert len(list(batches(datums))) > 1


def test_request_is_compressed_where_it_is_worth_it(cloudwatch: Any) -> None:
    seen = []
    cloudwatch.meta.events.register(
        "before-send.cloudwatch.PutMetricData",
        lambda request, **_: seen.append(request.headers.get("Content-Encoding")),
    )
    recent = datetime.now(UTC)
    datums = [replace(datum, timestamp=recent) for datum in numbered(500)]
    cloudwatch.put_metric_data(Namespace="N", MetricData=[as_request(d) for d in datums])

    assert seen == [b"gzip"]
    listed = cloudwatch.get_paginator("list_metrics").paginate(Namespace="N")
    assert sum(len(page["Metrics"]) for page in listed) == 500
