"""Breaches: injected trouble opens an incident, soundness none; M of N against a replay by hand."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from driftline.command_line import app
from driftline.monitor_dry_run import DryRunError, compile_statements, configured_rule, dry_run
from orchestration.cloudwatch.gauges import evaluate
from tests.dbt_project.monitored_warehouse import MODEL, MonitoredWarehouse, prediction, time_text
from tests.warehouse_fixtures import ClickHouseProcess

START = datetime(2026, 1, 5, tzinfo=UTC)
TYPES = {"steady": "numeric", "moving": "numeric"}
MONITORS = (
    f"drifted,{MODEL},psi,all,*,week,>=,0.25,50,2,3,warn",
    f"drifted_somewhere,{MODEL},psi,origin,moving,week,>=,0.25,50,1,1,warn",
    f"silent,{MODEL},prediction_count,all,,day,<,5,0,1,1,error",
    f"slow,{MODEL},latency_p95_ms,all,,day,>,100,5,1,1,warn",
    f"auc_fell,{MODEL},auc,all,,week,<,0.99,50,1,1,error",
    f"few,{MODEL},error_rate,all,,week,>,0,1000000,1,1,warn",
    f"unheard,{MODEL},null_rate,all,no_such_feature,day,>,0,1,1,1,warn",
)
# One rule for each thing that can be wrong with one: its line, and the complaint about it.
WRONG_RULES = {
    "twin": (
        f"twin,{MODEL},psi,all,*,week,>=,1,50,1,1,warn\ntwin,{MODEL},psi,all,*,week,>=,1,50,1,1,warn",
        "duplicate monitor name: give every rule a name of its own",
    ),
    "": (
        f",{MODEL},psi,all,*,week,>=,1,50,1,1,warn",
        "missing monitor name: give it a monitor_name",
    ),
    "of_another": (
        "of_another,other,psi,all,*,week,>=,1,50,1,1,warn",
        "unknown model: name a model of models.csv",
    ),
    "typo": (
        f"typo,{MODEL},psi,all,*,week,=>,0.25,50,2,3,warn",
        "unknown comparator: use >, >=, < or <=",
    ),
    "yearly": (
        f"yearly,{MODEL},psi,all,*,year,>=,0.25,50,2,3,warn",
        "unknown granularity: use day, week or month"
        " (hour only for features, reject_rate and reject_run)",
    ),
    "semicolon": (
        f"semicolon,{MODEL},psi,all,*,week,>=,0;25,50,2,3,warn",
        "threshold is no number: write a number, with a point where it has decimals",
    ),
    "many": (
        f"many,{MODEL},psi,all,*,week,>=,0.25,many,2,3,warn",
        "min rows is no count: write a whole number of 0 or more, or leave it empty for 0",
    ),
    "no_windows": (
        f"no_windows,{MODEL},psi,all,*,week,>=,0.25,50,,,warn",
        "windows are no counts: write whole numbers into windows_breaching and windows_considered: "
        "1 and 1 fire at once",
    ),
    "three_of_two": (
        f"three_of_two,{MODEL},psi,all,*,week,>=,0.25,50,3,2,warn",
        "impossible windows: have 1 <= windows_breaching <= windows_considered",
    ),
    "fatal": (
        f"fatal,{MODEL},psi,all,*,week,>=,0.25,50,2,3,fatal",
        "unknown severity: use warn or error",
    ),
    "pages": (
        f"pages,{MODEL},psi,all,*,week,>=,0.25,50,2,3,warn,page",
        "unknown actions: use alarm, retrain, alarm|retrain or none, or leave it empty for "
        "alarm|retrain",
    ),
    "by_colour": (
        f"by_colour,{MODEL},psi,colour,*,week,>=,0.25,50,2,3,warn",
        "undeclared segment set: declare the set in segment_sets.csv, or use all",
    ),
    "of_nothing": (
        f"of_nothing,{MODEL},psi,all,,week,>=,0.25,50,2,3,warn",
        "missing feature name: name a feature, or * for every one",
    ),
    "auc_of_age": (
        f"auc_of_age,{MODEL},auc,all,age,week,<,0.25,50,2,3,warn",
        "needless feature name: leave feature_name empty, as the metric is not about a feature",
    ),
    "rejects_of_one": (
        f"rejects_of_one,{MODEL},reject_rate,all,,day,>,0.25,50,2,3,warn",
        "not about topics: have model_name * and segment_key topic: an event that is rejected may "
        "name no model",
    ),
}


def as_of(moment: datetime) -> tuple[str, str]:
    """Give dbt's arguments for a run that knows what is known at a moment."""
    return "--vars", json.dumps({"as_of": f"{moment:%Y-%m-%dT%H:%M:%SZ}"})


