"""The way of the demo from flights to raw tables, on a slice of them, in a sandbox of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from driftline.settings import ClickHouseSettings
from ingest.warehouse import connect
from sandbox import flights_data, flights_demo, lifecycle
from sandbox.steps import Steps

SYSTEM_VARIABLES = ("CLICKHOUSE_", "KAFKA_", "AWS_", "DRIFTLINE_", "DBT_")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give the environment of a sandbox that runs, without AWS."""
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(SYSTEM_VARIABLES)
    } | {"DRIFTLINE_HOME": str(tmp_path / "home"), "AWS_PROFILE": "mine"}
    lifecycle.up(variables)
    yield variables
    lifecycle.down(variables)


def first_flights(flights: pd.DataFrame, replayed: int) -> pd.DataFrame:
    """Give five weeks to train on, and the first flights of April."""
    training = flights[flights["iso_week"] <= 5]
    april = flights_data.replay_rows(flights).head(replayed)
    return pd.concat([training, april], ignore_index=True)


def fill(environment: dict[str, str], flights: pd.DataFrame) -> str:
    """Run the demo up to the raw tables and give what it printed."""
    output = io.StringIO()
    steps = Steps(Console(file=output, width=200))
    flights_demo.fill_warehouse(environment, steps, flights, shift_weeks=600)
    return output.getvalue()


def keys(environment: dict[str, str], table: str) -> Counter[str]:
    settings = ClickHouseSettings.from_environment(environment)
    with closing(connect(settings)) as client:
        rows = client.query(f"select key from {settings.raw_database}.{table}").result_rows
    return Counter(str(row[0]) for row in rows)


def baselines(environment: dict[str, str]) -> list[tuple[int, int]]:
    """Give (stated, actual) row counts of the registered baselines."""
    settings = ClickHouseSettings.from_environment(environment)
    with closing(connect(settings)) as client:
        return [
            (int(stated), int(actual))
            for stated, actual in client.query(
                "select any(row_count), uniqExact(row_number) "
                f"from {settings.raw_database}.baselines "
                f"inner join {settings.raw_database}.baseline_rows using (baseline_id) "
                "group by baseline_id"
            ).result_rows
        ]


def expected_keys(flights: pd.DataFrame) -> tuple[Counter[str], Counter[str]]:
    replayed = flights_data.replay_rows(flights_data.move(flights, 600))
    ids = pd.Series(flights_data.prediction_ids(replayed))
    return Counter(ids), Counter(ids[replayed["arrived_at"].notna()])


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_every_event_lands_once_however_often_and_far_the_demo_ran(
    environment: dict[str, str], flights: pd.DataFrame
) -> None:
    few, more, all_of_it = (first_flights(flights, count) for count in (12_000, 15_000, 20_000))
    assert "were sent, and each has landed" in fill(environment, few)
    assert (keys(environment, "prediction_events"), keys(environment, "label_events")) == (
        expected_keys(few)
    )

    assert fill(environment, few) == (
        "every prediction and label has landed before: nothing to replay\n"
    )

    trained_on = len(flights_data.training_rows(few))
    assert baselines(environment) == [(trained_on, trained_on)]

    # As after an interruption: only what is missing is sent.
    assert "unfinished replay" in fill(environment, more)
    assert (keys(environment, "prediction_events"), keys(environment, "label_events")) == (
        expected_keys(more)
    )

    # A new mock broker begins at offset 0 again: nothing may be taken for landed.
    lifecycle.down(environment)
    lifecycle.up(environment)
    fill(environment, all_of_it)
    assert (keys(environment, "prediction_events"), keys(environment, "label_events")) == (
        expected_keys(all_of_it)
    )
    # The same rows and scores: registered three times, one baseline.
    assert baselines(environment) == [(trained_on, trained_on)]


def test_choose_weeks_ends_before_now_unless_asked() -> None:
    assert flights_demo.choose_weeks(None, None, 672) == 672
    assert flights_demo.choose_weeks(0, None, 672) == 0


def test_choose_weeks_keeps_to_what_the_warehouse_has() -> None:
    assert flights_demo.choose_weeks(None, 671, 672) == 671
    assert flights_demo.choose_weeks(671, 671, 672) == 671
    with pytest.raises(flights_demo.DemoError, match="moved by 671 weeks, not 0"):
        flights_demo.choose_weeks(0, 671, 672)


def test_demo_refuses_weeks_that_are_no_number(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "driftline", "demo", "flights", "--shift-weeks", "soon"],
        env={"PATH": os.environ["PATH"], "DRIFTLINE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "a whole number of weeks, or auto" in refused.stderr
    assert list(tmp_path.iterdir()) == []
