"""When a model is due: sustained breaches, cool-down, and incidents that were answered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.retraining.runs import RetrainingRun
from orchestration.retraining.triggers import (
    DueRetraining,
    NotDue,
    OpenBreach,
    RetrainingRule,
    due_retrainings,
    judge,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RULE = RetrainingRule(
    model_name="shop",
    trainer="shop.training:train",
    monitors=(),
    breaching_windows=2,
    lookback_days=0,
    cooldown_hours=24,
    training_days=40,
    evaluation_days=10,
    minimum_evaluation_rows=30,
    metric="auc",
)
BREACH = OpenBreach(
    breach_id="b1",
    model_name="shop",
    monitor_name="auc_fell",
    severity="error",
    breaching_window_count=2,
    opened_at=NOW - timedelta(days=9),
    last_seen_at=NOW - timedelta(days=2),
)
RESOLVED = replace(BREACH, resolved_at=NOW - timedelta(days=1))


def a_run(status: str, ago: timedelta, *breach_ids: str, model_name: str = "shop") -> RetrainingRun:
    return RetrainingRun(
        run_id=f"{status}-{ago}",
        model_name=model_name,
        status=status,
        trigger="sensor",
        trainer=RULE.trainer,
        metric="auc",
        champion_version="1",
        as_of=NOW - ago,
        training_from=NOW,
        cut_off=NOW,
        evaluation_until=NOW,
        started_at=NOW - ago,
        breach_ids=breach_ids,
    )


def test_sustained_breach_makes_its_model_due() -> None:
    assert due_retrainings([BREACH], [], [RULE], NOW) == [
        DueRetraining("shop", ("b1",), "auc_fell: 2 breaching windows since 2026-02-20, open")
    ]


def test_all_sustained_breaches_are_named_and_the_longest_is_said() -> None:
    longer = replace(BREACH, breach_id="a9", monitor_name="f1_fell", breaching_window_count=5)
    assert due_retrainings([BREACH, longer], [], [RULE], NOW) == [
        DueRetraining(
            "shop", ("a9", "b1"), "f1_fell: 5 breaching windows since 2026-02-20, open and 1 more"
        )
    ]


@pytest.mark.parametrize(
    "breach",
    [
        replace(BREACH, breaching_window_count=1),
        replace(BREACH, severity="warn"),
        replace(BREACH, model_name="other"),
        replace(BREACH, opened_at=NOW + timedelta(hours=1)),
        RESOLVED,
    ],
    ids=["too short", "a warning", "another model's", "not open yet", "resolved"],
)
def test_other_breaches_make_nothing_due(breach: OpenBreach) -> None:
    assert due_retrainings([breach], [], [RULE], NOW) == []


def test_named_monitors_count_whatever_their_severity_and_no_others() -> None:
    rule = replace(RULE, monitors=("drifted",))
    assert due_retrainings([BREACH], [], [rule], NOW) == []
    drifted = replace(BREACH, monitor_name="drifted", severity="warn")
    assert len(due_retrainings([drifted], [], [rule], NOW)) == 1


def test_breach_resolved_after_now_was_open_then() -> None:
    later = replace(BREACH, resolved_at=NOW + timedelta(days=3))
    assert len(due_retrainings([later], [], [RULE], NOW)) == 1


def test_resolved_breach_counts_within_the_lookback_until_answered() -> None:
    rule = replace(RULE, lookback_days=2)
    long_ago = timedelta(days=5)
    assert len(due_retrainings([RESOLVED], [], [rule], NOW)) == 1
    older = replace(RESOLVED, last_seen_at=NOW - timedelta(days=2, seconds=1))
    assert due_retrainings([older], [], [rule], NOW) == []
    assert due_retrainings([RESOLVED], [a_run("refused", long_ago, "b1")], [rule], NOW) == []
    assert len(due_retrainings([RESOLVED], [a_run("refused", long_ago, "b2")], [rule], NOW)) == 1


@pytest.mark.parametrize("status", ["started", "promoted", "refused", "failed"])
def test_no_run_follows_another_within_the_cooldown(status: str) -> None:
    run = a_run(status, timedelta(hours=24) - timedelta(seconds=1))
    found = judge(RULE, [BREACH], [run], NOW)
    assert isinstance(found, NotDue)
    assert "cool-down of 24 h until 2026-03-01 00:00 UTC" in found.reason
    after = a_run(status, timedelta(hours=24))
    assert isinstance(judge(RULE, [BREACH], [after], NOW), DueRetraining)


def test_run_without_an_end_is_waited_for_beyond_a_short_cooldown() -> None:
    rule = replace(RULE, cooldown_hours=1)
    found = judge(rule, [BREACH], [a_run("started", timedelta(hours=23))], NOW)
    assert found == NotDue("shop", "run started-23:00:00 has not ended")
    assert len(due_retrainings([BREACH], [a_run("failed", timedelta(hours=23))], [rule], NOW)) == 1
    assert len(due_retrainings([BREACH], [a_run("started", timedelta(hours=24))], [rule], NOW)) == 1


def test_cooldown_counts_from_the_latest_run_of_that_model_alone() -> None:
    old, new = a_run("failed", timedelta(days=9)), a_run("failed", timedelta(hours=1))
    assert due_retrainings([BREACH], [old, new], [RULE], NOW) == []
    of_another = a_run("failed", timedelta(hours=1), model_name="other")
    assert len(due_retrainings([BREACH], [old, of_another], [RULE], NOW)) == 1


def test_open_breach_of_a_refused_run_asks_again_and_of_a_promoted_one_never() -> None:
    ago = timedelta(days=30)
    assert len(due_retrainings([BREACH], [a_run("refused", ago, "b1")], [RULE], NOW)) == 1
    assert len(due_retrainings([BREACH], [a_run("started", ago, "b1")], [RULE], NOW)) == 1
    assert due_retrainings([BREACH], [a_run("promoted", ago, "b1")], [RULE], NOW) == []


def test_polling_never_loops_while_a_breach_stays_open() -> None:
    """A sensor that asks every half hour for ten days starts one run a cool-down."""
    runs: list[RetrainingRun] = []
    for tick in range(480):
        at = NOW + timedelta(minutes=30 * tick)
        due = due_retrainings([BREACH], runs, [RULE], at)
        runs += [
            replace(a_run("refused", timedelta()), as_of=at, breach_ids=one.breach_ids)
            for one in due
        ]
    assert len(runs) == 10


def test_rule_with_a_problem_is_passed_over_and_says_why() -> None:
    wrong = replace(RULE, model_name="typo", problem="unknown_model", remedy="name a model")
    found = due_retrainings([BREACH, replace(BREACH, model_name="typo")], [], [wrong, RULE], NOW)
    assert [due.model_name for due in found] == ["shop"]
    assert wrong.complaint == "retraining.csv, 'typo': unknown model: name a model"
