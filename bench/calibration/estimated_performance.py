"""How far the AUC that is estimated before labels is from the one that labels show."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.findings import Bar, Study, Table
from ingest.baselines import Roles, register_baseline
from ingest.events import encode_label, encode_prediction
from tests.dbt_project.warehouse import Message, Warehouse
from tests.warehouse_fixtures import ClickHouseProcess

# How far the mean of the model's only feature is from the baseline's, week by week.
SHIFTS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
SPREADS = (0.5, 1.0)
# Of fewer rows, the AUC that labels show is itself 0.03 beside the truth in one of 14 weeks.
BASELINE_ROWS, ROWS_A_WEEK = 20_000, 20_000
MOST_ERROR = 0.03
_FIRST = datetime(2025, 1, 6, tzinfo=UTC)

Values = NDArray[Any]


def estimated_performance(seed: int) -> list[Study]:
    """Shift what a model sees, and not what it means: scores stay calibrated.

    Gives nothing where the mart has no estimates.
    """
    generator = np.random.default_rng([seed, 6])
    weeks = [(shift, spread) for spread in SPREADS for shift in SHIFTS]
    found = _mart(generator, weeks)
    if not found:
        return []
    errors = [abs(row["estimated_auc"] - row["auc"]) for row in found]
    return [
        Study(
            title="Performance before labels",
            method=(
                f"A baseline of {BASELINE_ROWS:,} rows, and weeks of {ROWS_A_WEEK:,} in which the "
                "feature's mean and spread are others; the model's probabilities stay right. "
                "`estimated_auc` of `fct_model_performance_weekly`, which labels play no part in, "
                "beside `auc`, which they decide."
            ),
            tables=[
                Table(
                    ("mean, spread of the feature", "estimated AUC", "AUC", "difference"),
                    [
                        (
                            f"{shift:+.1f}, {spread}",
                            f"{row['estimated_auc']:.3f}",
                            f"{row['auc']:.3f}",
                            f"{row['estimated_auc'] - row['auc']:+.3f}",
                        )
                        for (shift, spread), row in zip(weeks, found, strict=True)
                    ],
                )
            ],
            bars=[Bar("estimated AUC within 0.03", max(errors), most=MOST_ERROR)],
        )
    ]


def _drawn(
    generator: np.random.Generator, rows: int, shift: float, spread: float
) -> tuple[Values, Values, Values]:
    feature = shift + spread * generator.standard_normal(rows)
    score = 1 / (1 + np.exp(1.0 - 1.5 * feature))
    return feature, score, generator.random(rows) < score


def _mart(generator: np.random.Generator, weeks: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """Give the weekly rows in order; none where this version does not estimate."""
    with tempfile.TemporaryDirectory(prefix="driftline-calibration-") as folder:
        server = ClickHouseProcess(Path(folder) / "data").start()
        try:
            end = _FIRST + timedelta(weeks=len(weeks))
            warehouse = Warehouse(
                server,
                Path(folder),
                "estimates",
                seeds={"models": ["m,binary,yes,0.5,1,0,,,,"]},
                variables={"as_of": f"{end:%Y-%m-%d %H:%M:%S}", "baseline_backfill_days": 3650},
            )
            feature, score, is_positive = _drawn(generator, BASELINE_ROWS, 0.0, 1.0)
            truth = np.where(is_positive, "yes", "no")
            register_baseline(
                warehouse.client,
                pa.table({"x": feature, "score": score, "truth": truth}),
                Roles(score="score", label="truth"),
                model_name="m",
                model_version="1",
                raw_database=warehouse.raw_database,
            )
            for week, (shift, spread) in enumerate(weeks):
                warehouse.land(_messages(generator, week, shift, spread))
            warehouse.run("--select", "+fct_model_performance_weekly")
            table = "{database}.fct_model_performance_weekly"
            columns = [row["name"] for row in warehouse.query(f"describe table {table}")]
            if "estimated_auc" not in columns:
                return []
            return warehouse.query(
                f"select auc, estimated_auc from {table} where segment_key = 'all' "
                "order by window_start"
            )
        finally:
            server.stop()


def _messages(
    generator: np.random.Generator, week: int, shift: float, spread: float
) -> list[Message]:
    feature, score, is_positive = _drawn(generator, ROWS_A_WEEK, shift, spread)
    messages = []
    for number in range(ROWS_A_WEEK):
        at = _FIRST + timedelta(weeks=week, days=7 * number / ROWS_A_WEEK)
        of_model: dict[str, Any] = {"model_name": "m", "prediction_id": f"{week}-{number}"}
        prediction = encode_prediction(
            **of_model,
            model_version="1",
            predicted_at=at,
            features={"x": float(feature[number])},
            score=float(score[number]),
        )
        label = encode_label(
            **of_model,
            label="yes" if is_positive[number] else "no",
            observed_at=at + timedelta(hours=1),
            source="truth",
        )
        messages += [Message("predictions", prediction.value), Message("labels", label.value)]
    return messages
