"""Predictions with their truth, of every task: landed as events, registered as baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from ingest.baselines import Roles, register_baseline
from ingest.events import encode_label, encode_prediction
from tests.dbt_project.warehouse import Message, Warehouse

FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Outcome:
    """What a model said of a row, and what turned out."""

    at: datetime
    truth: str | float | None
    score: float | None = None
    value: float | None = None
    label: str | None = None
    class_scores: Mapping[str, float] = field(default_factory=dict)
    segments: Mapping[str, str] = field(default_factory=dict)


def within_day(day: int, rows: Iterable[Outcome]) -> list[Outcome]:
    """Place rows a minute after another in a day, numbered from 0."""
    start = FIRST_DAY + timedelta(days=day)
    return [
        Outcome(**{**vars(row), "at": start + timedelta(minutes=number)})
        for number, row in enumerate(rows)
    ]


def land_outcomes(
    warehouse: Warehouse,
    model_name: str,
    rows: Sequence[Outcome],
    *,
    prefix: str = "",
    first: int = 0,
    lag: timedelta = timedelta(hours=2),
) -> None:
    """Land predictions, numbered from `first`, and the labels of those whose truth is known."""
    names = [f"{model_name}-{prefix}{first + number}" for number in range(len(rows))]
    warehouse.land(
        Message(
            "predictions",
            encode_prediction(
                model_name=model_name,
                model_version="1",
                prediction_id=name,
                predicted_at=row.at,
                features={"x": 1.0},
                score=row.score,
                value=row.value,
                label=row.label,
                scores=row.class_scores or None,
                segments=row.segments,
            ).value,
        )
        for name, row in zip(names, rows, strict=True)
    )
    land_truths(
        warehouse,
        model_name,
        [
            (name, row.truth, row.at + lag)
            for name, row in zip(names, rows, strict=True)
            if row.truth is not None
        ],
    )


def land_truths(
    warehouse: Warehouse, model_name: str, truths: Iterable[tuple[str, str | float, datetime]]
) -> None:
    """Land labels: prediction id, truth, when it was observed."""
    warehouse.land(
        Message(
            "labels",
            encode_label(
                model_name=model_name,
                prediction_id=prediction_id,
                label=truth,
                observed_at=observed_at,
                source="test",
            ).value,
        )
        for prediction_id, truth, observed_at in truths
    )


def register_outcomes(warehouse: Warehouse, model_name: str, rows: Sequence[Outcome]) -> str:
    """Register rows as the baseline of version 1, and give its id."""
    columns: dict[str, list[object]] = {"x": [1.0 for _ in rows]}
    columns["truth"] = [row.truth for row in rows]
    roles: dict[str, Any] = {"label": "truth"}
    for role in ("score", "value", "label"):
        if getattr(rows[0], role) is not None:
            name = "predicted_label" if role == "label" else role
            roles[name] = f"its {name}"
            columns[f"its {name}"] = [getattr(row, role) for row in rows]
    classes = sorted({name for row in rows for name in row.class_scores})
    for name in classes:
        columns[f"score of {name}"] = [row.class_scores.get(name) for row in rows]
    segments = sorted({key for row in rows for key in row.segments})
    for key in segments:
        columns[key] = [row.segments.get(key) for row in rows]
    return register_baseline(
        warehouse.client,
        pa.table(columns),
        Roles(
            **roles,
            class_scores={name: f"score of {name}" for name in classes},
            segments=tuple(segments),
        ),
        model_name=model_name,
        model_version="1",
        raw_database=warehouse.raw_database,
    ).baseline_id
