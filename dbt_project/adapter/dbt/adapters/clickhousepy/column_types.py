"""What a Python model may return for each declared ClickHouse type, and how it is converted.

A conversion changes how a value is written, never what it says: whole floats may become
integers (pandas turns integers with gaps into floats), times without a zone are UTC, but text is
not parsed, nothing is rounded or cut off, and a null never becomes a default value.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.datatypes.container import Array, Map, Tuple
from clickhouse_connect.datatypes.numeric import Bool, Decimal, Enum
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.datatypes.special import UUID, SimpleAggregateFunction
from clickhouse_connect.datatypes.string import FixedString, String
from clickhouse_connect.datatypes.temporal import Date, DateTime, DateTime64
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

_NUMBERS: dict[str, pa.DataType] = {
    "Int8": pa.int8(),
    "Int16": pa.int16(),
    "Int32": pa.int32(),
    "Int64": pa.int64(),
    "UInt8": pa.uint8(),
    "UInt16": pa.uint16(),
    "UInt32": pa.uint32(),
    "UInt64": pa.uint64(),
    "Float32": pa.float32(),
    "Float64": pa.float64(),
}
_CLICKHOUSE_NUMBERS = {arrow: name for name, arrow in _NUMBERS.items()}


class UnsupportedTypeError(ValueError):
    """A type that has no counterpart on the other side. The message names it."""


class UnfitColumnError(ValueError):
    """A column that does not hold what was declared. The message says what it holds."""


def clickhouse_type(name: str) -> ClickHouseType:
    """Parse a ClickHouse type; raise UnsupportedTypeError when it is none."""
    try:
        return get_from_name(name)
    except (ClickHouseError, KeyError, IndexError, ValueError) as error:
        raise UnsupportedTypeError(f"`{name}` is not a ClickHouse type") from error


def arrow_type(declared: ClickHouseType) -> pa.DataType:
    """Give the Arrow type whose values ClickHouse reads into `declared` unchanged.

    Raises UnsupportedTypeError for types Arrow cannot carry (Int128, JSON, Variant, …).
    """
    number = _NUMBERS.get(type(declared).__name__)
    if number is not None:
        return number
    match declared:
        case Bool():
            return pa.bool_()
        case FixedString() | String() | Enum() | UUID():
            return pa.string()
        case DateTime64():
            return pa.timestamp(_time_unit(declared.scale), "UTC")
        case DateTime():
            return pa.timestamp("s", "UTC")
        case Date():
            return pa.date32()
        case Decimal():
            return pa.decimal128(declared.prec, declared.scale)
        case Array():
            return pa.list_(arrow_type(declared.element_type))
        case Map():
            return pa.map_(arrow_type(declared.key_type), arrow_type(declared.value_type))
        case Tuple():
            names = declared.element_names or [
                str(position) for position in range(1, len(declared.element_types) + 1)
            ]
            return pa.struct(
                [
                    (name, arrow_type(element))
                    for name, element in zip(names, declared.element_types, strict=True)
                ]
            )
        case SimpleAggregateFunction():
            return arrow_type(declared.element_type)
    raise UnsupportedTypeError(f"a Python model cannot return `{declared.name}`")


def _time_unit(scale: int) -> str:
    return ("s", "ms", "us", "ns")[(scale + 2) // 3]


def inferred_type(column: pa.ChunkedArray, *, is_nullable: bool = False) -> str:
    """Give the ClickHouse type for a column nothing was declared for.

    Nullable when the column has nulls, or may have them later. Raises UnsupportedTypeError when
    there is no evidence (a column of nulls only) or no counterpart.
    """
    name = _inferred_name(column.type)
    is_container = pa.types.is_nested(column.type)
    if (column.null_count or is_nullable) and not is_container:
        return f"Nullable({name})"
    return name


def _inferred_name(found: pa.DataType) -> str:
    if found in _CLICKHOUSE_NUMBERS:
        return _CLICKHOUSE_NUMBERS[found]
    if pa.types.is_dictionary(found):
        return _inferred_name(found.value_type)
    if pa.types.is_boolean(found):
        return "Bool"
    if _is_text(found) or _is_bytes(found):
        return "String"
    if pa.types.is_date(found):
        return "Date32"
    if pa.types.is_timestamp(found):
        scale = {"s": 0, "ms": 3, "us": 6, "ns": 9}[found.unit]
        return f"DateTime64({scale}, 'UTC')"
    if pa.types.is_decimal128(found):
        return f"Decimal({found.precision}, {found.scale})"
    if _is_list(found) and not pa.types.is_null(found.value_type):
        element = _inferred_name(found.value_type)
        return f"Array({element if _is_list(found.value_type) else f'Nullable({element})'})"
    if pa.types.is_map(found):
        return f"Map({_inferred_name(found.key_type)}, {_inferred_name(found.item_type)})"
    raise UnsupportedTypeError(
        f"no ClickHouse type follows from {found}: declare the column's data_type in YAML"
    )


def fit(column: pa.ChunkedArray, declared: ClickHouseType) -> pa.ChunkedArray:
    """Convert `column` to the Arrow type of `declared`, or raise UnfitColumnError."""
    target = arrow_type(declared)
    if not len(column):  # an empty frame does not tell its types
        return pa.chunked_array([], type=target)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not _is_convertible(column.type, target):
        raise UnfitColumnError(str(column.type))
    try:
        fitted = _cast(column, target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UnfitColumnError(f"{column.type}: {error}") from error
    for chunk in fitted.chunks:
        _refuse_nulls(chunk, declared)
    return fitted


def _cast(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type) and pa.types.is_date(target):
        days = column.cast(target)
        if not pc.all(pc.equal(days.cast(column.type), column)).as_py() and len(column):
            raise pa.ArrowInvalid("it holds times of day, a date would lose them")
        return days
    return column.cast(target)


def _refuse_nulls(values: pa.Array, declared: ClickHouseType) -> None:
    """ClickHouse would write a default in place of a null that it has no room for."""
    if values.null_count and not declared.nullable:
        first = pc.index(values.is_null(), pa.scalar(value=True)).as_py()
        raise UnfitColumnError(f"{values.null_count} nulls (the first in row {first})")
    match declared:
        case Array():
            _refuse_inner_nulls(values.flatten(), declared.element_type)
        case Map():
            _refuse_inner_nulls(values.keys, declared.key_type)
            _refuse_inner_nulls(values.items, declared.value_type)
        case Tuple():
            for inner, element in zip(values.flatten(), declared.element_types, strict=True):
                _refuse_inner_nulls(inner, element)


def _refuse_inner_nulls(values: pa.Array, declared: ClickHouseType) -> None:
    try:
        _refuse_nulls(values, declared)
    except UnfitColumnError as error:
        raise UnfitColumnError(f"inside it, {error}") from error


def read_as(column: pa.ChunkedArray, declared: ClickHouseType) -> pa.ChunkedArray:
    """Give a column that ClickHouse sent its own times back.

    ClickHouse writes DateTime to Arrow as UInt32 seconds; everything else comes as it is.
    """
    if isinstance(declared, DateTime):
        return column.cast(pa.int64()).cast(pa.timestamp("s", "UTC"))
    if isinstance(declared, Array) and isinstance(declared.element_type, DateTime):
        return column.cast(pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("s", "UTC")))
    return column


def _is_text(found: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(found)
        or pa.types.is_large_string(found)
        or pa.types.is_string_view(found)
    )


def _is_bytes(found: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(found)
        or pa.types.is_large_binary(found)
        or pa.types.is_fixed_size_binary(found)
    )


def _is_list(found: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(found)
        or pa.types.is_large_list(found)
        or pa.types.is_fixed_size_list(found)
    )


_FAMILIES: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], bool]], ...] = (
    # (the declared type's family, what may be returned for it)
    (pa.types.is_integer, lambda t: pa.types.is_integer(t) or pa.types.is_floating(t)),
    (pa.types.is_integer, pa.types.is_boolean),
    (pa.types.is_floating, lambda t: pa.types.is_floating(t) or pa.types.is_integer(t)),
    (pa.types.is_boolean, pa.types.is_boolean),
    (_is_text, lambda t: _is_text(t) or _is_bytes(t)),
    (pa.types.is_timestamp, pa.types.is_timestamp),
    (pa.types.is_date, lambda t: pa.types.is_date(t) or pa.types.is_timestamp(t)),
    (pa.types.is_decimal, lambda t: pa.types.is_decimal(t) or pa.types.is_integer(t)),
)


def _is_convertible(found: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_null(found):
        return True
    if pa.types.is_map(target):
        return bool(
            pa.types.is_map(found)
            and _is_convertible(found.key_type, target.key_type)
            and _is_convertible(found.item_type, target.item_type)
        )
    if _is_list(target):
        return _is_list(found) and _is_convertible(found.value_type, target.value_type)
    if pa.types.is_struct(target):
        return bool(
            pa.types.is_struct(found)
            and [field.name for field in found] == [field.name for field in target]
            and all(
                _is_convertible(one.type, other.type)
                for one, other in zip(found, target, strict=True)
            )
        )
    return any(is_family(target) and may_be(found) for is_family, may_be in _FAMILIES)
