"""Messages of one partition as columns: byte for byte, and taking no more memory than their bytes.

A message is five Python objects and as many more for each header. Held as Arrow columns instead, a
batch takes a third of the memory, and the garbage collector has nothing to look through.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MessageHeaders = Sequence[tuple[str, bytes | None]]

_HEADER = pa.struct([("name", pa.binary()), ("value", pa.binary())])
MESSAGE_SCHEMA = pa.schema(
    [
        ("offset", pa.int64()),
        ("kafka_timestamp", pa.timestamp("ms", "UTC")),
        ("key", pa.binary()),
        ("headers", pa.list_(_HEADER)),
        ("value", pa.large_binary()),
    ]
)


def message_block(
    offsets: Sequence[int],
    timestamps: Sequence[int],
    keys: Sequence[bytes | None] | pa.Array,
    headers: Sequence[MessageHeaders],
    values: Sequence[bytes | None] | pa.Array,
) -> pa.RecordBatch:
    """Give messages with the columns of MESSAGE_SCHEMA; all arguments have the same length.

    `timestamps` are milliseconds since 1970. Keys and values may be Arrow arrays of binary.
    """
    return pa.record_batch(
        [
            pa.array(offsets, pa.int64()),
            pa.array(timestamps, pa.int64()).cast(pa.timestamp("ms", "UTC")),
            _column(keys, pa.binary()),
            _header_lists(headers),
            _column(values, pa.large_binary()),
        ],
        schema=MESSAGE_SCHEMA,
    )


def received_block(messages: Sequence[Any]) -> pa.RecordBatch:
    """Give messages of confluent-kafka, none of them an error, as `message_block` does."""
    return message_block(
        [message.offset() for message in messages],
        [message.timestamp()[1] for message in messages],
        [message.key() for message in messages],
        [message.headers() or () for message in messages],
        [message.value() for message in messages],
    )


def payload_ends(block: pa.RecordBatch) -> list[int]:
    """Give, for each message, how many bytes the keys and values up to it have."""
    sizes = pc.add(
        pc.cast(pc.fill_null(pc.binary_length(block.column("key")), 0), pa.int64()),
        pc.fill_null(pc.binary_length(block.column("value")), 0),
    )
    ends: list[int] = pc.cumulative_sum(sizes).to_pylist()
    return ends


def _column(values: Sequence[bytes | None] | pa.Array, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _header_lists(headers: Sequence[MessageHeaders]) -> pa.Array:
    pairs = list(chain.from_iterable(headers))
    names, values = zip(*pairs, strict=True) if pairs else ((), ())
    columns = pa.StructArray.from_arrays(
        [pa.array(names, pa.string()).cast(pa.binary()), pa.array(values, pa.binary())],
        fields=list(_HEADER),
    )
    ends = pa.array(accumulate(map(len, headers), initial=0), pa.int32())
    return pa.ListArray.from_arrays(ends, columns, type=pa.list_(_HEADER))
