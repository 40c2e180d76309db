"""Precision and F1 where one class is labelled sooner than the other."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.findings import Bar, Study, Table
from ingest.events import encode_label, encode_prediction
from tests.dbt_project.warehouse import Message, Warehouse
from tests.warehouse_fixtures import ClickHouseProcess

WEEKS, ROWS_A_WEEK = 20, 2_000
MATURITY_DAYS = 60
MOST_ERROR = 0.01
_MEAN_DAYS_OF_POSITIVES, _DAYS_OF_NEGATIVES = 10.0, 30.0
_THRESHOLD = 0.5
_LAST_WEEKS = 4
_FIRST = datetime(2025, 1, 6, tzinfo=UTC)
_TODAY = _FIRST + timedelta(weeks=WEEKS)

Values = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """Predictions: when, with what score, the truth, and when it becomes known."""

    predicted_at: Sequence[datetime]
    score: Values
    is_positive: Values
    days_until_label: Values
    week: Values


def late_labels(seed: int) -> Study:
    """Land what is known today, build the marts, and compare with the whole truth."""
    rows = _drawn(np.random.default_rng([seed, 5]))
    found = _mart(rows)
    truth = [_precision_and_f1(rows, rows.week == week) for week in range(WEEKS)]
    errors = [
        (abs(row["precision"] - precision), abs(row["f1"] - f1))
        for row, (precision, f1) in zip(found, truth, strict=True)
        if row["status"] == "final"
    ]
    if not errors:
        raise AssertionError("no window is final")
    known = rows.days_until_label <= _age_in_days(rows)
    last_weeks = rows.week >= WEEKS - _LAST_WEEKS
    today = _precision_and_f1(rows, known & last_weeks)
    whole = _precision_and_f1(rows, last_weeks)
    return Study(
        title="Labels that come late",
        method=(
            f"{ROWS_A_WEEK:,} predictions a week over {WEEKS} weeks, by a logistic model that is "
            "right about its probabilities. The label of a positive comes after "
            f"{_MEAN_DAYS_OF_POSITIVES:.0f} days on average (exponential), that of a negative "
            f"after {_DAYS_OF_NEGATIVES:.0f}, and "
            f"`label_maturity_hours` is {24 * MATURITY_DAYS} ({MATURITY_DAYS} days). From "
            "`fct_model_performance_weekly`, at the end of the last week; the truth is that of the "
            "same predictions with all their labels."
        ),
        tables=[_table(found, truth)],
        bars=[
            Bar(
                "`final` precision within 0.01 of the truth",
                max(error[0] for error in errors),
                most=MOST_ERROR,
            ),
            Bar(
                "`final` F1 within 0.01 of the truth",
                max(error[1] for error in errors),
                most=MOST_ERROR,
            ),
        ],
        remarks=[
            f"Scoring whatever is labelled today of the last {_LAST_WEEKS} weeks would have said "
            f"precision {today[0]:.3f} and F1 {today[1]:.3f}; the truth is {whole[0]:.3f} and "
            f"{whole[1]:.3f}. The rows are `provisional`, and no rule judges them.",
        ],
    )


def _drawn(generator: np.random.Generator) -> Rows:
    count = WEEKS * ROWS_A_WEEK
    days = np.sort(generator.uniform(0, 7 * WEEKS, count))
    score = 1 / (1 + np.exp(1.0 - 1.5 * generator.standard_normal(count)))
    is_positive = generator.random(count) < score
    return Rows(
        predicted_at=[_FIRST + timedelta(days=float(day)) for day in days],
        score=score,
        is_positive=is_positive,
        days_until_label=np.where(
            is_positive,
            generator.exponential(_MEAN_DAYS_OF_POSITIVES, count),
            _DAYS_OF_NEGATIVES,
        ),
        week=(days // 7).astype(np.int64),
    )


def _age_in_days(rows: Rows) -> Values:
    return np.array([(_TODAY - at) / timedelta(days=1) for at in rows.predicted_at])


def _precision_and_f1(rows: Rows, of: Values) -> tuple[float, float]:
    predicted, positive = rows.score[of] >= _THRESHOLD, rows.is_positive[of]
    hits = np.sum(predicted & positive)
    return float(hits / np.sum(predicted)), float(2 * hits / (np.sum(predicted) + np.sum(positive)))


def _mart(rows: Rows) -> list[dict[str, Any]]:
    """Give the weekly rows of the mart, in order."""
    with tempfile.TemporaryDirectory(prefix="driftline-calibration-") as folder:
        server = ClickHouseProcess(Path(folder) / "data").start()
        try:
            warehouse = Warehouse(
                server,
                Path(folder),
                "late_labels",
                seeds={"models": [f"m,binary,yes,{_THRESHOLD},1,{24 * MATURITY_DAYS},,,,"]},
                variables={"as_of": f"{_TODAY:%Y-%m-%d %H:%M:%S}"},
            )
            warehouse.land(_messages(rows))
            warehouse.run("--select", "+fct_model_performance_weekly")
            return warehouse.query(
                "select window_start, status, label_coverage, precision, f1 "
                "from {database}.fct_model_performance_weekly "
                "where segment_key = 'all' order by window_start"
            )
        finally:
            server.stop()


def _messages(rows: Rows) -> list[Message]:
    known = rows.days_until_label <= _age_in_days(rows)
    predictions = [
        Message(
            "predictions",
            encode_prediction(
                model_name="m",
                model_version="1",
                prediction_id=str(number),
                predicted_at=at,
                features={},
                score=float(rows.score[number]),
            ).value,
        )
        for number, at in enumerate(rows.predicted_at)
    ]
    labels = [
        Message(
            "labels",
            encode_label(
                model_name="m",
                prediction_id=str(number),
                label="yes" if rows.is_positive[number] else "no",
                observed_at=rows.predicted_at[number]
                + timedelta(days=float(rows.days_until_label[number])),
                source="truth",
            ).value,
        )
        for number in np.flatnonzero(known).tolist()
    ]
    return predictions + labels


def _table(found: Sequence[dict[str, Any]], truth: Sequence[tuple[float, float]]) -> Table:
    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    return Table(
        ("week", "status", "labelled", "precision", "truth", "F1", "truth"),
        [
            (
                f"{number + 1}",
                str(row["status"]),
                f"{row['label_coverage']:.1%}",
                shown(row["precision"]),
                f"{precision:.3f}",
                shown(row["f1"]),
                f"{f1:.3f}",
            )
            for number, (row, (precision, f1)) in enumerate(zip(found, truth, strict=True))
        ],
    )
