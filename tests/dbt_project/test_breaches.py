"""Breaches: injected trouble opens an incident, soundness none; M of N against a replay by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from tests.dbt_project.monitored_warehouse import MODEL, MonitoredWarehouse, prediction, time_text
from tests.warehouse_fixtures import ClickHouseProcess

START = datetime(2026, 1, 5, tzinfo=UTC)
TYPES = {"steady": "numeric", "moving": "numeric"}
MONITORS = (
    f"drifted,{MODEL},psi,all,*,week,>=,0.25,50,2,3,warn",
    f"drifted_somewhere,{MODEL},psi,origin,moving,week,>=,0.25,50,1,1,warn",
    f"silent,{MODEL},prediction_count,all,,day,<,5,0,1,1,error",
    f"slow,{MODEL},latency_p95_ms,all,,day,>,100,5,1,1,warn",
    f"auc_fell,{MODEL},auc,all,,month,<,0.99,50,1,1,error",
    f"few,{MODEL},error_rate,all,,month,>,0,1000000,1,1,warn",
    f"unheard,{MODEL},null_rate,all,no_such_feature,day,>,0,1,1,1,warn",
)


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
    warehouse.build()
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
    warehouse.build()
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
        monitors=[*MONITORS, f"typo,{MODEL},psi,all,*,week,=>,0.25,50,2,3,warn"],
        models=[f"{MODEL},binary,yes,0.5,1,1,50,,,"],
    )
    kinds = ("--resource-type", "model", "--resource-type", "seed", "--resource-type", "test")
    statuses = warehouse.dbt("build", *kinds, "--select", "+fct_breaches")
    status, message = statuses.pop("monitors_are_valid")
    assert status == "error"
    assert "monitors.csv, 'typo': unknown comparator" in message
    assert "comparator =>" in message
    assert "use >, >=, < or <=" in message
    assert {status for status, _ in statuses.values()} == {"success", "pass"}
    assert ("typo", "", "*", "unknown_comparator") in incidents(warehouse, "not_evaluated")
    assert ("auc_fell", "all", "", "") in incidents(warehouse, "open")


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
    assert warehouse.dbt("run", "--select", "fct_breaches")["fct_breaches"][0] == "success"
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
