"""From a fault in the logged rows to the incident, the metric and the alarm, and back again.

Four models see months resampled from one baseline: February and March 2021, which both begin on a
Monday. One is sound throughout. Each of the others has one fault in the third and fourth week. The
clock is stepped through five evaluations; each lands what has been sent by then, builds the marts
as of that moment, publishes to CloudWatch and evaluates every alarm.
"""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import boto3
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from ingest.baselines import register_baseline
from orchestration.cloudwatch.publisher import CloudWatchSettings, PublicationReport, publish
from tests.dbt_project.warehouse import Message, Warehouse
from tests.end_to_end.resampled_months import (
    BASELINE_ROLES,
    THRESHOLD,
    VERSION,
    Months,
    TimedEvent,
    ages_lost,
    baseline_customers,
    baseline_table,
    distances_stretched,
    labels_inverted,
)
from tests.orchestration.cloudwatch.alarm_evaluator import evaluate_alarm, maximum_from
from tests.warehouse_fixtures import ClickHouseProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def at(month: int, day: int, hour: int = 0) -> datetime:
    return datetime(2021, month, day, hour, tzinfo=UTC)


FAULTY_FROM, FAULTY_UNTIL = at(2, 15), at(3, 1)
FAULTS = {
    "sound": None,
    "stretched": distances_stretched,
    "forgetful": ages_lost,
    "inverted": labels_inverted,
}
ROWS_PER_DAY = 180
REGIONS = ("north", "south", "east")
MATURITY = timedelta(hours=48)
SETTINGS = CloudWatchSettings(
    database="drift_to_alarm",
    raw_database="drift_to_alarm_raw",
    alarm_topic_arns=("arn:aws:sns:eu-west-1:123456789012:driftline",),
)

# The moments of evaluation. The first two weeks are over; the fault is six hours old.
SOUND_YET = at(2, 15, 6)
# The third week is over and its labels are complete; the fourth ends in twelve hours.
HALF_WAY = at(2, 28, 12)
# February is over and its labels are complete; the fault ended two days ago.
FAULTY = at(3, 3, 6)
# Two sound weeks since, with all labels.
RECOVERED = at(3, 17, 6)
# And a sound month.
LONG_RECOVERED = at(4, 3, 6)
CLOCK = (SOUND_YET, HALF_WAY, FAULTY, RECOVERED, LONG_RECOVERED)

# Rules as a user would write them: metric, segment_key, feature_name, granularity, comparator,
# threshold, min_rows, windows_breaching, windows_considered, severity.
RULES = {
    "features_drifted": "psi,all,*,week,>=,0.25,150,2,3,warn",
    "features_drifted_in_a_region": "psi,region,*,week,>=,0.25,150,2,3,warn",
    "nulls_rose": "null_rate,all,*,day,>,0.15,100,3,3,warn",
    "f1_fell_in_a_week": "f1,all,,week,<,0.55,150,1,1,error",
    "f1_fell_in_a_month": "f1,all,,month,<,0.55,150,1,1,error",
    "auc_fell": "auc,all,,week,<,0.65,150,2,3,error",
    "labels_missing": "label_coverage,all,,week,<,0.9,150,1,1,error",
    "volume_fell": "prediction_count,all,,day,<,100,0,1,1,error",
    "slow": "latency_p99_ms,all,,day,>,200,100,3,3,warn",
}
IMPLIED = ("min", "max", "not_null", "not_missing")
SEEDS = {
    "models": [
        f"{model},binary,yes,{THRESHOLD},{VERSION},48,150,,customer-team,https://wiki/{model}"
        for model in FAULTS
    ],
    # Declared as it is in the baseline, which implies four rules more for each model.
    "features": [f"{model},visits,numeric,0,40,0," for model in FAULTS],
    "segment_sets": [f"{model},region" for model in FAULTS],
    "monitors": [
        f"{model}.{rule},{model},{definition}"
        for model in FAULTS
        for rule, definition in RULES.items()
    ],
}
RULE_NAMES = {
    *(f"{model}.{rule}" for model in FAULTS for rule in RULES),
    *(f"{model}.visits.{implied}" for model in FAULTS for implied in IMPLIED),
}


@dataclass(frozen=True)
class Incident:
    """An incident by its place; windows are dated by their ends."""

    rule: str
    segment_value: str
    feature_name: str
    opened_at: datetime
    resolved_at: datetime
    windows: int
    known_after: timedelta = timedelta()

    def status_at(self, moment: datetime) -> str:
        """What is known of it at a moment; '' before it is known at all."""
        if moment < self.opened_at + self.known_after:
            return ""
        return "open" if moment < self.resolved_at + self.known_after else "resolved"


