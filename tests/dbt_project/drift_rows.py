"""Seeded rows of models whose features are of every kind that the drift marts must bin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from tests.dbt_project.drift_oracle import Model, Row

NAN = float("nan")

SHOP = Model(
    name="shop",
    task="binary",
    positive_label="buys",
    threshold=0.4,
    min_rows=60,
    segment_sets=(("region",), ("channel", "region")),
    min_granularity={"weekday": "week", "hour_of_day": "day"},
    types={
        "income": "numeric",
        "rainfall": "numeric",
        "spikes": "numeric",
        "constant": "numeric",
        "grade": "numeric",
        "twenty_values": "numeric",
        "twenty_one_values": "numeric",
        "weekday": "numeric",
        "hour_of_day": "numeric",
        "nullable": "numeric",
        "often_absent": "numeric",
        "mistyped": "numeric",
        "never_known": "numeric",
        "gone": "numeric",
        "city": "categorical",
        "plan": "categorical",
        "postal_code": "categorical",
        "is_member": "boolean",
    },
)
PRICE = Model(name="price", task="regression", types={"area": "numeric"}, min_rows=100)
GENRE = Model(
    name="genre", task="multiclass", types={"length": "numeric"}, min_rows=50,
    segment_sets=(("store",),), cluster_key="entity_id",
)  # fmt: skip
# Many rows an hour, so that hours are judged.
METER = Model(
    name="meter",
    task="regression",
    types={"load": "numeric", "hour_of_day": "numeric", "device": "categorical"},
    min_rows=15,
    segment_sets=(("site",), ("unit",)),
    hourly_sets=(("site",),),
    min_granularity={"hour_of_day": "day"},
    cluster_key="device",
)
# Not in models.csv: the defaults hold.
UNLISTED = Model(name="unlisted", task="", types={"x": "numeric"}, min_rows=300)


def registrable(row: Row) -> Row:
    """Give a row as a training set holds it: where a number belongs, a finite one or null."""
    score = row.score if row.score is not None and math.isfinite(row.score) else None
    features = {
        name: value if SHOP.types.get(name) != "numeric" or _is_finite(value) else None
        for name, value in row.features.items()
    }
    return replace(row, features=features, score=score)


def _is_finite(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Population:
    """A model version, its baseline (None: it has none) and what it predicted."""

    model: Model
    version: str
    baseline: Sequence[Row] | None
    current: Sequence[Row]


def populations() -> list[Population]:
    """Give the same populations at each call."""
    random = np.random.default_rng(20_250_101)
    start = datetime(2025, 4, 9, tzinfo=UTC)
    baseline = [
        registrable(_shopper(random, datetime(2025, 1, 6, tzinfo=UTC), days=80, drift=0.0))
        for _ in range(3_000)
    ]
    current = [
        *(_shopper(random, start, days=14, drift=0.0) for _ in range(1_400)),
        *(_shopper(random, start + timedelta(days=14), days=14, drift=1.0) for _ in range(1_400)),
    ]
    return [
        Population(SHOP, "1", baseline, current),
        Population(SHOP, "2", None, [_shopper(random, start, 3, 0.5) for _ in range(150)]),
        Population(
            PRICE,
            "1",
            [_house(random, None, 1.0) for _ in range(800)],
            [_house(random, start, 1.3) for _ in range(400)],
        ),
        Population(
            GENRE,
            "b",
            [_book(random, None, 0.0) for _ in range(500)],
            [_book(random, start, 0.3) for _ in range(400)],
        ),
        Population(
            METER,
            "1",
            [_reading(random, start - timedelta(days=30), 0.0) for _ in range(1_200)],
            [
                _reading(random, start + timedelta(days=day), shift)
                for day, shift in ((0, 0.0), (1, 1.5))
                for _ in range(500)
            ],
        ),
        Population(
            UNLISTED,
            "1",
            # What no training set can hold, but a baseline's rows can.
            [
                Row(
                    {"x": (NAN, "far", float(random.normal()))[min(number % 20, 2)]},
                    None,
                    score=0.5,
                )
                for number in range(400)
            ],
            [
                Row({"x": float(random.normal(1))}, _moment(random, start, 3), {"a": "b"}, 0.5)
                for _ in range(700)
            ],
        ),
    ]


def _moment(random: np.random.Generator, start: datetime, days: float) -> datetime:
    return start + timedelta(milliseconds=int(random.integers(0, int(days * 86_400_000))))


def _shopper(random: np.random.Generator, start: datetime, days: float, drift: float) -> Row:
    at = _moment(random, start, days)
    regions = ["north", "south", "east", "isle", "cape"]
    region = str(random.choice(regions, p=[0.5, 0.3, 0.15, 0.03, 0.02]))
    if drift and random.random() < 0.02:
        region = "new"
    plans = [0.7 - 0.3 * drift, 0.2, 0.1 + 0.3 * drift]
    features: dict[str, Any] = {
        "income": round(float(random.lognormal(10 + 0.3 * drift, 1)), 2),
        "rainfall": max(0.0, round(float(random.exponential(1 + drift)) - 0.9, 3)),
        "spikes": float(random.choice([0.0, 1.0, random.normal()], p=[0.15, 0.12, 0.73])),
        "constant": 7.5,
        "grade": int(random.integers(1, 13)) + (5 if drift and random.random() < 0.1 else 0),
        "twenty_values": int(random.integers(0, 20)),
        "twenty_one_values": int(random.integers(0, 21)),
        "weekday": at.weekday(),
        "hour_of_day": at.hour,
        "nullable": None if random.random() < 0.05 + 0.25 * drift else float(random.normal()),
        "mistyped": float(random.normal()),
        "never_known": None,
        "gone": float(random.normal()),
        # Seventy cities, few of them frequent: twenty have no bin of their own.
        "city": f"city {min(int(random.pareto(0.4) * 3), 69):02d}",
        "plan": str(random.choice(["free", "basic", "pro"], p=plans)),
        "postal_code": int(random.choice([10_001, 10_002, 94_105])),
        "is_member": bool(random.random() < 0.3 + 0.05 * drift),
    }
    if random.random() < 0.001:
        features["income"] = 1e6
    if random.random() < 0.4:
        features["often_absent"] = round(float(random.normal()), 1) + 0.0
    if random.random() < 0.05 + 0.05 * drift:
        features["mistyped"] = (NAN, "n/a", True, [1.0, 2.0], float("inf"), -float("inf"))[
            int(random.integers(0, 6))
        ]
    if drift:
        del features["gone"]
        if random.random() < 0.1:
            features["unannounced"] = 1.0
        if random.random() < 0.03:
            features["city"] = "città nuova"
        if random.random() < 0.01:
            features["plan"] = ["free", "basic"]
            features["is_member"] = "yes"
    segments = {"region": region, "channel": str(random.choice(["web", "shop"], p=[0.7, 0.3]))}
    if random.random() < 0.04:
        del segments["channel"]
    score = float(random.beta(2, 4 - 1.5 * drift))
    truth = None
    if random.random() < 0.8:
        truth = "buys" if random.random() < score else "leaves"
    if random.random() < 0.02:
        score = (None, NAN)[int(random.integers(0, 2))]  # type: ignore[assignment]
    return Row(features, at, segments, score=score, truth=truth)


def _house(random: np.random.Generator, start: datetime | None, scale: float) -> Row:
    at = None if start is None else _moment(random, start, 10)
    area = float(random.gamma(4, 30))
    price = scale * area * 3_000 + float(random.normal(0, 9_000))
    # No baseline has labels of this model, so what they drift from is not known.
    return Row({"area": area}, at, value=price, truth=None if start is None else f"{price:.2f}")


def _reading(random: np.random.Generator, start: datetime, shift: float) -> Row:
    at = start + timedelta(hours=int(random.integers(6, 18)), seconds=int(random.integers(0, 3600)))
    # The load follows the hour: an hour differs from the day without any drift.
    load = round(float(random.normal(at.hour / 4 + shift, 1)), 2)
    device = f"device {int(random.integers(0, 40))}"
    site = str(random.choice(["harbour", "hill", "wood"], p=[0.6, 0.3, 0.1]))
    return Row(
        {"load": load, "hour_of_day": at.hour, "device": device},
        at,
        {"site": site, "unit": device[-1]},
        value=load,
        truth=f"{load + shift:.1f}",
    )


def _book(random: np.random.Generator, start: datetime | None, drift: float) -> Row:
    at = None if start is None else _moment(random, start, 4)
    genres = ["crime", "poetry", "travel"]
    label = str(random.choice(genres, p=[0.6 - drift, 0.3, 0.1 + drift]))
    truth = str(random.choice(genres))
    # No training set has a column of this role.
    entity = None if start is None else f"reader {int(random.integers(0, 300))}"
    features = {"length": int(random.poisson(300))}
    return Row(features, at, {"store": "a"}, label=label, truth=truth, entity=entity)
