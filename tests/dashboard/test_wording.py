from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard import wording

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.count(255987), "255,987"),
        (wording.counted(1, "row"), "1 row"),
        (wording.counted(2, "row"), "2 rows"),
        (wording.metric(0.70949), "0.709"),
        (wording.signed(-0.0123), "\N{MINUS SIGN}0.012"),
        (wording.signed(0.04), "+0.040"),
        (wording.share(0.97444), "97.4%"),
        (wording.q_value(2e-10), "<1e-6"),
        (wording.q_value(0.0345), "0.035"),
        (wording.rate(0.0100314), "36.1 /h"),
        (wording.rate(12.0), "12 /s"),
        (wording.latency(0.00857), "8.57 µs"),
        (wording.latency(12.34), "12.3 ms"),
        (wording.latency(1234.0), "1.23 s"),
        (wording.figure(123456.0), "123,456"),
        (wording.figure(0.25), "0.25"),
        (wording.feature("__score__"), "score (output)"),
        (wording.segment("origin", "EWR"), "origin = EWR"),
        (wording.moment(None), wording.NOTHING),
        (wording.ago(NOW - timedelta(seconds=30), NOW), "30 s ago"),
        (wording.ago(NOW - timedelta(hours=30), NOW), "30 h ago"),
        (wording.ago(NOW - timedelta(days=5), NOW), "5 days ago"),
        (wording.reason("below_min_rows,window_open"),
         "too few rows in the window; the window is not closed yet"),
        (wording.reason("some_new_reason"), "some_new_reason"),
    ],
)  # fmt: skip
def test_words_for_people(written: str, expected: str) -> None:
    assert written == expected
