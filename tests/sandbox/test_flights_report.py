"""What the report prints, from findings made by hand."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from rich.console import Console

from sandbox.flights_marts import Findings
from sandbox.flights_report import next_steps, print_report


def month(number: int, **more: Any) -> dict[str, Any]:
    return {
        "month": date(2013, number, 1),
        "predictions": 28_000,
        "labelled": 27_000,
        "prevalence": 0.132,
        "auc": 0.672,
        "auc_lower": 0.662,
        "auc_upper": 0.682,
        "f1": 0.447,
        "f1_lower": 0.44,
        "f1_upper": 0.45,
        **more,
    }


def drift(**more: Any) -> dict[str, Any]:
    return {
        "feature_name": "temperature",
        "segment_key": "all",
        "segment_value": "all",
        "week": date(2013, 7, 8),
        "current_count": 6_759,
        "psi": 8.62,
        "psi_baseline_p95": 3.838,
        "kl_current_baseline": 2.327,
        "kl_baseline_current": 6.294,
        "q_value": 0.0,
        "verdict": "drift",
        **more,
    }


def breach(**more: Any) -> dict[str, Any]:
    return {
        "status": "open",
        "severity": "error",
        "monitor_name": "f1_fell",
        "metric": "f1",
        "segment_key": "all",
        "segment_value": "all",
        "feature_name": "",
        "granularity": "month",
        "comparator": "<",
        "threshold": 0.45,
        "breaching_window_count": 1,
        "worst_value": 0.308,
        "opened_on": date(2013, 9, 14),
        "resolved_on": None,
        "reason": "",
        **more,
    }


FINDINGS = Findings(
    weeks=672,
    counts={
        "predictions": 56_100,
        "labelled": 54_000,
        "duplicates": 3,
        "last_predicted_at": datetime(2026, 11, 18, 3, 59, tzinfo=UTC),
    },
    rejects=[{"event_type": "label", "reject_reason": "invalid_json", "events": 1_200}],
    baseline={"auc": 0.691, "f1": 0.447, "prevalence": 0.228, "row_count": 77_911},
    months=[month(9), month(10, month=date(2014, 1, 1), predictions=27)],
    verdicts={"drift": 1_000, "ok": 234},
    feature_drift=[drift()],
    segment_drift=[drift(segment_key="origin", segment_value="JFK", q_value=None)],
    breaches=[
        breach(),
        breach(status="resolved", monitor_name="auc_fell", resolved_on=date(2013, 11, 11)),
        breach(status="not_evaluated", monitor_name="typo", reason="unknown_metric"),
    ],
)


def printed(findings: Findings, published: Mapping[str, Any] | None = None) -> str:
    output = io.StringIO()
    print_report(findings, Console(file=output, width=120), published)
    return output.getvalue()


def line_of(text: str, words: str) -> str:
    return next(line for line in text.splitlines() if words in line)


def test_report_says_what_landed_and_by_how_many_weeks_it_moved() -> None:
    text = printed(FINDINGS)
    assert "56,100 predictions (3 duplicates)" in text
    assert "1,200 label (invalid_json)" in text
    assert "54,000 (96.3%)" in text
    assert "moved by 672 weeks" in text
    assert "18 November 2026" in text
    assert "1,234 comparisons" in text


def test_report_marks_what_is_beyond_the_baseline() -> None:
    september = line_of(printed(FINDINGS), "September")
    assert "0.672 [0.662, 0.682] ▼" in september
    assert september.endswith("0.447 [0.440, 0.450] │")
    better = replace(FINDINGS, months=[month(9, auc=0.7, auc_lower=0.695, auc_upper=0.705)])
    assert "0.700 [0.695, 0.705] ▲" in printed(better)


def test_report_leaves_out_the_last_hours_that_utc_puts_into_january() -> None:
    assert "January " not in printed(FINDINGS).split("Worst week")[0].split("late")[1]


def test_report_shows_drift_with_its_segment() -> None:
    text = printed(FINDINGS)
    everyone = line_of(text, "08 Jul")
    for part in ("temperature", "6,759", "8.620", "3.838", "2.327", "6.294", "<1e-6", "drift"):
        assert part in everyone
    assert "origin = JFK" in text


def test_report_shows_open_breaches_first_and_rules_that_were_not_evaluated() -> None:
    text = printed(FINDINGS)
    assert "Breaches: 1 open, 1 resolved" in text
    assert "open" in line_of(text, "f1_fell")
    assert "1 month " in line_of(text, "f1_fell")
    assert "11 Nov" in line_of(text, "auc_fell")
    assert text.index("f1_fell") < text.index("auc_fell")
    assert "not evaluated: unknown_metric" in text


def test_report_prints_commands_unbroken() -> None:
    lines = printed(FINDINGS).splitlines()
    for _, statement in next_steps(672):
        assert f'driftline query "{statement}"' in lines


def test_report_works_without_baseline_labels_or_drift() -> None:
    unlabelled = dict.fromkeys(
        ("prevalence", "auc", "auc_lower", "auc_upper", "f1", "f1_lower", "f1_upper"), float("nan")
    )
    text = printed(
        replace(
            FINDINGS,
            baseline={},
            months=[month(9, labelled=0, **unlabelled)],
            verdicts={},
            feature_drift=[],
            segment_drift=[],
            breaches=[],
        )
    )
    assert "0.0%" in line_of(text, "September")
    assert "Breaches: 0 open, 0 resolved" in text


def test_report_shows_what_was_pushed_and_what_waits() -> None:
    gauges = [
        {"metric_name": "AUC", "about": "", "value": 0.731, "unit": "None"},
        {"metric_name": "PSI", "about": "dew_point", "value": 8.605, "unit": "None"},
    ]
    published = {"sent": 2, "alarms_put_count": 6, "dashboards_put_count": 1, "problems": "slow"}
    text = printed(replace(FINDINGS, gauges=gauges), published)
    assert "Pushed to CloudWatch: 2 metrics; alarms: 6 put, 0 unchanged, 0 deleted" in text
    assert "0.731" in line_of(text, "the model")
    assert "8.605" in line_of(text, "dew_point")
    assert "slow" in text
    assert "CloudWatch" not in printed(FINDINGS)


def test_report_says_what_retraining_decided() -> None:
    assert "Nothing was due" in printed(FINDINGS)
    figures = {
        f"{side}{metric}{end}": 0.7
        for metric in ("auc", "f1")
        for side in ("champion_", "challenger_")
        for end in ("", "_lower", "_upper")
    }
    differences: dict[str, float | None] = {
        "auc_difference": -0.0084,
        "auc_difference_lower": -0.0139,
        "auc_difference_upper": -0.003,
        "f1_difference": None,
    }
    run = {
        "status": "refused",
        "reason": "not better beyond its interval",
        "training_row_count": 164_073,
        "evaluation_row_count": 21_758,
        "trained_from": date(2013, 5, 1),
        "trained_until": date(2013, 11, 1),
        "compared_until": date(2013, 12, 1),
        "champion_version": "1",
        "challenger_version": "2",
        **figures,
        **differences,
    }
    text = printed(replace(FINDINGS, retraining=run))
    assert "REFUSED: not better beyond its interval" in text
    assert "164,073 labelled flights of 01 May to 01 Nov" in text
    assert "-0.0084 [-0.0139, -0.0030]" in text
    assert "F1:" not in text
