"""How dbt's own events become an outcome, and progress."""

from __future__ import annotations

from typing import Any

from orchestration.dbt_outcome import DbtOutcome


def event(name: str, level: str, message: str, **data: object) -> dict[str, Any]:
    return {"info": {"name": name, "level": level, "msg": message}, "data": data}


def test_dbt_events_become_progress_and_an_outcome() -> None:
    outcome, progress = DbtOutcome(), []
    for one in (
        event("MainReportVersion", "info", "Running with dbt"),
        event("LogSeedResult", "info", "1 of 5 OK", status="success", index=1, total=5),
        event("LogModelResult", "info", "2 of 5 OK", status="OK created", index=2, total=5),
        event(
            "LogTestResult",
            "warn",
            "3 of 5 WARN 7",
            status="warn",
            index=3,
            num_models=5,
            node_info={"node_name": "null_rate_in_range"},
        ),
        event("LogTestResult", "error", "4 of 5 ERROR", status="error", index=4, num_models=5),
        event("SkippingDetails", "info", "5 of 5 SKIP", status="skipped", index=5, total=5),
    ):
        outcome.read(one, lambda done, of: progress.append((done, of)))
    assert progress == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert outcome.statuses == {"ok": 2, "warn": 1, "error": 1, "skip": 1}
    assert outcome.warnings == ["null_rate_in_range"]
    assert outcome.errors == ["4 of 5 ERROR"]
    assert outcome.summary == "2 ok, 1 warn, 1 error, 1 skip"
