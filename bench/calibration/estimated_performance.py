"""How far the AUC that is estimated before labels is from the one that labels show."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.findings import Bar, Study, Table
from bench.peer_environment import PeerFailedError, peer_python, run_peer
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

# It imports statsmodels, and does not ask for it.
_NANNYML = ("nannyml==0.13.1", "statsmodels")

Values = NDArray[Any]
# Feature, score, and whether the label is positive.
Drawn = tuple[Values, Values, Values]


def estimated_performance(seed: int) -> list[Study]:
    """Shift what a model sees, and not what it means: scores stay calibrated."""
    generator = np.random.default_rng([seed, 6])
    weeks = [(shift, spread) for spread in SPREADS for shift in SHIFTS]
    baseline = _drawn(generator, BASELINE_ROWS, 0.0, 1.0)
    drawn = [_drawn(generator, ROWS_A_WEEK, *of_week) for of_week in weeks]
    found = _mart(baseline, drawn)
    aucs = [row["auc"] for row in found]
    estimates = {"driftline": [row["estimated_auc"] for row in found]}
    if (of_nannyml := _nannyml(baseline, drawn)) is not None:
        estimates[f"NannyML (`{_NANNYML[0]}`)"] = of_nannyml
    errors = {
        name: [estimate - auc for estimate, auc in zip(values, aucs, strict=True)]
        for name, values in estimates.items()
    }
    return [
        Study(
            title="Performance before labels",
            method=(
                f"A baseline of {BASELINE_ROWS:,} rows, and weeks of {ROWS_A_WEEK:,} in which the "
                "feature's mean and spread are others; the model's probabilities stay right. "
                "`estimated_auc` of `fct_model_performance_weekly`, which labels play no part in, "
                "beside `auc`, which they decide. NannyML estimates from the same rows, by CBPE."
            ),
            tables=[
                Table(
                    (
                        "mean, spread of the feature",
                        "AUC",
                        *(
                            column
                            for name in estimates
                            for column in (f"{name}: estimated", "difference")
                        ),
                    ),
                    [
                        (
                            f"{shift:+.1f}, {spread}",
                            f"{aucs[week]:.3f}",
                            *(
                                figure
                                for name in estimates
                                for figure in (
                                    f"{estimates[name][week]:.3f}",
                                    f"{errors[name][week]:+.3f}",
                                )
                            ),
                        )
                        for week, (shift, spread) in enumerate(weeks)
                    ],
                )
            ],
            bars=[
                Bar(
                    "estimated AUC within 0.03",
                    max(abs(error) for error in errors["driftline"]),
                    most=MOST_ERROR,
                )
            ],
        )
    ]


def _nannyml(baseline: Drawn, drawn: Sequence[Drawn]) -> list[float] | None:
    """Give NannyML's estimates; None where it cannot be installed or does not end in time."""
    python = peer_python("nannyml", _NANNYML)
    if python is None:
        return None
    with tempfile.TemporaryDirectory(prefix="driftline-calibration-") as folder:
        file = Path(folder) / "drawn.npz"
        _, score, is_positive = baseline
        np.savez(
            file,
            baseline_score=score,
            baseline_label=is_positive,
            score=np.stack([of_week[1] for of_week in drawn]),
        )
        try:
            return list(run_peer(python, "bench.calibration.nannyml_estimates", str(file)))
        except PeerFailedError as error:
            sys.stderr.write(f"NannyML is left out: {error}\n")
            return None


def _drawn(generator: np.random.Generator, rows: int, shift: float, spread: float) -> Drawn:
    feature = shift + spread * generator.standard_normal(rows)
    score = 1 / (1 + np.exp(1.0 - 1.5 * feature))
    return feature, score, generator.random(rows) < score


def _mart(baseline: Drawn, drawn: Sequence[Drawn]) -> list[dict[str, Any]]:
    """Give the weekly rows in order."""
    with tempfile.TemporaryDirectory(prefix="driftline-calibration-") as folder:
        server = ClickHouseProcess(Path(folder) / "data").start()
        try:
            end = _FIRST + timedelta(weeks=len(drawn))
            warehouse = Warehouse(
                server,
                Path(folder),
                "estimates",
                seeds={"models": ["m,binary,yes,0.5,1,0,,,,"]},
                variables={"as_of": f"{end:%Y-%m-%d %H:%M:%S}", "baseline_backfill_days": 3650},
            )
            feature, score, is_positive = baseline
            truth = np.where(is_positive, "yes", "no")
            register_baseline(
                warehouse.client,
                pa.table({"x": feature, "score": score, "truth": truth}),
                Roles(score="score", label="truth"),
                model_name="m",
                model_version="1",
                raw_database=warehouse.raw_database,
            )
            for week, of_week in enumerate(drawn):
                warehouse.land(_messages(week, of_week))
            warehouse.run("--select", "+fct_model_performance_weekly")
            return warehouse.query(
                "select auc, estimated_auc from {database}.fct_model_performance_weekly "
                "where segment_key = 'all' order by window_start"
            )
        finally:
            server.stop()


def _messages(week: int, drawn: Drawn) -> list[Message]:
    feature, score, is_positive = drawn
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
