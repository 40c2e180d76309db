"""Events as bytes: what a prediction or a label looks like on its topic.

An event (ingest.event_types) is one JSON object; its CloudEvents 1.0 attributes travel as `ce_*`
headers. Whatever a model server hands over becomes strict JSON, by these rules:

==============================  =============================================================
value                           in the event
==============================  =============================================================
None, NaT, pandas.NA            null
bool, str, int, finite float    as it is; an int beyond 64 bits becomes a float
NaN, Infinity, -Infinity        the string "NaN", "Infinity", "-Infinity": the event still
                                parses, and the value counts as invalid for a numeric feature
NumPy scalar, array, tensor     what its `tolist()` gives, then by these rules
Decimal, Fraction               the nearest float
datetime                        RFC 3339 in UTC with milliseconds; a naive one is taken as UTC
date, time                      ISO 8601
timedelta                       seconds, as a float
bytes                           text where they are UTF-8, else "base64:" and their base64
Enum, UUID, Path                its value; its text
lone surrogate in a text        U+FFFD
set, other sequence, mapping    list, object; a key that is no text becomes its JSON text
anything else                   its `str()`
deeper than 254 levels          cut at 32 levels, by the string "…"
==============================  =============================================================
"""

from __future__ import annotations

import base64
import json
import math
import os
import random
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from numbers import Real
from typing import Any, Final
from urllib.parse import quote

import orjson

from ingest.event_types import LabelEvent, Outcome, PredictionEvent

SCHEMA_VERSION: Final = 1
PREDICTION_TYPE = "driftline.prediction.v1"
LABEL_TYPE = "driftline.label.v1"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LEAST_INT, _GREATEST_INT = -(2**63), 2**64 - 1
_MAX_DEPTH = 32

Headers = list[tuple[str, bytes]]


# Not frozen, and no tuple with names: one is made for each prediction, and these take longer.
@dataclass(slots=True)
class EncodedEvent:
    """One message: the prediction it is about (also its key), its JSON, its time as written there.

    `was_repaired` says that a value could not be written as it was.
    """

    prediction_id: str
    value: bytes
    occurred_at: str
    was_repaired: bool


def new_event_id(milliseconds: int) -> str:
    """Give a UUIDv7 (RFC 9562) of a time in milliseconds since 1970, clamped to what fits in it.

    Ids of one time sort near each other, so looking up a late label touches few granules.
    """
    digits = (_random.getrandbits(76) & _RANDOM_BITS | _VARIANT).to_bytes(10).hex()
    return f"{_id_prefix(milliseconds)}{digits[1:4]}-{digits[4:8]}-{digits[8:]}"


# A busy server makes several ids a millisecond.
@lru_cache(maxsize=16)
def _id_prefix(milliseconds: int) -> str:
    digits = f"{min(max(milliseconds, 0), _LAST_STAMP):012x}"
    return f"{digits[:8]}-{digits[8:]}-7"


_LAST_STAMP = (1 << 48) - 1
# The variant (binary 10) is among the random bits.
_VARIANT = 0b10 << 62
_RANDOM_BITS = (1 << 76) - 1 & ~(0b11 << 62)
# Not the module's functions: a model server that calls random.seed(42) would repeat its ids.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)


@lru_cache(maxsize=16)
def format_time(milliseconds: int) -> str:
    """Write milliseconds since 1970 as RFC 3339 in UTC: 2026-11-22T10:00:00.123Z.

    Raises OverflowError outside the years 1 to 9999.
    """
    seconds, rest = divmod(milliseconds, 1000)
    return _format_second(seconds) + _FRACTIONS[rest]


# A format specification costs as much as all the rest.
_FRACTIONS = tuple(f".{milliseconds:03d}Z" for milliseconds in range(1000))


@lru_cache(maxsize=256)
def _format_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%4Y-%m-%dT%H:%M:%S")