def _drifted(model: str, feature: str) -> list[Incident]:
    # Two of three: weeks three and four open it, and only week six leaves one in three.
    scopes = [("features_drifted", "all")]
    scopes += [("features_drifted_in_a_region", region) for region in REGIONS]
    return [
        Incident(f"{model}.{rule}", value, feature, at(3, 1), at(3, 15), 2)
        for rule, value in scopes
    ]


# What must come of each fault, from the definitions alone.
EXPECTED: Mapping[str, Sequence[Incident]] = {
    "sound": [],
    "stretched": _drifted("stretched", "distance"),
    "forgetful": [
        *_drifted("forgetful", "age"),
        # Three days of three: the first sound day ends it.
        Incident("forgetful.nulls_rose", "all", "age", at(2, 18), at(3, 2), 14),
    ],
    "inverted": [
        Incident("inverted.f1_fell_in_a_week", "all", "", at(2, 22), at(3, 8), 2, MATURITY),
        Incident("inverted.auc_fell", "all", "", at(3, 1), at(3, 15), 2, MATURITY),
        Incident("inverted.f1_fell_in_a_month", "all", "", at(3, 1), at(4, 1), 1, MATURITY),
    ],
}


# The rules whose alarms are in ALARM after each evaluation; all others are OK.
RAISED: Mapping[datetime, set[str]] = {
    SOUND_YET: set(),
    HALF_WAY: {"forgetful.nulls_rose", "inverted.f1_fell_in_a_week"},
    FAULTY: {
        "stretched.features_drifted",
        "stretched.features_drifted_in_a_region",
        "forgetful.features_drifted",
        "forgetful.features_drifted_in_a_region",
        "inverted.f1_fell_in_a_week",
        "inverted.auc_fell",
        "inverted.f1_fell_in_a_month",
    },
    RECOVERED: {"inverted.f1_fell_in_a_month"},
    LONG_RECOVERED: set(),
}


@dataclass(frozen=True)
class Evaluation:
    """What there was after one step of the clock; alarms and gauges by rule, and the heartbeats."""

    at: datetime
    breaches: Sequence[Mapping[str, Any]]
    drift: Sequence[Mapping[str, Any]]
    report: PublicationReport
    gauges: Mapping[str, float | None]
    alarms: Mapping[str, str]

    def of(self, model: str) -> list[Mapping[str, Any]]:
        return [row for row in self.breaches if row["model_name"] == model]


_BREACHES = """
select * except (opened_at, resolved_at),
    toUnixTimestamp(opened_at) as opened_epoch,
    toUnixTimestamp(resolved_at) as resolved_epoch
from {database}.fct_breaches
"""
_DRIFT = """
select model_name, segment_key, segment_value, feature_name, psi, verdict, reason, current_count,
    '{granularity}' as granularity, toUnixTimestamp(window_start) as start_epoch
from {database}.fct_feature_drift_{suffix}
where comparison = 'baseline'
"""
_GRANULARITIES = {"day": "daily", "week": "weekly", "month": "monthly"}


