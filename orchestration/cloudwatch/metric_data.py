"""Datums of PutMetricData: what CloudWatch accepts, and how many fit into a request.

One datum that CloudWatch refuses fails its whole request, so each is judged here first. The limits
are those of the API reference of PutMetricData, MetricDatum and Dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

MAX_METRICS = 1_000
MAX_REQUEST_BYTES = 1_000_000
MAX_DIMENSIONS = 30
MAX_VALUES = 150
MAX_NAME = 255
MAX_DIMENSION_VALUE = 1_024
MAX_MAGNITUDE = 2.0**360
OLDEST = timedelta(weeks=2)
NEWEST = timedelta(hours=2)

_AMOUNTS = tuple(
    f"{scale}{unit}".capitalize()
    for unit in ("bytes", "bits")
    for scale in ("", "kilo", "mega", "giga", "tera")
)
UNITS = frozenset(
    (
        *("Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None"),
        *_AMOUNTS,
        *(f"{amount}/Second" for amount in _AMOUNTS),
    )
)

# What a request holds beside its datums: operation, version, namespace.
_ENVELOPE_BYTES = 1_000

Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Datum:
    """A gauge's value at a moment.

    `dimensions` are pairs of name and value, in any order; `value` is one number, or up to 150
    that were all observed then; `unit` is one of UNITS; `timestamp` knows its zone.
    """

    name: str
    dimensions: Dimensions
    value: float | tuple[float, ...]
    unit: str
    timestamp: datetime

    @property
    def key(self) -> tuple[str, Dimensions]:
        """What CloudWatch knows (and bills) the metric by, whatever the order of dimensions."""
        return self.name, tuple(sorted(self.dimensions))

    @property
    def values(self) -> tuple[float, ...]:
        """The value, or all of them."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


@dataclass(frozen=True)
class Quarantined:
    """A datum that CloudWatch would refuse, and why."""

    datum: Datum
    reason: str


def illegal_text(text: str, most: int) -> str:
    """Say what is wrong with a name or dimension value of at most `most` characters; else ''."""
    if not text.strip():
        return "is empty"
    if len(text) > most:
        return f"has {len(text):,} characters, more than {most:,}"
    if not text.isascii():
        return "is not ASCII"
    if not text.isprintable():
        return "has control characters"
    return ""


def illegal_namespace(namespace: str) -> str:
    """Say why CloudWatch would refuse a namespace; '' where it would not."""
    if namespace.startswith(":"):
        return "begins with a colon"
    if namespace.upper().startswith("AWS/"):
        return "begins with AWS/, which is Amazon's"
    return illegal_text(namespace, MAX_NAME)


def problem_of(datum: Datum, now: datetime) -> str:
    """Say why CloudWatch would refuse `datum` at `now`; '' where it would not."""
    wrong = illegal_text(datum.name, MAX_NAME)
    if wrong:
        return f"the metric's name {wrong}"
    if datum.name.startswith(":"):
        return "the metric's name begins with a colon"
    return (
        _problem_of_dimensions(datum.dimensions)
        or _problem_of_values(datum.values)
        or ("" if datum.unit in UNITS else f"{datum.unit!r} is no unit of CloudWatch")
        or _problem_of_timestamp(datum.timestamp, now)
    )


def _problem_of_dimensions(dimensions: Dimensions) -> str:
    if len(dimensions) > MAX_DIMENSIONS:
        return f"{len(dimensions)} dimensions are more than {MAX_DIMENSIONS}"
    if len({name for name, _ in dimensions}) < len(dimensions):
        return "a dimension is given twice"
    for name, value in dimensions:
        wrong = illegal_text(name, MAX_NAME)
        if wrong:
            return f"the name of dimension {name[:40]!r} {wrong}"
        if name.startswith(":"):
            return f"the name of dimension {name[:40]!r} begins with a colon"
        wrong = illegal_text(value, MAX_DIMENSION_VALUE)
        if wrong:
            return f"the value of dimension {name} {wrong}: {value[:40]!r}"
    return ""


def _problem_of_values(values: Sequence[float]) -> str:
    if not values:
        return "it has no value"
    if len(values) > MAX_VALUES:
        return f"{len(values)} values are more than {MAX_VALUES}"
    for value in values:
        if not math.isfinite(value):
            return f"{value} is not a finite number"
        if abs(value) > MAX_MAGNITUDE:
            return f"{value} is beyond 2^360"
    return ""


def _problem_of_timestamp(timestamp: datetime, now: datetime) -> str:
    if timestamp.utcoffset() is None:
        return "its timestamp has no time zone"
    if is_too_old(timestamp, now):
        return f"{timestamp.isoformat()} is two weeks old or older"
    if timestamp > now + NEWEST:
        return f"{timestamp.isoformat()} is more than two hours in the future"
    return ""


def is_too_old(timestamp: datetime, now: datetime) -> bool:
    """Whether CloudWatch would refuse a datum of that time for its age."""
    return timestamp <= now - OLDEST


def sort_out(
    datums: Iterable[Datum], now: datetime
) -> tuple[tuple[Datum, ...], tuple[Quarantined, ...]]:
    """Part `datums` into those that CloudWatch accepts at `now` and those it does not."""
    accepted, quarantined = [], []
    for datum in datums:
        reason = problem_of(datum, now)
        if reason:
            quarantined.append(Quarantined(datum, reason))
        else:
            accepted.append(datum)
    return tuple(accepted), tuple(quarantined)


def batches(datums: Iterable[Datum]) -> Iterator[tuple[Datum, ...]]:
    """Cut `datums` into requests of at most 1,000 metrics and 1 MB, in their order."""
    batch: list[Datum] = []
    size = _ENVELOPE_BYTES
    for datum in datums:
        more = request_bytes(datum)
        if batch and (len(batch) == MAX_METRICS or size + more > MAX_REQUEST_BYTES):
            yield tuple(batch)
            batch, size = [], _ENVELOPE_BYTES
        batch.append(datum)
        size += more
    if batch:
        yield tuple(batch)


def request_bytes(datum: Datum) -> int:
    """Give the most bytes that `datum` takes in a request, before compression.

    That is its size in the query protocol, the longest of those botocore may choose (query, JSON,
    CBOR). See docs/decisions/0022-request-size.md for why gzip is not counted on.
    """
    prefix = "&MetricData.member.1000."
    size = len(f"{prefix}MetricName=") + len(quote_plus(datum.name))
    size += len(f"{prefix}Timestamp=2026-01-01T00%3A00%3A00.000000%2B00%3A00")
    size += len(f"{prefix}Unit=") + len(quote_plus(datum.unit))
    for name, value in datum.dimensions:
        size += 2 * len(f"{prefix}Dimensions.member.30.Value=")
        size += len(quote_plus(name)) + len(quote_plus(value))
    # The longest text of a double is 24 characters, with a plus sign to escape.
    return size + len(datum.values) * (len(f"{prefix}Values.member.150=") + 26)


def as_request(datum: Datum) -> dict[str, Any]:
    """Give `datum` as PutMetricData takes it."""
    several = isinstance(datum.value, tuple)
    return {
        "MetricName": datum.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in datum.dimensions],
        "Timestamp": datum.timestamp,
        "Unit": datum.unit,
        **({"Values": list(datum.values)} if several else {"Value": datum.value}),
    }


def in_words(datum: Datum) -> str:
    """Give a datum's name and dimensions for people."""
    dimensions = ", ".join(f"{name}={value}" for name, value in datum.dimensions)
    return f"{datum.name} ({dimensions})"
