"""Models of which each is sound on one day and has one fault on the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from tests.dbt_project.drift_oracle import Model, Row

SOUND_DAY, FAULTY_DAY = datetime(2025, 4, 8, tzinfo=UTC), datetime(2025, 4, 9, tzinfo=UTC)
BASELINE_START = datetime(2025, 2, 1, tzinfo=UTC)
ROWS_PER_DAY = 240
Fault = Callable[[Row, int], Row]


def _with(**features: Any) -> Fault:
    return lambda row, _: replace(row, features={**row.features, **features})


def _every_other(fault: Fault) -> Fault:
    return lambda row, number: fault(row, number) if number % 2 else row


def _renamed(row: Row, _: int) -> Row:
    features = dict(row.features)
    return replace(row, features={"amount_eur": features.pop("amount"), **features})


def _shifted(row: Row, _: int) -> Row:
    return replace(row, features={**row.features, "amount": row.features["amount"] + 1.5})


def _moved(row: Row, _: int) -> Row:
    return replace(row, segments={"region": "moon"})


def _mistyped(row: Row, number: int) -> Row:
    wrong = ("many", True, [1.0], {"eur": 1})[number // 2 % 4]
    return replace(row, features={**row.features, "amount": wrong})


def _relabeled(row: Row, _: int) -> Row:
    return replace(row, truth="buys")


FAULTS: Mapping[str, Fault | None] = {
    "sound": None,
    "empty_column": _with(amount=None),
    "new_segment": _moved,
    "new_category": _every_other(_with(plan="gold")),
    "mixed_types": _every_other(_mistyped),
    "another_constant": _with(currency_code=8.0),
    "shifted": _shifted,
    "relabeled": _relabeled,
}
# What drifts from the baseline and from the day before.
DRIFTED: Mapping[str, set[str]] = {
    "sound": set(),
    "empty_column": {"amount"},
    "new_segment": set(),
    "new_category": {"plan"},
    "mixed_types": {"amount"},
    "another_constant": {"currency_code"},
    "shifted": {"amount"},
    "relabeled": {"__label__"},
}


@dataclass(frozen=True)
class FaultyModel:
    """A model with its baseline and two days of predictions by version."""

    model: Model
    baseline: list[Row]
    current: Mapping[str, list[Row]]


def faulty_models() -> list[FaultyModel]:
    """Give the same models at each call."""
    random = np.random.default_rng(20_250_408)
    found = []
    for name, fault in FAULTS.items():
        model = _model(name)
        sound = [_row(random, SOUND_DAY, 1) for _ in range(ROWS_PER_DAY)]
        faulty = [_row(random, FAULTY_DAY, 1) for _ in range(ROWS_PER_DAY)]
        if fault:
            faulty = [fault(row, number) for number, row in enumerate(faulty)]
        found.append(FaultyModel(model, _baseline(random), {"1": sound + faulty}))
    # The second version calls a feature otherwise than the baseline it was registered with.
    rows = [_renamed(_row(random, FAULTY_DAY, 1), 0) for _ in range(ROWS_PER_DAY)]
    found.append(FaultyModel(_model("renamed"), _baseline(random), {"2": rows}))
    return found


def model_lines() -> list[str]:
    """Give the lines of models.csv."""
    return [f"fault_{name},binary,buys,0.5,1,0,100,,," for name in (*FAULTS, "renamed")]


def segment_set_lines() -> list[str]:
    """Give the lines of segment_sets.csv."""
    return [f"fault_{name},region," for name in (*FAULTS, "renamed")]


def _model(name: str) -> Model:
    return Model(
        name=f"fault_{name}",
        task="binary",
        types={"amount": "numeric", "currency_code": "numeric", "plan": "categorical"},
        min_rows=100,
        positive_label="buys",
        segment_sets=(("region",),),
    )


def _baseline(random: np.random.Generator) -> list[Row]:
    return [_row(random, BASELINE_START, 20) for _ in range(800)]


def _row(random: np.random.Generator, start: datetime, days: int) -> Row:
    score = round(float(random.beta(2, 2)), 3)
    return Row(
        {
            "amount": round(float(random.normal(50, 1)), 3),
            "currency_code": 7.0,
            "plan": str(random.choice(["free", "basic", "pro"], p=[0.6, 0.3, 0.1])),
        },
        start + timedelta(milliseconds=int(random.integers(0, days * 86_400_000))),
        {"region": str(random.choice(["north", "south"]))},
        score=score,
        truth="buys" if random.random() < score else "leaves",
    )
