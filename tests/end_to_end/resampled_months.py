"""Months resampled from a baseline, clean or with one fault for a while, as encoded events.

A row is drawn whole, with its score, its label and its nulls: whatever two months differ in is
then the draw or the fault. No feature that a fault spoils has any weight in the score, so a fault
of a feature is one of that feature alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from ingest.baselines import Roles
from ingest.events import encode_label, encode_prediction

VERSION = "1"
THRESHOLD = 0.4
FEATURE_TYPES: Mapping[str, pa.DataType] = {
    "amount": pa.float64(),
    "distance": pa.float64(),
    "refunds": pa.float64(),
    "visits": pa.float64(),
    "age": pa.float64(),
    "plan": pa.string(),
    "is_member": pa.bool_(),
}
BASELINE_ROLES = Roles(score="score", label="label", time="at", segments=("region",))
_DAY = timedelta(days=1)
_LABELED_SHARE = 0.97


@dataclass(frozen=True)
class Customer:
    """A row of the baseline: what the model saw and said, and what came true (yes or no)."""

    features: Mapping[str, Any]
    region: str
    score: float
    label: str


Fault = Callable[[Customer, float], Customer]  # of a customer and a random number in [0, 1)


def baseline_customers(count: int) -> list[Customer]:
    """Give the baseline's rows, the same at each call; labels follow scores (AUC about 0.75)."""
    random = np.random.default_rng(20_210_104)
    return [_customer(random) for _ in range(count)]


def _customer(random: np.random.Generator) -> Customer:
    amount, visits = float(random.lognormal(3, 1)), int(random.poisson(4))
    plan = str(random.choice(["free", "basic", "pro"], p=[0.6, 0.3, 0.1]))
    is_member = bool(random.random() < 0.3)
    logit = (math.log(amount) - 3) - 0.25 * (visits - 4) + 0.8 * (plan == "pro") - 0.7
    score = 1 / (1 + math.exp(-logit - 0.4 * is_member))
    return Customer(
        features={
            "amount": round(amount, 2),
            "distance": round(float(random.lognormal(1, 0.8)), 2),
            # Seven of ten never gave anything back.
            "refunds": 0.0 if random.random() < 0.7 else round(float(random.exponential(20)), 2),
            "visits": float(visits),
            "age": None if random.random() < 0.04 else float(round(random.gamma(9, 4.5))),
            "plan": plan,
            "is_member": is_member,
        },
        region=str(random.choice(["north", "south", "east"], p=[0.5, 0.3, 0.2])),
        score=round(score, 6),
        label="yes" if random.random() < score else "no",
    )


def baseline_table(customers: list[Customer], start: datetime, days: int) -> pa.Table:
    """Give the rows as a training set, evenly spread over the days."""
    columns = {
        name: pa.array([customer.features[name] for customer in customers], kind)
        for name, kind in FEATURE_TYPES.items()
    }
    times = [start + place * days * _DAY / len(customers) for place in range(len(customers))]
    return pa.table(
        {
            **columns,
            "region": [customer.region for customer in customers],
            "score": [customer.score for customer in customers],
            "label": [customer.label for customer in customers],
            "at": pa.array(times, pa.timestamp("ms", "UTC")),
        }
    )


@dataclass(frozen=True)
class TimedEvent:
    """An encoded event, its topic, and when it was sent."""

    topic: str
    sent_at: datetime
    value: bytes


@dataclass(frozen=True)
class Months:
    """What one model goes through: the baseline's rows drawn with replacement, `rows_per_day` of
    them on each of `days` days, with `fault` on those predicted from `faulty_from` on until before
    `faulty_until`.
    """

    model_name: str
    seed: int
    start: datetime
    days: int
    rows_per_day: int
    fault: Fault | None
    faulty_from: datetime
    faulty_until: datetime

    def events(self, customers: list[Customer]) -> Iterator[TimedEvent]:
        """Give predictions and, up to two days after each, its label; not in order of time."""
        random = np.random.default_rng(self.seed)
        for number in range(self.days * self.rows_per_day):
            customer = customers[int(random.integers(len(customers)))]
            predicted_at = self.start + (number + random.random()) * _DAY / self.rows_per_day
            latency_ms = float(random.lognormal(3, 0.5))
            is_labeled, label_lag = random.random() < _LABELED_SHARE, random.uniform(2, 47)
            luck = random.random()
            if self.fault and self.faulty_from <= predicted_at < self.faulty_until:
                customer = self.fault(customer, luck)
            prediction = encode_prediction(
                model_name=self.model_name,
                model_version=VERSION,
                prediction_id=f"{self.model_name}-{number:06d}",
                predicted_at=predicted_at,
                features=customer.features,
                score=customer.score,
                latency_ms=latency_ms,
                segments={"region": customer.region},
            )
            yield TimedEvent("predictions", predicted_at, prediction.value)
            if is_labeled:
                observed_at = predicted_at + timedelta(hours=label_lag)
                label = encode_label(
                    model_name=self.model_name,
                    prediction_id=prediction.prediction_id,
                    label=customer.label,
                    observed_at=observed_at,
                    source="test",
                )
                yield TimedEvent("labels", observed_at, label.value)


def distances_stretched(customer: Customer, _luck: float) -> Customer:
    """Stretch every `distance`, as a change of its unit does."""
    return _with(customer, distance=round(customer.features["distance"] * 2.5, 2))


def ages_lost(customer: Customer, luck: float) -> Customer:
    """Lose four ages in ten."""
    return _with(customer, age=None) if luck < 0.4 else customer


def labels_inverted(customer: Customer, _luck: float) -> Customer:
    """Turn every label round: the model is wrong where it was right."""
    return replace(customer, label="no" if customer.label == "yes" else "yes")


def _with(customer: Customer, **features: Any) -> Customer:
    return replace(customer, features={**customer.features, **features})