@pytest.fixture(scope="module")
def shared_warehouse(
    clickhouse_server: ClickHouseProcess, tmp_path_factory: pytest.TempPathFactory
) -> MonitoredWarehouse:
    folder = tmp_path_factory.mktemp("breaches")
    return MonitoredWarehouse(clickhouse_server, folder, "breaches_marts", ["+fct_breaches"])


@pytest.fixture
def warehouse(shared_warehouse: MonitoredWarehouse) -> MonitoredWarehouse:
    shared_warehouse.empty()
    shared_warehouse.configure(
        segment_sets=[f"{MODEL},origin"],
        monitors=MONITORS,
        models=[f"{MODEL},binary,yes,0.5,1,100000,50,,,"],
    )
    return shared_warehouse


def a_week(week: int, seed: int, *, shift: float = 0.0, **others: Any) -> list[dict[str, Any]]:
    """Two hundred predictions spread over a week; `shift` moves one feature in one origin."""
    generator = np.random.default_rng(seed)
    return [
        prediction(
            f"{seed}-{number}",
            START + timedelta(weeks=week, minutes=50 * number),
            {
                "steady": float(generator.normal()),
                "moving": float(generator.normal()) + (shift if number % 2 else 0),
            },
            segments={"origin": "EWR" if number % 2 else "JFK"},
            latency_ms=10.0,
            **others,
        )
        for number in range(200)
    ]


