"""Small seeded histories of one model: all that can come late, twice, out of order or broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from ingest.events import encode_label
from tests.dbt_project.drift_oracle import Model, Row
from tests.dbt_project.warehouse import Message, Warehouse, prediction_of

# Thursday: days, weeks and months end within the five days of a story.
FIRST_DAY = datetime(2025, 1, 30, tzinfo=UTC)
DAYS = 5
MIN_ROWS = 12
# When the last window of every story is long over, so that no status depends on the clock.
AS_OF = "2025-04-01 00:00:00"


@dataclass(frozen=True)
class BaselineSet:
    """A baseline to land: its id, when it was registered, its rows."""

    baseline_id: str
    version: str
    registered_at: datetime
    rows: Sequence[Row]


Happening = Message | BaselineSet


@dataclass(frozen=True)
class Story:
    """All that happens to one model; the order of `happenings` is the order they should come in."""

    model: Model
    happenings: Sequence[Happening]

    @property
    def seeds(self) -> dict[str, list[str]]:
        """The configuration of the model."""
        name = self.model.name
        return {
            "models": [f"{name},binary,yes,0.5,1,48,{MIN_ROWS},{self.model.cluster_key},,"],
            "segment_sets": [f"{name},origin,hour", f"{name},origin|carrier,"],
            "features": [f"{name},hour,,,,,week"],
            "monitors": [
                f"{name}_drift,{name},psi,all,*,day,>=,0.25,{MIN_ROWS},1,2,warn",
                f"{name}_nulls,{name},null_rate,origin,*,hour,>,0.1,2,1,1,warn",
                f"{name}_f1,{name},f1,origin,,day,<,0.6,{MIN_ROWS},2,3,error",
            ],
        }


def make_story(number: int) -> Story:
    """Give the story of a number: the same at each call."""
    random = np.random.default_rng([20_250_130, number])
    name = f"story_{number}"
    model = Model(
        name=name,
        task="binary",
        types={"distance": "numeric", "hour": "numeric", "carrier": "categorical"},
        min_rows=MIN_ROWS,
        cluster_key="carrier" if number % 3 == 0 else "",
    )
    rows = [_row(random) for _ in range(150)]
    versions = ["2" if random.random() < 0.2 else "1" for _ in rows]
    predictions = [
        prediction_of(row, name, version, str(place))
        for place, (row, version) in enumerate(zip(rows, versions, strict=True))
    ]
    for place in range(0, 45, 3):
        # The same id predicted again: earlier or later, in another hour, day, segment or version.
        again = _row(random)
        predictions.append(prediction_of(again, name, str(random.choice(["1", "2"])), str(place)))
    for place in range(50, 58):
        # The same id at the same time with another score: the hash of the bytes decides.
        twin = Row(rows[place].features, rows[place].at, rows[place].segments, score=0.5)
        predictions.append(prediction_of(twin, name, versions[place], str(place)))
    # The only prediction of its hour, day and segment turns out to be another's.
    lonely = Row({"distance": 1.0}, FIRST_DAY - timedelta(days=9), {"origin": "BOS"}, score=0.9)
    earlier = Row({"distance": 1.0}, FIRST_DAY - timedelta(days=16), {"origin": "LAX"}, score=0.9)
    predictions += [
        prediction_of(lonely, name, "1", "lonely"),
        prediction_of(earlier, name, "2", "lonely"),
    ]
    labels = [_label(name, str(place), rows[place], random) for place in range(110)]
    for place in range(0, 40, 4):
        revisions = int(random.integers(1, 3))
        labels += [_label(name, str(place), rows[place], random) for _ in range(revisions)]
    for place in range(40, 50):
        # At the same time from another source, and another value from the same source.
        labels += [
            _label(name, str(place), rows[place], random, hours=5, source=source)
            for source in ("b", "a", "b")
        ]
    labels += [_label(name, f"orphan-{place}", rows[place], random) for place in range(6)]
    labels += [_label(name, "lonely", lonely, random)]
    broken = [b"", b"{", b'{"schema_version": 1}', b"\xff", predictions[0][:-1]]
    messages = [
        *_messages("predictions", [*predictions, *broken], number, random),
        *_messages("labels", [*labels, *broken], number, random),
    ]
    baselines = [
        _baseline(random, name, "old", "1", days_before=30, shift=0.0),
        _baseline(random, name, "new", "1", days_before=-2, shift=0.4),
        _baseline(random, name, "other", "2", days_before=10, shift=0.2),
    ]
    return Story(model, [*baselines, *messages])


def _row(random: np.random.Generator) -> Row:
    at = FIRST_DAY + timedelta(milliseconds=int(random.integers(0, DAYS * 86_400_000)))
    # Few hours, so that an hour holds several rows.
    at = at.replace(hour=at.hour // 6 * 6)
    return _row_at(random, at, 0.3 * (at - FIRST_DAY).days)


def _row_at(random: np.random.Generator, at: datetime, shift: float) -> Row:
    carrier = str(random.choice(["UA", "B6", "DL"], p=[0.6, 0.3, 0.1]))
    features: dict[str, Any] = {
        "distance": round(float(random.normal(shift, 1)), 3),
        "hour": at.hour,
        "carrier": carrier,
    }
    if random.random() < 0.1:
        features["distance"] = (None, "far", float("nan"))[int(random.integers(0, 3))]
    if random.random() < 0.05:
        features["unexpected"] = 1.5
    segments = {"origin": str(random.choice(["EWR", "JFK", "LGA"], p=[0.6, 0.35, 0.05]))}
    if random.random() < 0.9:
        segments["carrier"] = carrier
    return Row(features, at, segments, score=round(float(random.beta(2, 2)), 2))


def _label(
    name: str,
    place: str,
    row: Row,
    random: np.random.Generator,
    *,
    hours: float | None = None,
    source: str = "a",
) -> bytes:
    lag = float(random.integers(1, 60)) if hours is None else hours
    assert row.at is not None
    return encode_label(
        model_name=name,
        prediction_id=f"{name}-{place}",
        label="yes" if random.random() < (row.score or 0) else "no",
        observed_at=row.at + timedelta(hours=lag),
        source=source,
    ).value


def _baseline(
    random: np.random.Generator,
    name: str,
    kind: str,
    version: str,
    *,
    days_before: int,
    shift: float,
) -> BaselineSet:
    registered_at = FIRST_DAY - timedelta(days=days_before)
    first = FIRST_DAY - timedelta(days=60)
    rows = [
        _row_at(random, first + timedelta(hours=int(random.integers(0, 20 * 24))), shift)
        for _ in range(80)
    ]
    # Not every row of a training set has a label.
    truths = random.choice(["yes", "no", ""], size=len(rows), p=[0.5, 0.4, 0.1])
    labeled = [
        replace(row, truth=str(truth) or None) for row, truth in zip(rows, truths, strict=True)
    ]
    return BaselineSet(f"{name}-{kind}", version, registered_at, labeled)


def _messages(
    topic: str, values: Sequence[bytes], number: int, random: np.random.Generator
) -> list[Message]:
    """Give each event its place in the topic; some come a second time.

    A fifth is sent twice, so it stands at two offsets; a fifth is landed twice from one offset, as
    a repair or a replay does.
    """
    partitions = 2
    messages = [
        Message(topic, value, number * partitions + offset % partitions, offset)
        for offset, value in enumerate(values)
    ]
    sent_twice = random.choice(len(messages), len(messages) // 5, replace=False)
    landed_twice = random.choice(len(messages), len(messages) // 5, replace=False)
    return [
        *messages,
        *(
            Message(topic, values[place], number * partitions, len(values) + offset)
            for offset, place in enumerate(sorted(sent_twice))
        ),
        *(messages[place] for place in sorted(landed_twice)),
    ]


def land_happenings(warehouse: Warehouse, story: Story, happenings: Sequence[Happening]) -> None:
    """Land part of a story: baselines first, then each topic's messages."""
    for happening in happenings:
        if isinstance(happening, BaselineSet):
            warehouse.land_baseline(
                story.model,
                happening.version,
                happening.rows,
                happening.baseline_id,
                happening.registered_at,
            )
    warehouse.land(one for one in happenings if isinstance(one, Message))


def merged_seeds(stories: Sequence[Story]) -> dict[str, list[str]]:
    """Give the configuration of all models together."""
    seeds: dict[str, list[str]] = {}
    for story in stories:
        for name, lines in story.seeds.items():
            seeds.setdefault(name, []).extend(lines)
    return seeds
