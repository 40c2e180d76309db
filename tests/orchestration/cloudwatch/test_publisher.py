from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from driftline.settings import SettingsError
from orchestration.cloudwatch.outbox import Outbox, State
from orchestration.cloudwatch.publisher import (
    CloudWatchSettings,
    PublicationReport,
    PublishingError,
    connect_cloudwatch,
    publish,
)
from tests.orchestration.cloudwatch.alarm_evaluator import alarm_states
from tests.orchestration.cloudwatch.mart_tables import MartTables

TOPIC = "arn:aws:sns:eu-west-1:123456789012:driftline"
HOUR = 3600
RULE_ALARM = "driftline-rule/m/fell"
HEARTBEAT_ALARM = "driftline-heartbeat/m"


def run(
    warehouse: MartTables,
    cloudwatch: Any,
    now: datetime,
    run_id: str = "run",
    **settings: Any,
) -> PublicationReport:
    return publish(
        warehouse.client,
        cloudwatch,
        CloudWatchSettings(
            database=warehouse.database,
            raw_database=warehouse.raw_database,
            alarm_period_seconds=HOUR,
            **settings,
        ),
        now=now,
        run_id=run_id,
        pause=lambda _seconds: None,
    )


@pytest.fixture
def monitored(warehouse: MartTables) -> MartTables:
    """Give marts of one model with one rule, and no incident."""
    warehouse.fill("dim_models", {"model_name": "m"})
    warehouse.fill("int_monitor_rules", {"model_name": "m", "monitor_name": "fell"})
    return warehouse


def open_breach(warehouse: MartTables, status: str = "open") -> None:
    warehouse.replace("fct_breaches", {"model_name": "m", "monitor_name": "fell", "status": status})