@pytest.fixture(scope="module")
def cloudwatch() -> Iterator[Any]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        # Moto's state is that of the process: what other tests put is there, too.
        reset = urllib.request.Request(f"{address}/moto-api/reset", method="POST")  # noqa: S310
        urllib.request.urlopen(reset).close()  # noqa: S310
        yield boto3.client(
            "cloudwatch",
            endpoint_url=address,
            region_name="eu-west-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
    finally:
        server.stop()


@pytest.fixture(scope="module")
def warehouse(
    clickhouse_server: ClickHouseProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp("drift_to_alarm")
    made = Warehouse(clickhouse_server, folder, SETTINGS.database, seeds=SEEDS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def evaluations(warehouse: Warehouse, cloudwatch: Any) -> Mapping[datetime, Evaluation]:
    """Step the clock through all evaluations, once for all tests."""
    customers = baseline_customers(3_000)
    months = [
        Months(model, 100 + number, at(2, 1), 62, ROWS_PER_DAY, fault, FAULTY_FROM, FAULTY_UNTIL)
        for number, (model, fault) in enumerate(FAULTS.items())
    ]
    for model in FAULTS:
        register_baseline(
            warehouse.client,
            baseline_table(customers, at(1, 4), 28),
            BASELINE_ROLES,
            model_name=model,
            model_version=VERSION,
            raw_database=warehouse.raw_database,
        )
    to_come = sorted(
        (event for one in months for event in one.events(customers)),
        key=lambda event: event.sent_at,
    )
    found = {}
    for now in CLOCK:
        sent = [event for event in to_come if event.sent_at < now]
        to_come = to_come[len(sent) :]
        found[now] = _evaluate(warehouse, cloudwatch, now, sent)
    return found


def _evaluate(
    warehouse: Warehouse, cloudwatch: Any, now: datetime, sent: Sequence[TimedEvent]
) -> Evaluation:
    warehouse.land(Message(event.topic, event.value) for event in sent)
    # The baseline is registered today, and these months lie further back than 400 days.
    warehouse.variables = {"as_of": f"{now:%Y-%m-%d %H:%M:%S}", "baseline_backfill_days": 36_500}
    warehouse.run("--select", "+fct_breaches")
    report = publish(
        warehouse.client,
        cloudwatch,
        SETTINGS,
        now=now,
        run_id=f"{now:%Y-%m-%d}",
        pause=lambda _seconds: None,
    )
    maximum_over = maximum_from(cloudwatch)
    pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix="driftline-")
    alarms = {
        alarm["AlarmName"].rpartition("/")[2]: alarm
        for page in pages
        for alarm in page["MetricAlarms"]
    }
    return Evaluation(
        at=now,
        breaches=warehouse.query(_BREACHES),
        drift=[
            row
            for granularity, suffix in _GRANULARITIES.items()
            for row in warehouse.query(
                _DRIFT.replace("{granularity}", granularity).replace("{suffix}", suffix)
            )
        ],
        report=report,
        gauges={
            name: maximum_over(alarm, now - timedelta(seconds=alarm["Period"]), now)
            for name, alarm in alarms.items()
        },
        alarms={name: evaluate_alarm(alarm, maximum_over, now) for name, alarm in alarms.items()},
    )


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())


def test_month_resampled_from_the_baseline_breaches_nothing(
    evaluations: Mapping[datetime, Evaluation],
) -> None:
    # When February and its labels are complete, nothing has been found, and everything was looked
    # at: no row of any status, so no rule that could not be evaluated either.
    assert evaluations[FAULTY].of("sound") == []
    for evaluation in evaluations.values():
        assert {row["status"] for row in evaluation.of("sound")} <= {"not_evaluated"}
        rules = {name for name in evaluation.alarms if name.startswith("sound.")}
        assert len(rules) == len(RULES) + len(IMPLIED)
        assert {evaluation.alarms[name] for name in rules} == {"OK"}
        assert {evaluation.gauges[name] for name in rules} <= {0.0, None}
    assert {evaluations[FAULTY].gauges[name] for name in rules} == {0.0}

    judged = Counter(
        row["verdict"]
        for row in evaluations[FAULTY].drift
        if row["model_name"] == "sound" and row["verdict"] in ("ok", "warning", "drift")
    )
    # Nine distributions (seven features, score, predicted class): thirty days of all, and of the
    # regions pooled, each too small by itself; four weeks and a month of all and of each region.
    # And the labels, but of the last two days, whose labels may still come. That is what the
    # silence is worth.
    assert judged.total() == 9 * (2 * 30 + 4 * 4 + 4) + 2 * 28 + 4 * 4 + 4
    assert judged["drift"] == 0


def test_sound_features_of_faulty_models_never_drift(
    evaluations: Mapping[datetime, Evaluation],
) -> None:
    faulty = {"stretched": "distance", "forgetful": "age"}
    drifted = {
        (row["model_name"], row["feature_name"])
        for row in evaluations[LONG_RECOVERED].drift
        if row["verdict"] == "drift"
    }
    assert drifted == set(faulty.items())


@pytest.mark.parametrize("model", [model for model in FAULTS if model != "sound"])
def test_fault_opens_its_incidents_alone_and_recovery_resolves_them(
    evaluations: Mapping[datetime, Evaluation], model: str
) -> None:
    for evaluation in evaluations.values():
        found = {
            (row["monitor_name"], row["segment_value"], row["feature_name"]): (
                row["status"],
                row["opened_epoch"],
                row["resolved_epoch"],
            )
            for row in evaluation.of(model)
            if row["status"] != "not_evaluated"
        }
        statuses = [(each, each.status_at(evaluation.at)) for each in EXPECTED[model]]
        assert found == {
            (each.rule, each.segment_value, each.feature_name): (
                status,
                _epoch(each.opened_at),
                _epoch(each.resolved_at) if status == "resolved" else None,
            )
            for each, status in statuses
            if status
        }, evaluation.at
    last = evaluations[LONG_RECOVERED].of(model)
    assert {row["reason"] for row in last} == {"recovered"}
    assert {
        (row["monitor_name"], row["segment_value"]): row["breaching_window_count"] for row in last
    } == {(each.rule, each.segment_value): each.windows for each in EXPECTED[model]}


def test_incident_keeps_its_identity_from_opening_to_resolution(
    evaluations: Mapping[datetime, Evaluation],
) -> None:
    for before, after in pairwise(CLOCK):
        known = {row["breach_id"] for row in evaluations[before].breaches if row["opened_epoch"]}
        assert known <= {row["breach_id"] for row in evaluations[after].breaches}


def test_window_that_is_still_open_is_not_judged_however_far_it_drifts(
    evaluations: Mapping[datetime, Evaluation],
) -> None:
    def weeks(now: datetime) -> dict[int, Mapping[str, Any]]:
        return {
            row["start_epoch"]: row
            for row in evaluations[now].drift
            if (row["model_name"], row["segment_key"], row["feature_name"], row["granularity"])
            == ("stretched", "all", "distance", "week")
        }

    third, fourth = _epoch(at(2, 15)), _epoch(at(2, 22))
    half_way = weeks(HALF_WAY)
    assert half_way[third]["verdict"] == "drift"
    assert half_way[fourth]["psi"] > 0.25
    assert half_way[fourth]["current_count"] == 6.5 * ROWS_PER_DAY
    assert (half_way[fourth]["verdict"], half_way[fourth]["reason"]) == (
        "not_evaluated",
        "window_open",
    )
    # One of three, then, and no incident; what the same week comes to is known when it is over.
    assert weeks(FAULTY)[fourth]["verdict"] == "drift"


def test_rule_without_a_window_that_is_over_says_so_and_sends_no_gauge(
    evaluations: Mapping[datetime, Evaluation],
) -> None:
    for now in (SOUND_YET, HALF_WAY):
        rules = {f"{model}.f1_fell_in_a_month" for model in FAULTS}
        assert set(evaluations[now].report.not_evaluated) == {
            f"{rule}: window_open" for rule in rules
        }
        assert {name for name, value in evaluations[now].gauges.items() if value is None} == rules
    for now in (FAULTY, RECOVERED, LONG_RECOVERED):
        assert evaluations[now].report.not_evaluated == ()


@pytest.mark.parametrize("now", CLOCK, ids=lambda now: f"{now:%d-%B}")
def test_alarms_are_raised_and_ended_by_the_evaluation_that_follows(
    evaluations: Mapping[datetime, Evaluation], now: datetime
) -> None:
    evaluation = evaluations[now]
    raised = RAISED[now]
    assert set(evaluation.report.rules_breached) == raised
    assert {name for name, value in evaluation.gauges.items() if value} == raised | set(FAULTS)
    # Heartbeats are named after their models.
    assert evaluation.alarms == {
        name: "ALARM" if name in raised else "OK" for name in RULE_NAMES | set(FAULTS)
    }


def test_evaluations_publish_all_and_put_alarms_and_dashboards_once(
    evaluations: Mapping[datetime, Evaluation],
) -> None:
    for now, evaluation in evaluations.items():
        report = evaluation.report
        assert report.is_complete, report
        assert report.undefined == ()
        is_first = now == SOUND_YET
        assert len(report.alarms_put) == (len(RULE_NAMES) + len(FAULTS) if is_first else 0)
        assert len(report.dashboards_put) == (len(FAULTS) if is_first else 0)
        assert report.alarms_deleted == report.dashboards_deleted == ()


def test_metrics_say_what_is_in_breach_and_how_far(
    evaluations: Mapping[datetime, Evaluation], cloudwatch: Any
) -> None:
    def published(metric: str, now: datetime, model: str, **dimensions: str) -> float | None:
        found = {"Model": model, "ModelVersion": VERSION, **dimensions}
        alarm = {
            "Namespace": SETTINGS.namespace,
            "MetricName": metric,
            "Dimensions": [{"Name": name, "Value": value} for name, value in found.items()],
            "Period": 60,
        }
        return maximum_from(cloudwatch)(alarm, now - timedelta(minutes=1), now)

    for now in CLOCK:
        for model, incidents in EXPECTED.items():
            open_count = sum(each.status_at(now) == "open" for each in incidents)
            assert published("OpenBreaches", now, model) == open_count
        for model, feature in (("stretched", "distance"), ("forgetful", "age")):
            last_values = {
                row["segment_value"]: row["last_value"]
                for row in evaluations[now].of(model)
                if row["metric"] == "psi" and row["status"] == "open"
            }
            for region in REGIONS:
                place = {"Feature": feature, "Segment": f"region={region}", "Granularity": "week"}
                assert published("BreachingPsi", now, model, **place) == last_values.get(region)
            worst = published("WorstPSI", now, model)
            assert worst is not None
            # Of the newest week that is over, which is the last one that breached, or a sound one.
            if now == FAULTY:
                assert worst == last_values["all"]
            else:
                assert (worst > 0.25) == (now == HALF_WAY)
    assert (published("AUC", FAULTY, "inverted") or 1) < 0.5
    assert (published("AUC", RECOVERED, "inverted") or 0) > 0.7
