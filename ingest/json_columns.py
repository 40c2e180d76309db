"""Arrow columns as JSON texts, a whole column at a time (a Python loop over rows would crawl)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from ingest.events import format_time, milliseconds_of, repaired

_NEEDS_ESCAPE = r'["\\\x00-\x1f]'
_RFC3339 = "%Y-%m-%dT%H:%M:%SZ"


class ColumnError(ValueError):
    """A column cannot be read as asked. The message names it, its type and the remedy."""


def json_values(column: pa.Array, name: str) -> pa.Array:
    """Give each value of a column as a JSON text (type string, never null: null is `null`).

    NaN and ±Infinity become null: pandas and Parquet files made from it have no other null for
    numbers. float32 is widened first, as a model server's NumPy does. Timestamps become RFC 3339 in
    UTC with milliseconds (naive ones are UTC), dates ISO 8601, durations seconds. Raises
    ColumnError for nested types, which are no scalars.
    """
    column = _plain(column)
    kind = column.type
    if pa.types.is_null(kind):
        return pa.repeat(pa.scalar("null"), len(column))
    if pa.types.is_boolean(kind):
        texts = pc.if_else(column, "true", "false")
    elif pa.types.is_integer(kind):
        texts = column.cast(pa.string())
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = column.cast(pa.float64())
        texts = pc.if_else(pc.is_finite(numbers), numbers.cast(pa.string()), None)
    elif pa.types.is_duration(kind):
        seconds = pc.divide(column.cast(pa.duration("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
        texts = seconds.cast(pa.string())
    elif pa.types.is_timestamp(kind):
        texts = _quoted(time_texts(column, name))
    elif pa.types.is_date(kind) or pa.types.is_time(kind):
        texts = _quoted(column.cast(pa.string()))
    elif pa.types.is_string(kind):
        texts = _quoted(column)
    elif pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        texts = _quoted(pa.array([repaired(value) for value in column.to_pylist()], pa.string()))
    else:
        raise ColumnError(
            f"column {name!r} is of type {kind}, which is no scalar: leave it out, or spread it "
            "over columns of its parts"
        )
    return pc.fill_null(texts, "null")


def json_objects(members: Sequence[tuple[str, pa.Array]], rows: int) -> pa.Array:
    """Give one JSON object a row from (name, JSON texts) pairs, all of `rows` texts."""
    if not members:
        return pa.repeat(pa.scalar("{}"), rows)
    pieces: list[pa.Array | str] = []
    for index, (name, texts) in enumerate(members):
        opening = "," if index else "{"
        pieces += [f"{opening}{json.dumps(name, ensure_ascii=False)}:", texts]
    return pc.binary_join_element_wise(*pieces, "}", "")


def plain_texts(column: pa.Array, name: str) -> pa.Array:
    """Give a column of texts, integers or booleans as texts, as the logger writes segments.

    Null stays null. Raises ColumnError for other types: a float has several spellings, so the
    same segment would have several names.
    """
    column = _plain(column)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_null(kind) or pa.types.is_integer(kind):
        return column.cast(pa.string())
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "true", "false")
    raise ColumnError(
        f"column {name!r} is of type {kind}: convert it to text or integers, whose spelling is "
        "the same everywhere"
    )


def time_texts(column: pa.Array, name: str) -> pa.Array:
    """Give a column of times as RFC 3339 texts in UTC with milliseconds; null stays null.

    Timestamps, dates and ISO 8601 texts are read; without a zone they are UTC. A text that is
    not a time becomes null. Raises ColumnError for other types.
    """
    column = _plain(column)
    kind = column.type
    if pa.types.is_string(kind):
        column = _times_of_texts(column)
    elif pa.types.is_null(kind):
        return column.cast(pa.string())
    elif pa.types.is_date(kind):
        column = column.cast(pa.timestamp("ms"))
    elif not pa.types.is_timestamp(kind):
        raise ColumnError(
            f"column {name!r} is of type {kind}, not a time: give timestamps or ISO 8601 texts"
        )
    zone = "UTC" if column.type.tz else None
    return pc.strftime(column.cast(pa.timestamp("ms", zone), safe=False), _RFC3339)


def _times_of_texts(column: pa.Array) -> pa.Array:
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    # With and without zones, or not times at all: one by one.
    return pa.array(
        [None if text is None else _milliseconds(text) for text in column.to_pylist()],
        pa.timestamp("ms", "UTC"),
    )


def _milliseconds(text: str) -> int | None:
    try:
        milliseconds = milliseconds_of(datetime.fromisoformat(text.strip()))
        format_time(milliseconds)
    except (ValueError, OverflowError):
        return None
    return milliseconds


def _plain(column: pa.Array) -> pa.Array:
    """Undo encodings that only save memory."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return column.cast(pa.binary())
    return column


def _quoted(texts: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(texts, _NEEDS_ESCAPE)).as_py():
        encoded = texts.dictionary_encode()
        values = [json.dumps(text, ensure_ascii=False) for text in encoded.dictionary.to_pylist()]
        return pa.array(values, pa.string()).take(encoded.indices)
    return pc.binary_join_element_wise('"', texts, '"', "")