def test_breach_raises_the_alarm_and_recovery_ends_it(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    at = now - timedelta(hours=6)
    report = run(monitored, cloudwatch, at, "healthy")
    assert report.problems == ()
    assert set(report.alarms_put) == {RULE_ALARM, HEARTBEAT_ALARM}
    assert report.dashboards_put == ("driftline-m",)
    assert alarm_states(cloudwatch, "driftline-", at) == {RULE_ALARM: "OK", HEARTBEAT_ALARM: "OK"}

    at += timedelta(hours=1)
    open_breach(monitored)
    report = run(monitored, cloudwatch, at, "breached")
    assert report.rules_breached == ("fell",)
    assert (report.alarms_put, report.dashboards_put) == ((), ())
    assert alarm_states(cloudwatch, "driftline-", at)[RULE_ALARM] == "ALARM"

    # An evaluation an hour, and the weekly value is the same: one alarm, still.
    at += timedelta(hours=1)
    run(monitored, cloudwatch, at, "still breached")
    assert alarm_states(cloudwatch, "driftline-", at)[RULE_ALARM] == "ALARM"

    at += timedelta(hours=1)
    open_breach(monitored, "resolved")
    assert run(monitored, cloudwatch, at, "recovered").rules_breached == ()
    assert alarm_states(cloudwatch, "driftline-", at)[RULE_ALARM] == "OK"


def test_missing_evaluations_raise_the_heartbeat_alone(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    at = now - timedelta(hours=6)
    open_breach(monitored)
    run(monitored, cloudwatch, at)
    later = at + timedelta(hours=2)
    assert alarm_states(cloudwatch, "driftline-", later) == {
        RULE_ALARM: "OK",
        HEARTBEAT_ALARM: "ALARM",
    }


def test_crash_between_send_and_mark_is_sent_once_more_and_changes_no_alarm(
    monitored: MartTables, cloudwatch: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CrashError(Exception):
        pass

    sent: list[tuple[str, datetime]] = []
    cloudwatch.meta.events.register(
        "before-parameter-build.cloudwatch.PutMetricData",
        lambda params, **_: sent.extend(
            (metric["MetricName"], metric["Timestamp"]) for metric in params["MetricData"]
        ),
    )
    at = now - timedelta(hours=2)
    run(monitored, cloudwatch, at - timedelta(minutes=20), "before")
    open_breach(monitored)
    sent.clear()

    whole = Outbox.mark

    def mark(outbox: Outbox, entries: Any, state: State, reason: str = "") -> None:
        if state is State.SENT:
            raise CrashError
        whole(outbox, entries, state, reason)

    with monkeypatch.context() as crashing:
        crashing.setattr(Outbox, "mark", mark)
        with pytest.raises(CrashError):
            run(monitored, cloudwatch, at, "crashed")
    states = alarm_states(cloudwatch, "driftline-", at)
    assert states == {RULE_ALARM: "ALARM", HEARTBEAT_ALARM: "OK"}
    of_crash = list(sent)
    assert ("RuleBreached", at) in of_crash

    # The same run again, as an orchestrator would, and the next one after it.
    sent.clear()
    again = run(monitored, cloudwatch, at + timedelta(minutes=5), "crashed")
    assert sorted(sent) == sorted(of_crash)
    assert again.pending == 0
    assert alarm_states(cloudwatch, "driftline-", at) == states
    assert alarm_states(cloudwatch, "driftline-", at + timedelta(minutes=5)) == states

    sent.clear()
    run(monitored, cloudwatch, at + timedelta(minutes=10), "next")
    assert {stamp for _, stamp in sent} == {at + timedelta(minutes=10)}
    assert {row[2:] for row in monitored.publications()} == {("sent", 1)}


def test_publishing_again_changes_nothing_that_is_right(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    run(monitored, cloudwatch, now, "first")
    again = run(monitored, cloudwatch, now, "second")
    same = run(monitored, cloudwatch, now, "second")

    assert (again.alarms_put, again.alarms_deleted, len(again.alarms_unchanged)) == ((), (), 2)
    assert (again.dashboards_put, again.dashboards_unchanged) == ((), ("driftline-m",))
    assert (again.sent, same.sent) == (3, 0)
    assert again.undefined
    assert again.is_complete


def test_rule_and_model_that_are_gone_take_alarms_and_dashboard_along(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    run(monitored, cloudwatch, now, "first", alarm_topic_arns=(TOPIC,))
    monitored.replace("int_monitor_rules")
    report = run(monitored, cloudwatch, now, "second", alarm_topic_arns=(TOPIC,))
    assert report.alarms_deleted == (RULE_ALARM,)
    monitored.replace("dim_models")
    report = run(monitored, cloudwatch, now, "third", alarm_topic_arns=(TOPIC,))
    assert report.alarms_deleted == (HEARTBEAT_ALARM,)
    assert report.dashboards_deleted == ("driftline-m",)


def test_alarm_of_a_rule_that_became_invalid_stays(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    run(monitored, cloudwatch, now, "first")
    monitored.replace(
        "int_monitor_rules",
        {"model_name": "m", "monitor_name": "fell", "problem": "unknown_metric"},
    )
    report = run(monitored, cloudwatch, now, "second")
    assert report.alarms_deleted == ()
    assert RULE_ALARM in alarm_states(cloudwatch, "driftline-", now)


def test_missing_marts_publish_nothing_and_delete_nothing(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    run(monitored, cloudwatch, now, "first")
    monitored.client.command(f"drop table {monitored.database}.int_monitor_rules")
    report = run(monitored, cloudwatch, now, "second")

    assert (report.sent, report.alarms_deleted, report.dashboards_deleted) == (0, (), ())
    assert "has no int_monitor_rules: driftline dbt build" in report.problems[0]
    assert len(alarm_states(cloudwatch, "driftline-", now)) == 2


def test_empty_warehouse_is_published_as_nothing(
    warehouse: MartTables, cloudwatch: Any, now: datetime
) -> None:
    report = run(warehouse, cloudwatch, now)
    assert report == PublicationReport("run")


def test_missing_outbox_names_the_remedy(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    monitored.client.command(f"drop table {monitored.raw_database}.metric_publications")
    with pytest.raises(PublishingError, match="driftline migrate"):
        run(monitored, cloudwatch, now)


def test_disabled_publisher_touches_nothing(now: datetime) -> None:
    report = publish(
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        CloudWatchSettings(is_enabled=False),
        now=now,
        run_id="run",
    )
    assert report == PublicationReport("run", is_enabled=False)


def test_quarantined_and_left_out_are_reported_and_the_rest_is_sent(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    monitored.fill("dim_models", {"model_name": "Zürich"})
    report = run(monitored, cloudwatch, now, metric_budget=4)

    assert report.sent == 2
    assert [words.split(" (")[0] for words in report.quarantined] == [
        "EvaluationsCompleted",
        "OpenBreaches",
    ]
    assert all("Model is not ASCII: 'Zürich'" in words for words in report.quarantined)
    assert report.left_out == ("OpenBreaches (Model=m, ModelVersion=1)",)
    assert not report.is_complete


def test_throttled_service_loses_nothing(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    client = boto3.client(
        "cloudwatch", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stub:
        for operation in ("put_metric_data", "describe_alarms", "list_dashboards"):
            stub.add_client_error(operation, "Throttling", "Rate exceeded", 400)
        report = run(monitored, client, now, "throttled")
    assert (report.sent, report.pending) == (0, 3)
    assert len(report.problems) == 3
    assert not report.is_complete

    report = run(monitored, cloudwatch, now + timedelta(minutes=1), "next")
    assert (report.sent, report.pending, report.problems) == (6, 0, ())


def test_metadata_are_counts_and_names() -> None:
    report = PublicationReport("run", sent=3, problems=("a", "b"))
    metadata = report.as_metadata()
    assert metadata["sent"] == 3
    assert metadata["problems_count"] == 2
    assert metadata["problems"] == "a\nb"
    assert metadata["is_enabled"] == "true"
    assert "left_out" not in metadata


def settings(**environment: str) -> CloudWatchSettings:
    return CloudWatchSettings.from_environment(environment)


def test_settings_have_defaults_and_come_from_the_environment() -> None:
    assert settings() == CloudWatchSettings()
    assert settings(
        DRIFTLINE_CLOUDWATCH_ENABLED="false",
        DRIFTLINE_CLOUDWATCH_NAMESPACE="Models",
        DRIFTLINE_ALARM_PREFIX="ml.",
        DRIFTLINE_DASHBOARD_PREFIX="ml-",
        DRIFTLINE_ALARM_TOPIC_ARNS=f"{TOPIC}, {TOPIC}-2,",
        DRIFTLINE_ALARM_PERIOD_SECONDS="7200",
        DRIFTLINE_METRIC_BUDGET="40",
        CLICKHOUSE_DATABASE="marts",
        CLICKHOUSE_RAW_DATABASE="landed",
    ) == CloudWatchSettings(
        is_enabled=False,
        namespace="Models",
        alarm_prefix="ml.",
        dashboard_prefix="ml-",
        alarm_topic_arns=(TOPIC, f"{TOPIC}-2"),
        alarm_period_seconds=7200,
        metric_budget=40,
        database="marts",
        raw_database="landed",
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"DRIFTLINE_CLOUDWATCH_ENABLED": "perhaps"},
        {"DRIFTLINE_CLOUDWATCH_NAMESPACE": "AWS/Driftline"},
        {"DRIFTLINE_ALARM_PREFIX": "with space"},
        {"DRIFTLINE_ALARM_PREFIX": "x" * 101},
        {"DRIFTLINE_DASHBOARD_PREFIX": "a.b"},
        {"DRIFTLINE_ALARM_TOPIC_ARNS": "arn:aws:sqs:eu-west-1:123456789012:queue"},
        {"DRIFTLINE_ALARM_TOPIC_ARNS": "arn:aws:sns:eu-west-1:12345:topic"},
        {"DRIFTLINE_ALARM_TOPIC_ARNS": ",".join(f"{TOPIC}-{number}" for number in range(6))},
        {"DRIFTLINE_ALARM_PERIOD_SECONDS": "3601"},
        {"DRIFTLINE_ALARM_PERIOD_SECONDS": "604860"},
        {"DRIFTLINE_ALARM_PERIOD_SECONDS": "0"},
        {"DRIFTLINE_METRIC_BUDGET": "-1"},
        {"DRIFTLINE_METRIC_BUDGET": "many"},
    ],
    ids=str,
)
def test_wrong_setting_is_named(environment: Mapping[str, str]) -> None:
    (name,) = environment
    with pytest.raises(SettingsError, match=name):
        CloudWatchSettings.from_environment(environment)


def test_client_takes_endpoint_from_the_environment_and_retries_adaptively(
    monkeypatch: pytest.MonkeyPatch, moto_url: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    client: Any = connect_cloudwatch()
    assert client.meta.endpoint_url == moto_url
    assert client.meta.config.retries["mode"] == "adaptive"


def test_client_without_a_region_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="AWS_DEFAULT_REGION"):
        connect_cloudwatch()


def test_stamps_are_the_time_of_evaluation_in_milliseconds(
    monitored: MartTables, cloudwatch: Any, now: datetime
) -> None:
    sent: list[datetime] = []
    cloudwatch.meta.events.register(
        "before-parameter-build.cloudwatch.PutMetricData",
        lambda params, **_: sent.extend(metric["Timestamp"] for metric in params["MetricData"]),
    )
    run(monitored, cloudwatch, now.replace(microsecond=123_456))
    assert set(sent) == {now.replace(microsecond=123_000)}
