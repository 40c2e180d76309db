from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from orchestration.cloudwatch.metric_data import Datum, Quarantined
from orchestration.cloudwatch.outbox import Delivery, Outbox, State, deliver
from tests.orchestration.cloudwatch.mart_tables import MartTables


def datum(name: str, now: datetime, value: float | tuple[float, ...] = 1.0) -> Datum:
    return Datum(name, (("Model", "m"), ("Feature", f"of {name}")), value, "None", now)


def outbox_of(warehouse: MartTables) -> Outbox:
    return Outbox(warehouse.client, warehouse.raw_database)


def send(warehouse: MartTables, cloudwatch: Any, now: datetime, run_id: str = "run") -> Delivery:
    return deliver(cloudwatch, outbox_of(warehouse), namespace="Driftline", run_id=run_id, now=now)


@contextmanager
def stubbed() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client(
        "cloudwatch", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stub:
        yield client, stub
        stub.assert_no_pending_responses()


def received(cloudwatch: Any) -> list[tuple[str, float, datetime]]:
    """Record from now on what is sent: (name, value, timestamp) of every datum."""
    seen: list[tuple[str, float, datetime]] = []

    def record(params: dict[str, Any], **_: Any) -> None:
        seen.extend(
            (metric["MetricName"], metric.get("Value"), metric["Timestamp"])
            for metric in params["MetricData"]
        )

    cloudwatch.meta.events.register("before-parameter-build.cloudwatch.PutMetricData", record)
    return seen


def test_what_is_written_comes_back_as_it_was(empty_warehouse: MartTables, now: datetime) -> None:
    outbox = outbox_of(empty_warehouse)
    stamped = now.replace(microsecond=123_000)
    datums = [
        datum("one", stamped, 0.1),
        datum("several", stamped, (1.0, 2.5)),
        Datum("bare", (), 0.0, "Count", stamped),
    ]
    outbox.write("run", datums, [])

    entries = outbox.pending()
    assert {entry.run_id for entry in entries} == {"run"}
    assert {entry.datum.key: entry.datum.values for entry in entries} == {
        each.key: each.values for each in datums
    }
    assert {entry.datum.unit for entry in entries} == {"None", "Count"}
    assert {entry.datum.timestamp for entry in entries} == {stamped}


def test_state_is_the_greatest_whatever_the_order(
    empty_warehouse: MartTables, now: datetime
) -> None:
    outbox = outbox_of(empty_warehouse)
    outbox.write("run", [datum("a", now)], [])
    (entry,) = outbox.pending()
    outbox.mark([entry], State.SENT)
    outbox.mark([entry], State.PENDING)
    assert outbox.pending() == ()


def test_quarantined_datum_is_kept_with_its_reason_and_never_sent(
    empty_warehouse: MartTables, cloudwatch: Any, now: datetime
) -> None:
    outbox_of(empty_warehouse).write(
        "run", [datum("good", now)], [Quarantined(datum("bad", now, float("nan")), "nan")]
    )
    seen = received(cloudwatch)
    assert send(empty_warehouse, cloudwatch, now).sent == 1
    assert [name for name, _, _ in seen] == ["good"]
    assert empty_warehouse.publications() == [
        ("run", "bad", "quarantined", 1),
        ("run", "good", "sent", 1),
    ]
    reason = empty_warehouse.client.query(
        f"select reason from {empty_warehouse.raw_database}.metric_publications "
        "where state = 'quarantined'"
    ).result_rows
    assert reason == [("nan",)]


def test_run_that_is_tried_again_sends_nothing_twice(
    empty_warehouse: MartTables, cloudwatch: Any, now: datetime
) -> None:
    seen = received(cloudwatch)
    for value in (1.0, 2.0):
        outbox_of(empty_warehouse).write("run", [datum("a", now, value)], [])
        send(empty_warehouse, cloudwatch, now)
    assert seen == [("a", 1.0, now)]


def test_crash_between_send_and_mark_sends_once_more_with_the_same_stamp(
    empty_warehouse: MartTables, cloudwatch: Any, now: datetime
) -> None:
    class CrashError(Exception):
        pass

    class CrashingOutbox(Outbox):
        def mark(self, entries: Any, state: State, reason: str = "") -> None:
            if state is State.SENT:
                raise CrashError
            super().mark(entries, state, reason)

    outbox_of(empty_warehouse).write("first", [datum("a", now)], [])
    seen = received(cloudwatch)
    with pytest.raises(CrashError):
        deliver(
            cloudwatch,
            CrashingOutbox(empty_warehouse.client, empty_warehouse.raw_database),
            namespace="Driftline",
            run_id="first",
            now=now,
        )
    for run in ("second", "third"):
        later = now + timedelta(hours=1)
        send(empty_warehouse, cloudwatch, later, run)

    assert seen == [("a", 1.0, now), ("a", 1.0, now)]
    assert empty_warehouse.publications() == [("first", "a", "sent", 1)]


def test_backlog_of_two_weeks_is_expired_and_reported(
    empty_warehouse: MartTables, cloudwatch: Any, now: datetime
) -> None:
    outbox = outbox_of(empty_warehouse)
    outbox.write("old", [datum("stale", now - timedelta(days=14))], [])
    outbox.write("recent", [datum("late", now - timedelta(days=14) + timedelta(minutes=1))], [])
    seen = received(cloudwatch)

    assert send(empty_warehouse, cloudwatch, now) == Delivery(1, 0, 1, ())
    assert [name for name, _, _ in seen] == ["late"]
    assert empty_warehouse.publications() == [
        ("old", "stale", "expired", 1),
        ("recent", "late", "sent", 1),
    ]
    assert send(empty_warehouse, cloudwatch, now) == Delivery(0, 0, 0, ())


@pytest.mark.parametrize("code", ["Throttling", "InternalServiceFault", "AccessDenied"])
def test_throttled_request_loses_nothing_and_is_reported(
    empty_warehouse: MartTables, cloudwatch: Any, now: datetime, code: str
) -> None:
    outbox_of(empty_warehouse).write("run", [datum("a", now), datum("b", now)], [])
    with stubbed() as (client, stub):
        stub.add_client_error("put_metric_data", code, "slow down", 400)
        delivery = send(empty_warehouse, client, now)

    assert (delivery.sent, delivery.pending) == (0, 2)
    assert "slow down" in delivery.problems[0]
    assert send(empty_warehouse, cloudwatch, now) == Delivery(2, 0, 0, ())


def test_lost_connection_keeps_what_was_not_sent(
    empty_warehouse: MartTables, cloudwatch: Any, now: datetime
) -> None:
    datums = [replace(datum("a", now), dimensions=(("N", str(n)),)) for n in range(1_500)]
    outbox_of(empty_warehouse).write("run", datums, [])
    calls: list[int] = []

    def cut(**_: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise EndpointConnectionError(endpoint_url="http://gone")

    cloudwatch.meta.events.register("before-call.cloudwatch.PutMetricData", cut)
    delivery = send(empty_warehouse, cloudwatch, now)
    assert (delivery.sent, delivery.pending) == (1_000, 500)
    assert "could not be reached" in delivery.problems[0]
    assert len(outbox_of(empty_warehouse).pending()) == 500


def test_refused_request_is_halved_until_the_bad_datum_stands_alone(
    empty_warehouse: MartTables, cloudwatch: Any, now: datetime
) -> None:
    outbox_of(empty_warehouse).write("run", [datum(name, now) for name in "abcde"], [])

    class Fussy:
        """Refuses requests that hold `d`, as the service would, and hands on the others."""

        def put_metric_data(self, **arguments: Any) -> Any:
            if any(metric["MetricName"] == "d" for metric in arguments["MetricData"]):
                with stubbed() as (client, stub):
                    stub.add_client_error(
                        "put_metric_data", "InvalidParameterValue", "I do not like d", 400
                    )
                    return client.put_metric_data(**arguments)
            return cloudwatch.put_metric_data(**arguments)

    seen = received(cloudwatch)
    delivery = send(empty_warehouse, Fussy(), now)

    assert sorted(name for name, _, _ in seen) == ["a", "b", "c", "e"]
    assert (delivery.sent, delivery.pending) == (4, 1)
    (problem,) = delivery.problems
    assert problem.startswith("d (Feature=of d, Model=m) was refused")
    assert [entry.datum.name for entry in outbox_of(empty_warehouse).pending()] == ["d"]


def test_new_datums_go_before_the_backlog_and_apart_from_it(
    empty_warehouse: MartTables, cloudwatch: Any, now: datetime
) -> None:
    outbox = outbox_of(empty_warehouse)
    outbox.write("earlier", [datum("backlog", now - timedelta(hours=1))], [])
    outbox.write("now", [datum("new", now)], [])
    requests: list[list[str]] = []
    cloudwatch.meta.events.register(
        "before-parameter-build.cloudwatch.PutMetricData",
        lambda params, **_: requests.append([m["MetricName"] for m in params["MetricData"]]),
    )
    assert send(empty_warehouse, cloudwatch, now, "now").sent == 2
    assert requests == [["new"], ["backlog"]]
