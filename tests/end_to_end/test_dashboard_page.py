"""The live page over the finished demo: what it says is what the marts say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date

import pytest

from dashboard import wording
from tests.dashboard.browsing import chromium, visit
from tests.end_to_end.finished_demo import Demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@contextmanager
def _served(environment: Mapping[str, str]) -> Iterator[str]:
    """Run `driftline dashboard` on a free port; give its address."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLICKHOUSE_", "KAFKA_", "AWS_", "DRIFTLINE_"))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "driftline", "dashboard", "--port", "0"],
        # A target of its own, so that only these variables are read.
        env={**clean, **environment, "DRIFTLINE_TARGET": "prod", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://\S+/", said)
        assert found, said
        yield found[0]
    finally:
        process.terminate()
        process.wait()


_NEWEST = """
select window_start, auc, baseline_auc, f1, baseline_f1, label_coverage
from fct_model_performance_weekly
where segment_key = 'all' and status = 'final'
order by window_start desc
limit 1
"""

# The features of a closed week, of which the page shows 26.
_WEEKS = """
select
    toString(toDate(window_start)) as week,
    countIf(verdict = 'drift' and not startsWith(feature_name, '__')) as drifted_count,
    countIf(not startsWith(feature_name, '__')) as feature_count
from fct_feature_drift_weekly
where comparison = 'baseline' and segment_key = 'all'
group by window_start
order by window_start desc
limit 26
"""

_CELL = """
select
    psi, kl_current_baseline, kl_baseline_current, q_value, verdict, current_count, baseline_count
from fct_feature_drift_weekly
where
    comparison = 'baseline'
    and segment_key = {key:String}
    and segment_value = {value:String}
    and feature_name = {feature:String}
    and toString(toDate(window_start)) = {week:String}
"""

_BREACHES = "select status, count() as breach_count from fct_breaches group by status"

_NULLS = """
select feature_name, max(null_rate) as worst
from fct_data_quality_weekly
where
    segment_key = 'all'
    and toString(toDate(window_start)) >= {start:String}
    and not startsWith(feature_name, '__')
group by feature_name
having worst > 0.01
"""

_LIVE = "select sum(prediction_count) as landed from rpt_service_live"


def _cell_words(demo: Demo, key: str, value: str, feature: str, week: str) -> list[str]:
    cell = demo.frame(_CELL, key=key, value=value, feature=feature, week=week).iloc[0]
    return [
        f"PSI {wording.metric(cell['psi'])}",
        f"KL {wording.metric(cell['kl_current_baseline'])}",
        f"KL reverse {wording.metric(cell['kl_baseline_current'])}",
        wording.verdict(cell["verdict"]),
        f"{wording.count(cell['current_count'])} rows against "
        f"{wording.count(cell['baseline_count'])} of the baseline",
    ]


def test_page_says_what_the_marts_say(demo: Demo) -> None:
    with (
        chromium() as browser,
        _served(demo.environment) as address,
        visit(browser, address) as seen,
    ):
        newest = demo.frame(_NEWEST).iloc[0]
        card = seen.text(".card.is-shown")
        for metric in ("auc", "f1"):
            value, baseline = newest[metric], newest[f"baseline_{metric}"]
            assert f"{metric.upper()} {wording.metric(value)}" in card
            assert f"{wording.signed(value - baseline)} vs {wording.metric(baseline)}" in card
        assert f"Labelled {wording.share(newest['label_coverage'])}" in card

        weeks = demo.frame(_WEEKS)
        closed = weeks[weeks["week"] <= str(newest["window_start"])[:10]]
        drifted = int(closed.iloc[0]["drifted_count"])
        assert f"Drifted features {drifted} of {closed.iloc[0]['feature_count']}" in card

        by_status = demo.frame(_BREACHES).set_index("status")["breach_count"]
        assert f"Resolved: {by_status['resolved']}" in seen.text("#breaches")

        landed = int(demo.frame(_LIVE)["landed"].iloc[0])
        seen.wait_for_text("#live-tiles", f"Last hour {wording.count(landed)}")

        first_week = weeks["week"].iloc[-1]
        quality = seen.text("#quality")
        for _, row in demo.frame(_NULLS, start=first_week).iterrows():
            assert f"{row['feature_name']} worst {wording.share(row['worst'])} null" in quality

        # A click opens the cell: the first week of the most drifted feature.
        seen.text("#rows-statement")
        seen.click_cell(0, 0)
        seen.wait_for_text("#detail", f"week of {wording.day(date.fromisoformat(first_week))}")
        chosen = re.search(r"feature=(\w+)&window=([-\d]+)", seen.page.url)
        assert chosen is not None
        feature, week = chosen.groups()
        assert week == first_week
        detail = seen.text("#detail")
        for words in _cell_words(demo, "all", "all", feature, week):
            assert words in detail

        # The statement beside it lists the rows that were counted.
        statement = seen.text("#rows-statement").removesuffix("limit 100")
        counted = demo.frame(f"select count() as row_count from ({statement})")
        assert f"{wording.count(counted['row_count'].iloc[0])} rows against" in detail

        # Another segment: the same cell, of the flights from JFK.
        seen.choose("segment", "origin")
        seen.choose("value", "JFK")
        seen.wait_for_text("#rows-statement", "segments['origin'] = 'JFK'")
        detail = seen.text("#detail")
        for words in _cell_words(demo, "origin", "JFK", feature, week):
            assert words in detail
        assert "segment=origin&value=JFK" in seen.page.url

        # And months.
        seen.page.get_by_role("radio", name="month").check()
        seen.wait_for_text("#drift-note", "by month")
        assert "week of" not in seen.text("#choose-window")
        assert seen.complaints == []


@pytest.mark.parametrize("width", [1440, 1280, 400])
def test_page_is_as_wide_as_the_screen(demo: Demo, width: int) -> None:
    with (
        chromium() as browser,
        _served(demo.environment) as address,
        visit(browser, address, width) as seen,
    ):
        seen.text("#rows-statement")
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        assert seen.complaints == []