def incidents(warehouse: MonitoredWarehouse, status: str) -> list[tuple[str, ...]]:
    rows = warehouse.query(
        "select monitor_name, segment_value, feature_name, reason from {marts}.fct_breaches "
        "where status = {status:String} order by all",
        status=status,
    )
    return [tuple(row.values()) for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_trouble_opens_an_incident_and_soundness_none(warehouse: MonitoredWarehouse) -> None:
    baseline = [event for week in range(-6, 0) for event in a_week(week, 100 + week)]
    warehouse.register_baseline(baseline, TYPES)
    sound = [event for week in range(3) for event in a_week(week, week)]
    warehouse.land(sound)
    label = {"schema_version": 1, "model_name": MODEL, "source": "test"}
    warehouse.land(
        (
            {
                **label,
                "prediction_id": event["prediction_id"],
                "label": "yes" if number % 3 else "no",
                "observed_at": time_text(START + timedelta(weeks=4)),
            }
            for number, event in enumerate(sound)
        ),
        table="label_events",
    )
    warehouse.build(*as_of(START + timedelta(weeks=3)))
    assert incidents(warehouse, "open") == []
    assert incidents(warehouse, "resolved") == []
    unanswered = [
        ("auc_fell", "", "", "labels_not_complete"),
        ("few", "", "", "below_min_rows"),
        ("unheard", "", "no_such_feature", "no_windows"),
    ]
    assert incidents(warehouse, "not_evaluated") == unanswered

    # two weeks with a drift in one origin, and a silent Wednesday with a slow Thursday after it
    wednesday = START + timedelta(weeks=4, days=2)
    drifted = [event for week in (3, 4) for event in a_week(week, week, shift=3)]
    kept = [
        {**event, "latency_ms": 500.0} if event["predicted_at"][:10] == "2026-02-05" else event
        for event in drifted
        if event["predicted_at"][:10] != time_text(wednesday)[:10]
    ]
    warehouse.land(kept)
    end = START + timedelta(weeks=5)
    warehouse.build(*as_of(end))
    assert incidents(warehouse, "open") == [
        ("drifted", "all", "moving", ""),
        ("drifted_somewhere", "EWR", "moving", ""),
    ]
    assert incidents(warehouse, "resolved") == [
        ("silent", "all", "", "recovered"),
        ("slow", "all", "", "recovered"),
    ]
    silent = warehouse.query(
        "select worst_value, toString(opened_at) as opened, toString(resolved_at) as resolved "
        "from {marts}.fct_breaches where monitor_name = 'silent'"
    )
    assert silent == [
        {"worst_value": 0, "opened": "2026-02-05 00:00:00", "resolved": "2026-02-06 00:00:00"}
    ]

    # labels are complete by now; a rule that can never be evaluated does not stop the others
    warehouse.configure(
        segment_sets=[f"{MODEL},origin"],
        monitors=[*MONITORS, *(line for line, _ in WRONG_RULES.values())],
        models=[f"{MODEL},binary,yes,0.5,1,1,50,,,"],
    )
    kinds = ("--resource-type", "model", "--resource-type", "seed", "--resource-type", "test")
    statuses = warehouse.dbt("build", *kinds, "--select", "+fct_breaches", *as_of(end))
    status, message = statuses.pop("monitors_are_valid")
    assert status == "error"
    lines = message.splitlines()
    for name, (_, complaint) in WRONG_RULES.items():
        [line] = {line.strip() for line in lines if f"monitors.csv, '{name}': " in line}
        problem, remedy = complaint.split(": ", 1)
        assert line.startswith(f"monitors.csv, '{name}': {problem} ("), line
        assert line.endswith(f"): {remedy}"), line
    assert "comparator =>" in message
    assert "threshold 0;25" in message
    assert {status for status, _ in statuses.values()} == {"success", "pass"}
    assert ("typo", "", "*", "unknown_comparator") in incidents(warehouse, "not_evaluated")
    assert ("auc_fell", "all", "", "") in incidents(warehouse, "open")

    what_is_reported_never_vanishes(warehouse, sound, end)
    a_dry_run_finds_what_the_marts_hold(warehouse, end)


def what_is_reported_never_vanishes(
    warehouse: MonitoredWarehouse, sound: list[dict[str, Any]], end: datetime
) -> None:
    """Undo incidents by labels that come late, by another rule and by a mute."""
    before = incidents(warehouse, "resolved")
    # Corrected, all labels are of one class: there is no AUC that could be too low.
    warehouse.land(
        (
            {
                "schema_version": 1,
                "model_name": MODEL,
                "source": "test",
                "prediction_id": event["prediction_id"],
                "label": "yes",
                "observed_at": time_text(START + timedelta(weeks=4, days=1)),
            }
            for event in sound
        ),
        table="label_events",
    )
    week = timedelta(weeks=1)
    warehouse.configure(
        segment_sets=[f"{MODEL},origin"],
        monitors=[rule.replace("slow,", "slower,") for rule in MONITORS]
        + [f"recorded,{MODEL},psi,all,moving,week,>=,0.25,50,1,1,error,none"],
        mutes=[
            f"drifted,{end - week:%Y-%m-%d},{end:%Y-%m-%d},upstream migrates",
            f"drifted_somewhere,{end - week:%Y-%m-%d},{end + week:%Y-%m-%d},known",
        ],
        models=[f"{MODEL},binary,yes,0.5,1,1,50,,,,1"],
    )
    warehouse.build("mutes", "rpt_alert_budget", *as_of(end))
    assert incidents(warehouse, "retracted") == [
        ("auc_fell", "all", "", "undone"),
        ("drifted", "all", "moving", "muted_since"),
        ("slow", "all", "", "rule_removed"),
    ]
    # What breaches in silence is told, an incident from before the mute stays open without alarm.
    assert incidents(warehouse, "muted") == [
        ("drifted", "all", "moving", "upstream migrates"),
        ("drifted_somewhere", "EWR", "moving", "known"),
    ]
    assert incidents(warehouse, "open") == [
        ("drifted_somewhere", "EWR", "moving", ""),
        ("recorded", "all", "moving", ""),
    ]
    assert incidents(warehouse, "resolved") == [
        (name.replace("slow", "slower"), *rest) for name, *rest in before
    ]
    told = evaluate(warehouse.client, warehouse.name, end, stale_after=timedelta(days=9999))
    states = {rule.name: (rule.is_breached, rule.rings) for rule in told.rules}
    assert states["drifted_somewhere"] == (False, True)
    assert states["recorded"] == (True, False)
    later = evaluate(warehouse.client, warehouse.name, end + week, stale_after=week * 9999)
    assert {rule.name for rule in later.rules if rule.is_breached} == {
        "drifted_somewhere",
        "recorded",
    }
    budget = warehouse.query(
        "select toString(week_start) as week, monitor_name, incident_count, retracted_count, "
        "model_incident_count, incidents_per_week, is_over_budget from {marts}.rpt_alert_budget "
        "order by week, monitor_name"
    )
    weeks = {row["week"]: row for row in budget}
    # A week's end is the next week's Monday, and so are the incidents that it opens.
    assert {row["monitor_name"] for row in budget} == {
        "auc_fell", "drifted", "drifted_somewhere", "recorded", "silent", "slow", "slower",
    }  # fmt: skip
    assert {row["incidents_per_week"] for row in budget} == {1}
    by_rule = {row["monitor_name"]: row for row in budget}
    assert (by_rule["slow"]["retracted_count"], by_rule["slower"]["retracted_count"]) == (1, 0)
    assert by_rule["drifted"]["is_over_budget"] == (by_rule["drifted"]["model_incident_count"] > 1)
    assert max(row["is_over_budget"] for row in weeks.values()) == 1

    # What is found again is retracted no more.
    warehouse.configure(
        segment_sets=[f"{MODEL},origin"],
        monitors=MONITORS,
        models=[f"{MODEL},binary,yes,0.5,1,1,50,,,"],
    )
    warehouse.build_only("monitors+", "mutes+", "retraining", *as_of(end))
    assert incidents(warehouse, "retracted") == [
        ("auc_fell", "all", "", "undone"),
        ("recorded", "all", "moving", "rule_removed"),
        ("slower", "all", "", "rule_removed"),
    ]
    assert incidents(warehouse, "resolved") == before


def a_dry_run_finds_what_the_marts_hold(warehouse: MonitoredWarehouse, end: datetime) -> None:
    """Try each rule as the analyst, and compare with what dbt has built of it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DBT_")},
        **warehouse.environment,
        "DRIFTLINE_HOME": str(warehouse.folder),
    }
    statements = compile_statements(environment, end)
    columns = [
        "status", "reason", "model_version", "segment_value", "feature_name", "opened_at",
        "last_seen_at", "resolved_at", "breaching_window_count", "worst_value", "last_value",
    ]  # fmt: skip
    tables = warehouse.query("select count() as number from system.tables")
    with closing(warehouse.server.client("analyst", autogenerate_session_id=False)) as analyst:
        # One muted, one of a volume, one that looks at nothing.
        for name in ("drifted", "silent", "unheard"):
            rule = configured_rule(analyst, warehouse.name, name, environment)
            found = dry_run(analyst, warehouse.name, rule, statements)
            built = warehouse.query(
                f"select {', '.join(columns)} from {{marts}}.fct_breaches "
                "where monitor_name = {name:String} and status != 'retracted' order by all",
                name=name,
            )
            held = [row for row in built if row["status"] != "not_evaluated"]
            tried = [{column: row[column] for column in columns} for row in found.incidents]
            assert sorted(tried, key=repr) == sorted(held, key=repr), name
            assert found.obstacle == "".join(
                row["reason"] for row in built if row["status"] == "not_evaluated"
            )
            assert found.in_place == len(held)
        with pytest.raises(
            DryRunError, match=r"no rule 'slowly' in .*monitors.csv: .*silent, slow"
        ):
            configured_rule(analyst, warehouse.name, "slowly", environment)
        with pytest.raises(DryRunError, match=r"unknown metric .*: use one of psi, "):
            dry_run(analyst, warehouse.name, {**rule, "metric": "entropy"}, statements)
    assert warehouse.query("select count() as number from system.tables") == tables

    command = ["monitors", "test", "--as-of", f"{end:%Y-%m-%d}", "--monitor", "drifted_somewhere"]
    answer = CliRunner().invoke(
        app, [*command, "--threshold", "0.5", "--windows", "1/2", "--json"], env=environment
    )
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.output)
    assert document["rule"]["threshold"] == "0.5"
    [incident] = document["incidents"]
    assert (incident["segment_value"], incident["status"]) == ("EWR", "open")
    assert document["incidents_by_week"] == {"2026-02-02": 1}
    assert document["incidents_in_place"] == 1
    # The budget of the last build of dim_models.
    assert document["budget"]["incidents_per_week"] == 1


@dataclass(frozen=True)
class Series:
    """Windows of one rule on consecutive days; None stands for one that was not evaluated."""

    name: str
    needed: int
    considered: int
    comparator: str
    values: tuple[float | None, ...]

    def breaches(self, value: float) -> bool:
        return value > 0.5 if self.comparator == ">" else value < 0.5


def replayed(series: Series) -> Iterable[dict[str, Any]]:
    """Go through the windows one by one, as someone on duty would."""
    evaluated = [(day, value) for day, value in enumerate(series.values) if value is not None]
    current: list[tuple[int, float]] | None = None
    opened = 0
    worst = max if series.comparator == ">" else min

    def incident(members: list[tuple[int, float]], resolved: int | None) -> dict[str, Any]:
        return {
            "monitor_name": series.name,
            "status": "open" if resolved is None else "resolved",
            "opened_day": opened + 1,
            "resolved_day": None if resolved is None else resolved + 1,
            "first_day": members[0][0],
            "last_day": members[-1][0],
            "breaching_window_count": len(members),
            "worst_value": worst(value for _, value in members),
            "last_value": members[-1][1],
        }

    for position, (day, value) in enumerate(evaluated):
        recent = evaluated[max(0, position - series.considered + 1) : position + 1]
        breaching = [window for window in recent if series.breaches(window[1])]
        is_firing = len(breaching) >= series.needed
        if is_firing and current is None:
            current, opened = breaching, day
        elif is_firing and current is not None and series.breaches(value):
            current.append((day, value))
        elif not is_firing and current is not None:
            yield incident(current, day)
            current = None
    if current is not None:
        yield incident(current, None)


def test_incidents_equal_a_replay_of_the_windows(warehouse: MonitoredWarehouse) -> None:
    warehouse.land(a_week(0, 1))
    warehouse.build()
    generator = np.random.default_rng(2026)
    all_series = []
    for number in range(400):
        considered = int(generator.integers(1, 6))
        days = int(generator.integers(1, 30))
        all_series.append(
            Series(
                name=f"rule-{number}",
                needed=int(generator.integers(1, considered + 1)),
                considered=considered,
                comparator=str(generator.choice([">", "<"])),
                values=tuple(
                    None if generator.random() < 0.1 else round(float(generator.random()), 3)
                    for _ in range(days)
                ),
            )
        )
    # Windows of their own in place of those that the rules look at.
    epoch = datetime(2025, 1, 1, tzinfo=UTC)
    rows = [
        [
            series.name, MODEL, "psi", "all", "day", series.comparator, 0.5, series.needed,
            series.considered, "warn", "1", "all", "a", epoch + timedelta(days=day),
            epoch + timedelta(days=day + 1), value, 10, "no_value" if value is None else "",
            int(value is not None and series.breaches(value)),
        ]
        for series in all_series
        for day, value in enumerate(series.values)
    ]  # fmt: skip
    table = f"{warehouse.name}.int_monitored_windows"
    warehouse.client.command(f"truncate table {table}")
    warehouse.client.insert(
        table,
        rows,
        column_names=[
            "monitor_name", "model_name", "metric", "segment_key", "granularity", "comparator",
            "threshold", "windows_breaching", "windows_considered", "severity", "model_version",
            "segment_value", "feature_name", "window_start", "window_end", "metric_value",
            "metric_rows", "obstacle", "is_breaching",
        ],
    )  # fmt: skip
    warehouse.build_only("int_breaches_found+")
    day_of = "dateDiff('day', toDateTime('2025-01-01', 'UTC'), {column})"
    found = warehouse.query(
        "select monitor_name, status, "
        + ", ".join(
            f"{day_of.replace('{column}', column)} as {name}_day"
            for name, column in {
                "opened": "opened_at",
                "resolved": "resolved_at",
                "first": "first_window_start",
                "last": "last_window_start",
            }.items()
        )
        + ", breaching_window_count, worst_value, last_value, breach_id "
        "from {marts}.fct_breaches where status != 'not_evaluated'"
    )
    assert len({row.pop("breach_id") for row in found}) == len(found)
    by_series: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(found, key=lambda row: row["opened_day"]):
        by_series[row["monitor_name"]].append(row)
    expected_count = 0
    for series in all_series:
        expected = list(replayed(series))
        expected_count += len(expected)
        assert by_series[series.name] == expected, series
    assert expected_count > 500