def milliseconds_of(moment: datetime) -> int:
    """Give whole milliseconds since 1970, rounded down; a naive `moment` is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MILLISECOND


def read_time(moment: object) -> tuple[int, str, bool]:
    """Give (milliseconds since 1970, RFC 3339 text, was it readable) of what was given as a time.

    None is now. A text, date or NumPy time is read; what cannot be read keeps its text, which
    the warehouse then rejects with a reason, and the milliseconds are now's.
    """
    if moment is None:
        milliseconds = time.time_ns() // 1_000_000
        return milliseconds, format_time(milliseconds), True
    try:
        milliseconds = milliseconds_of(_as_datetime(moment))
        return milliseconds, format_time(milliseconds), True
    except (TypeError, ValueError, OverflowError, AttributeError):
        return time.time_ns() // 1_000_000, _clean_text(_text_of(moment)), False


def _as_datetime(moment: object) -> datetime:
    if isinstance(moment, datetime):
        return moment
    if isinstance(moment, date):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if isinstance(moment, str):
        return datetime.fromisoformat(moment)
    # numpy.datetime64, without importing NumPy
    found = moment.astype("datetime64[us]").item()  # type: ignore[attr-defined]
    if not isinstance(found, datetime):
        raise TypeError(f"{type(moment).__name__} is not a time")
    return found


def encode_prediction(
    *,
    model_name: str,
    model_version: str,
    features: Mapping[str, Any],
    score: Any = None,
    value: Any = None,
    label: Any = None,
    scores: Mapping[str, Any] | None = None,
    prediction_id: Any = None,
    predicted_at: Any = None,
    latency_ms: Any = None,
    status: str = "ok",
    segments: Mapping[str, Any] | None = None,
    entity_id: Any = None,
    metadata: Mapping[str, Any] | None = None,
) -> EncodedEvent:
    """Encode a prediction; see the module's table for what becomes of odd values.

    Without a `prediction_id` the event gets a UUIDv7 of `predicted_at`. Segment values are texts;
    one that is None or NaN is left out, which the warehouse shows as `__missing__`.
    """
    if features.__class__ is not dict:
        features = dict(features.items())  # a pandas row is no Mapping, but has items
    milliseconds, predicted_at_text, is_readable = read_time(predicted_at)
    event_id = new_event_id(milliseconds) if prediction_id is None else _identifier(prediction_id)
    prediction: Outcome = {}
    if score is not None:
        prediction["score"] = score
    if value is not None:
        prediction["value"] = value
    if label is not None:
        prediction["label"] = label
    if scores is not None:
        prediction["scores"] = scores
    event: PredictionEvent = {
        "schema_version": SCHEMA_VERSION,
        "prediction_id": event_id,
        "model_name": model_name,
        "model_version": model_version,
        "predicted_at": predicted_at_text,
        "features": features,
        "prediction": prediction,
        "status": status,
    }
    if latency_ms is not None:
        event["latency_ms"] = latency_ms
    if segments:
        event["segments"] = _segment_texts(segments)
    if entity_id is not None:
        event["entity_id"] = _identifier(entity_id)
    if metadata is not None:
        event["metadata"] = metadata
    encoded, was_repaired = _encode(event)
    return EncodedEvent(event_id, encoded, predicted_at_text, was_repaired or not is_readable)


def encode_label(
    *,
    model_name: str,
    prediction_id: Any,
    label: Any,
    observed_at: Any = None,
    source: str,
) -> EncodedEvent:
    """Encode the observed truth of a prediction; a further one for the same prediction revises it.

    `observed_at` is when it became known (None is now).
    """
    _, observed_at_text, is_readable = read_time(observed_at)
    event_id = _identifier(prediction_id)
    event: LabelEvent = {
        "schema_version": SCHEMA_VERSION,
        "prediction_id": event_id,
        "model_name": model_name,
        "label": label,
        "observed_at": observed_at_text,
        "source": source,
    }
    encoded, was_repaired = _encode(event)
    return EncodedEvent(event_id, encoded, observed_at_text, was_repaired or not is_readable)


def encode_truncated(event: EncodedEvent, *, model_name: str, model_version: str) -> bytes:
    """Encode the marker that stands for a prediction too large to send.

    It has no features; it says how large the event was and its SHA-256, so that the original can
    be recognised in the server's own logs.
    """
    marker = {
        "schema_version": SCHEMA_VERSION,
        "prediction_id": event.prediction_id[:200],
        "model_name": model_name,
        "model_version": model_version,
        "predicted_at": event.occurred_at,
        "is_truncated": True,
        "original_bytes": len(event.value),
        "original_sha256": sha256(event.value).hexdigest(),
    }
    return _encode(marker)[0]


def cloud_event_headers(event_type: str, source: str) -> Headers:
    """Give the CloudEvents headers that all events of one logger share; `ce_id` differs."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", event_type.encode()),
        ("ce_source", quote(source, errors="replace").encode()),
        ("content-type", b"application/json"),
    ]


