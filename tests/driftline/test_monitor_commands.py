"""`driftline monitors test`: what it says where nothing can be tried.

That it finds what the marts hold is shown in tests/dbt_project/test_breaches.py.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from driftline.command_line import app
from driftline.monitor_dry_run import Budget, DryRun, made_up_rule, monday

RULE = ["--model", "m", "--metric", "auc", "--comparator", "<", "--threshold", "0.6"]
START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ClickHouse is named anywhere."""
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    for name in ("CLICKHOUSE_HOST", "CLICKHOUSE_ANALYST_USER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--model", "m", "--metric", "auc"],
            "the rule lacks --comparator, --threshold: give them",
        ),
        ([], "the rule lacks --model, --metric, --comparator, --threshold"),
        ([*RULE, "--windows", "2 of 3"], "--windows '2 of 3' is not M/N: write 2/3"),
        (RULE, "CLICKHOUSE_ANALYST_USER is not set: start the sandbox"),
        (["--monitor", "x"], "CLICKHOUSE_ANALYST_USER is not set: start the sandbox"),
    ],
)
def test_test_names_what_it_lacks_and_the_remedy(
    nowhere: None, arguments: list[str], words: str
) -> None:
    answer = CliRunner().invoke(app, ["monitors", "test", *arguments])
    assert answer.exit_code == 1
    assert answer.output.startswith("error: ")
    assert words in answer.output


def test_help_names_every_part_of_a_rule() -> None:
    answer = CliRunner().invoke(
        app, ["monitors", "test", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}
    )
    assert answer.exit_code == 0
    options = (
        "monitor model metric comparator threshold windows segment-set feature granularity json"
    )
    for option in options.split():
        assert f"--{option}" in answer.output


def test_made_up_rule_has_defaults_that_options_override() -> None:
    given = {"model_name": "m", "metric": "psi", "comparator": ">", "threshold": "1"}
    rule = made_up_rule({**given, "granularity": "day"})
    assert rule["granularity"] == "day"
    assert (rule["segment_key"], rule["windows_breaching"], rule["min_rows"]) == ("all", "1", "300")


def test_budget_counts_this_rule_on_top_of_the_others() -> None:
    """Two incidents in the first week, one in the third, over four weeks; others in the first."""
    opened = [START, START + timedelta(days=6), START + timedelta(weeks=2)]
    found = DryRun(
        rule={},
        incidents=[{"opened_at": moment, "status": "open"} for moment in opened],
        muted=[],
        obstacle="",
        windows=[
            {
                "obstacle": "",
                "first_window_start": START,
                "last_window_end": START + timedelta(weeks=4),
            },
            {"obstacle": "window_open"},
        ],
        budget=Budget(incidents_per_week=3, others={date(2026, 1, 5): 2, date(2026, 1, 12): 9}),
        in_place=None,
    )
    assert found.incidents_per_week == 0.75
    assert found.by_week == {date(2026, 1, 5): 2, date(2026, 1, 19): 1}
    # The second week is over the budget without this rule, which has no part in it.
    assert found.weeks_over_budget == {date(2026, 1, 5): (2, 2)}
    assert monday(datetime(2026, 1, 11, 23, tzinfo=UTC)) == date(2026, 1, 5)
