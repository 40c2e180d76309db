"""The flights demo, unmoved in time, from an empty folder: a newcomer's run, to the digit."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn import metrics

from sandbox import flights_data
from tests.end_to_end.finished_demo import Demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

MONTHS = ("2013-04-01", "2013-07-01", "2013-09-01")
ORIGINS = ("EWR", "JFK", "LGA")
RELATIVE, ABSOLUTE = 1e-9, 1e-12
MOST_MIB = 4096


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    return flights_data.load_flights()


def test_raw_tables_hold_every_event_exactly_once(demo: Demo, flights: pd.DataFrame) -> None:
    replayed = flights_data.replay_rows(flights)
    ids = flights_data.prediction_ids(replayed)
    arrived = replayed["arrived_at"].notna()
    expected = {
        "prediction_events": sorted(ids),
        "label_events": sorted(np.array(ids)[arrived.to_numpy()].tolist()),
    }
    with closing(demo.client("admin")) as client:
        for table, wanted in expected.items():
            landed = client.query(f"select key from raw.{table}").result_columns[0]
            # Lists, not sets: an id that landed twice would show.
            assert sorted(landed) == wanted, table
        kept = client.query("select prediction_id from fct_predictions").result_columns[0]
        assert sorted(kept) == expected["prediction_events"]
        assert client.query("select count() from fct_rejected_events").result_rows == [(0,)]


def test_demo_takes_less_than_four_gibibytes(demo: Demo) -> None:
    at_peak = sorted(demo.memory.mib_of.items(), key=lambda process: -process[1])
    assert any("sandbox.clickhouse_server" in name for name, _ in at_peak), "the server is unseen"
    assert demo.memory.peak_mib < MOST_MIB, at_peak


@pytest.mark.parametrize("month", MONTHS)
@pytest.mark.parametrize("origin", ORIGINS)
def test_performance_mart_equals_scikit_learn(
    demo: Demo, flights: pd.DataFrame, month: str, origin: str
) -> None:
    [mart] = demo.frame(
        "select * from fct_model_performance_monthly where window_start = {month:DateTime} "
        "and segment_key = 'origin' and segment_value = {origin:String}",
        month=month,
        origin=origin,
    ).to_dict("records")
    rows = demo.frame(
        "select prediction_id, score, label from fct_predictions where segments['origin'] = "
        "{origin:String} and toStartOfMonth(predicted_at, 'UTC') = {month:Date} and label != ''",
        origin=origin,
        month=month,
    )
    threshold = float(
        demo.frame("select threshold from dim_models where model_name = 'flights_delay'").iat[0, 0]
    )
    # The rows themselves are those of the data, not only those of the warehouse.
    replayed = flights_data.replay_rows(flights)
    replayed = replayed.assign(prediction_id=flights_data.prediction_ids(replayed))
    in_window = replayed["predicted_at"].dt.strftime("%Y-%m-01") == month
    wanted = replayed[in_window & (replayed["origin"] == origin) & replayed["label"].notna()]
    assert rows.set_index("prediction_id")["label"].to_dict() == (
        wanted.set_index("prediction_id")["label"].astype(str).to_dict()
    )

    late, score = rows["label"] == "late", rows["score"].astype(float)
    called = score >= threshold
    expected = {
        "auc": metrics.roc_auc_score(late, score),
        "f1": metrics.f1_score(late, called),
        "precision": metrics.precision_score(late, called),
        "recall": metrics.recall_score(late, called),
        "accuracy": metrics.accuracy_score(late, called),
    }
    assert {name: float(mart[name]) for name in expected} == pytest.approx(
        expected, rel=RELATIVE, abs=ABSOLUTE
    )
    assert mart["labeled_count"] == len(rows)
    assert mart["status"] == "final"


@pytest.mark.parametrize("month", MONTHS)
@pytest.mark.parametrize("origin", ORIGINS)
def test_drift_mart_equals_numpy_on_the_flights(
    demo: Demo, flights: pd.DataFrame, month: str, origin: str
) -> None:
    training = flights_data.training_rows(flights)
    baseline = training[training["origin"] == origin]
    replayed = flights_data.replay_rows(flights)
    in_window = replayed["predicted_at"].dt.strftime("%Y-%m-01") == month
    current = replayed[in_window & (replayed["origin"] == origin)]
    mart = demo.frame(
        "select feature_name, psi, kl_current_baseline, kl_baseline_current, current_count "
        "from fct_feature_drift_monthly "
        "where window_start = {month:DateTime} and comparison = 'baseline' "
        "and segment_key = 'origin' and segment_value = {origin:String}",
        month=month,
        origin=origin,
    ).set_index("feature_name")
    for name in flights_data.FEATURES:
        # Bins come from the whole baseline, counts from the segment's.
        if name in flights_data.CATEGORICAL_FEATURES:
            count = _category_counter(training[name])
        else:
            count = _number_counter(training[name].to_numpy(float))
        q_over_p, p_over_q = _kullback_leibler(count(baseline[name]), count(current[name]))
        found = mart.loc[name]
        assert found["current_count"] == len(current), name
        assert [found["kl_current_baseline"], found["kl_baseline_current"], found["psi"]] == (
            pytest.approx([q_over_p, p_over_q, q_over_p + p_over_q], rel=RELATIVE, abs=ABSOLUTE)
        ), name


def _category_counter(training: pd.Series[Any]) -> Any:
    frequency = training.astype(object).value_counts()
    ranked = sorted(frequency.index, key=lambda category: (-frequency[category], category))[:50]

    def count(values: pd.Series[Any]) -> npt.NDArray[np.float64]:
        known = values.astype(object).dropna()
        per_category = known.value_counts().reindex(ranked, fill_value=0).to_numpy()
        return np.array(
            [*per_category, len(known) - per_category.sum(), values.isna().sum()], float
        )

    return count


def _number_counter(training: npt.NDArray[np.float64]) -> Any:
    known = training[~np.isnan(training)]
    distinct, frequency = np.unique(known, return_counts=True)
    is_few = len(distinct) <= 20
    points = distinct if is_few else distinct[frequency * 10 >= len(known)]
    rest = known[~np.isin(known, points)]
    edges = np.array([]) if is_few else np.unique(np.quantile(rest, np.arange(1, 10) / 10))

    def count(values: pd.Series[Any]) -> npt.NDArray[np.float64]:
        numbers = values.dropna().to_numpy(float)
        at_points = [float((numbers == point).sum()) for point in points]
        others = numbers[~np.isin(numbers, points)]
        # side="left": an edge belongs to the interval below it.
        in_intervals = np.bincount(
            np.searchsorted(edges, others, side="left"), minlength=len(edges) + 1
        )
        return np.array([*at_points, *in_intervals, values.isna().sum()], float)

    return count


def _kullback_leibler(
    baseline: npt.NDArray[np.float64], current: npt.NDArray[np.float64]
) -> tuple[float, float]:
    kept = baseline + current > 0
    p = (baseline[kept] + 0.5) / (baseline.sum() + 0.5 * kept.sum())
    q = (current[kept] + 0.5) / (current.sum() + 0.5 * kept.sum())
    return float(np.sum(q * np.log(q / p))), float(np.sum(p * np.log(p / q)))


def test_story_is_the_one_of_the_data(demo: Demo) -> None:
    months = demo.frame(
        "select toMonth(window_start) as month, f1, auc, prevalence, baseline_auc "
        "from fct_model_performance_monthly where segment_key = 'all' and prediction_count > 1000"
    ).set_index("month")
    # The base rate falls from summer to September, and F1 with it.
    assert months.at[9, "prevalence"] < months.at[7, "prevalence"] / 2
    assert months.at[9, "f1"] < months.at[7, "f1"] - 0.15
    # Scores out of fold: the baseline is no better than the months that follow promise.
    assert (months["baseline_auc"] - months["auc"]).abs().max() < 0.08
    drifted = demo.frame(
        "select distinct feature_name from fct_feature_drift_weekly "
        # The year ends within its last week: two days of it are no week of weekdays.
        "where verdict = 'drift' and comparison = 'baseline' and segment_key = 'all' "
        "and window_start < '2013-12-30'"
    )["feature_name"].tolist()
    assert "temperature" in drifted
    assert not {"weekday", "carrier", "origin"} & set(drifted)


def test_report_shows_what_the_marts_hold(demo: Demo) -> None:
    september = demo.frame(
        "select f1, auc from fct_model_performance_monthly "
        "where segment_key = 'all' and toMonth(window_start) = 9"
    ).iloc[0]
    text = re.sub(r"\s+", " ", demo.output)
    assert f"{september['f1']:.3f}" in text
    assert f"{september['auc']:.3f}" in text
    assert "driftline query" in text


def test_cloudwatch_has_what_the_marts_say(demo: Demo) -> None:
    cloudwatch = boto3.client(
        "cloudwatch",
        endpoint_url=demo.environment["AWS_ENDPOINT_URL"],
        region_name=demo.environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=demo.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=demo.environment["AWS_SECRET_ACCESS_KEY"],
    )
    now = datetime.now(UTC)

    def pushed(metric: str, **dimensions: str) -> set[float]:
        points = cloudwatch.get_metric_statistics(
            Namespace="Driftline",
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - timedelta(hours=3),
            EndTime=now + timedelta(hours=1),
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
        assert points, metric
        return {point["Maximum"] for point in points}

    week = demo.frame(
        "select auc, f1, label_coverage from fct_model_performance_weekly "
        "where segment_key = 'all' and status = 'final' order by window_start desc limit 1"
    ).iloc[0]
    for metric, column in (("AUC", "auc"), ("F1", "f1"), ("LabelCoverage", "label_coverage")):
        [value] = pushed(metric, Model=flights_data.MODEL_NAME, ModelVersion="1")
        assert value == pytest.approx(week[column], rel=RELATIVE), metric
    rules = demo.frame(
        "select monitor_name, max(status = 'open') as is_open from fct_breaches "
        "group by monitor_name"
    )
    assert len(rules)
    for rule in rules.itertuples():
        found = pushed("RuleBreached", Model=flights_data.MODEL_NAME, Rule=str(rule.monitor_name))
        assert found == {float(rule.is_open)}
    configured = demo.frame("select monitor_name from int_monitor_rules")["monitor_name"]
    alarms = {one["AlarmName"] for one in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert alarms == {
        "driftline-heartbeat/flights_delay",
        *(f"driftline-rule/flights_delay/{name}" for name in configured),
    }
    dashboards = cloudwatch.list_dashboards()["DashboardEntries"]
    assert [one["DashboardName"] for one in dashboards] == ["driftline-flights_delay"]
    assert "Pushed to CloudWatch: " in demo.output
    # The breaches of 2013 are over for longer than retraining looks back.
    assert "Nothing was due" in demo.output


@pytest.mark.thorough
def test_second_demo_sends_nothing_and_changes_no_mart(demo: Demo) -> None:
    marts = (
        *("fct_feature_drift_monthly", "fct_model_performance_monthly"),
        *("fct_data_quality_monthly", "fct_service_monthly"),
    )
    before = [_content(demo, mart) for mart in marts]
    again = demo.driftline("demo", "flights", "--shift-weeks", "0")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing to replay" in again.stdout
    for mart, old in zip(marts, before, strict=True):
        pd.testing.assert_frame_equal(_content(demo, mart), old, rtol=RELATIVE, atol=ABSOLUTE)


def _content(demo: Demo, mart: str) -> Any:
    frame = demo.frame(f"select * except (run_version) from {mart}")
    key = [
        c
        for c in ("comparison", "window_start", "segment_key", "segment_value", "feature_name")
        if c in frame
    ]
    return frame.sort_values(key, ignore_index=True)


def test_analyst_reads_marts_by_every_client(demo: Demo) -> None:
    statement = "select count() as n from fct_predictions"
    expected = str(demo.frame(statement).iat[0, 0])
    printed = demo.driftline("query", statement, "--format", "csv")
    assert printed.stdout.split() == ['"n"', expected], printed.stderr
    assert _post_as_analyst(demo, statement) == expected


@pytest.mark.parametrize(
    "statement",
    [
        "insert into raw.label_events (topic) values ('x')",
        "create table mine (x Int8) engine = Memory",
        "drop table fct_predictions",
        "alter table int_predictions delete where 1",
        "select * from file('/etc/passwd', 'LineAsString')",
        "select * from url('http://127.0.0.1:1/', 'LineAsString')",
    ],
)
def test_analyst_can_write_nothing_and_read_no_file(demo: Demo, statement: str) -> None:
    refused = demo.driftline("query", statement)
    assert refused.returncode != 0
    assert "error:" in refused.stderr
    with pytest.raises(urllib.error.HTTPError) as raised:
        _post_as_analyst(demo, statement)
    assert raised.value.code in (400, 403, 500, 501)


def _post_as_analyst(demo: Demo, statement: str) -> str:
    environment = demo.environment
    url = (
        f"http://{environment['CLICKHOUSE_HOST']}:{environment['CLICKHOUSE_PORT']}/?"
        + urllib.parse.urlencode({"database": environment["CLICKHOUSE_DATABASE"]})
    )
    account = (
        f"{environment['CLICKHOUSE_ANALYST_USER']}:{environment['CLICKHOUSE_ANALYST_PASSWORD']}"
    )
    request = urllib.request.Request(
        url,
        data=statement.encode(),
        headers={"Authorization": "Basic " + b64encode(account.encode()).decode()},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return answer.read().decode().strip()  # type: ignore[no-any-return]