def _encode(event: Mapping[str, object]) -> tuple[bytes, bool]:
    # orjson does ordinary events alone, at a tenth of the standard library's cost. It refuses odd
    # keys, wide integers, cycles and lone surrogates, and writes NaN as null: only where it may
    # have met one of these is the event walked in Python.
    try:
        encoded = orjson.dumps(event, _converted, _OPTIONS)
        # Backwards: half as long as `in`, which alone would take as long as the encoding.
        if encoded.rfind(b"null") < 0 or _is_finite(event):
            return encoded, False
    except (orjson.JSONEncodeError, RecursionError):
        pass
    text = _strict.encode(repaired(event))
    try:
        was_repaired = _strict.encode(event) != text
    except Exception:  # noqa: BLE001 - odd objects may raise anything
        was_repaired = True
    return text.encode(), was_repaired


def _is_finite(value: Any) -> bool:
    """Say whether all numbers in a value are finite."""
    kind = value.__class__
    if value is None or kind is str or kind is int or kind is bool:
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    if kind is dict:
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if kind is list else _is_finite(_converted(value))


def repaired(value: Any, depth: int = 0) -> Any:
    """Give a value of plain JSON types by the rules of the module's table."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _clean_text(str.__str__(value))
    if isinstance(value, Enum):
        return repaired(value.value, depth + 1)
    if isinstance(value, int):
        number = int(value)
        return number if _LEAST_INT <= number <= _GREATEST_INT else _finite(_nearest_float(number))
    if isinstance(value, float):
        return _finite(float(value))
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {_key_text(key): repaired(inner, depth + 1) for key, inner in list(value.items())}
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray | memoryview):
        return [repaired(inner, depth + 1) for inner in list(value)]
    return repaired(_converted(value), depth + 1)


def _converted(value: Any) -> Any:
    """Turn a value that JSON does not know into one that is nearer to JSON (the encoder's hook)."""
    if isinstance(value, float):  # numpy.float64
        return float(value)
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, datetime):
        try:
            return format_time(milliseconds_of(value))
        except OverflowError:
            return value.isoformat()
    if isinstance(value, date | time_of_day):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes_text(bytes(value))
    if isinstance(value, Decimal) or (isinstance(value, Real) and not _has_tolist(value)):
        return _nearest_float(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value.items())
    if isinstance(value, Sequence | Set):
        return list(value)
    if _has_tolist(value):
        return _from_array(value)
    return _text_of(value)


_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

_strict = json.JSONEncoder(
    ensure_ascii=False,
    allow_nan=False,
    check_circular=False,
    separators=(",", ":"),
    default=_converted,
)


def _has_tolist(value: object) -> bool:
    return hasattr(value, "tolist")


def _from_array(value: Any) -> Any:
    """Convert a NumPy scalar or array, or a tensor, without importing its library."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind == "M":
        return value.astype("datetime64[us]").tolist()
    if kind == "m":
        return value.astype("timedelta64[us]").tolist()
    found = value.tolist()
    if type(found) is not type(value):
        return found
    # numpy.longdouble gives itself
    return _nearest_float(value)


def _nearest_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except ValueError:  # a signalling NaN of Decimal
        return math.nan


def _finite(number: float) -> float | str:
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _key_text(key: object) -> str:
    if isinstance(key, str):
        return _clean_text(str.__str__(key))
    plain = repaired(key)
    return plain if isinstance(plain, str) else _strict.encode(plain)


def _identifier(value: object) -> str:
    if isinstance(value, str):
        return _clean_text(str.__str__(value))
    return _key_text(value)


def _segment_texts(segments: Mapping[str, Any]) -> dict[str, str]:
    texts = {}
    for name, segment in segments.items():
        if segment.__class__ is not str:
            plain = repaired(segment)
            if plain is None or (plain == "NaN" and not isinstance(segment, str)):
                continue
            segment = plain if isinstance(plain, str) else _strict.encode(plain)
        texts[name] = segment
    return texts


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def _clean_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - any object may come; a broken __str__ must not lose the event
        return f"<{type(value).__name__}>"
