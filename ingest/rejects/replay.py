"""Rejected events: counted with an example, judged again, corrected.

What broke the contract is in `fct_rejected_events`, its bytes are in the raw tables for good. A
replay lands only the coordinates of such events in `raw.replays`, and the next `dbt build` judges
them as if they had just come. A correction lands other bytes there under the same coordinates,
which from then on are judged in the place of those that came.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from driftline.named_function import NamedFunctionError, load_function
from ingest.landing import LandingError, insert_block, query_rows
from ingest.raw_tables import (
    LABEL_EVENTS,
    PREDICTION_EVENTS,
    REPLAYS,
    create_raw_tables,
    quoted,
    raw_table,
)

# The bytes of an event to better ones, or None to leave it. A message without a value is not given.
Fix = Callable[[bytes], bytes | None]

_TABLES: Mapping[str, str] = {"prediction": PREDICTION_EVENTS, "label": LABEL_EVENTS}
_PAGE_ROWS = 1_000
_UNKNOWN_TABLE = 60
_UNKNOWN_DATABASE = 81
_LOG = logging.getLogger(__name__)


class RejectsError(Exception):
    """Rejected events cannot be read or corrected. The message names the remedy."""


@dataclass(frozen=True)
class Selection:
    """Which rejected events are meant: those that fit all that is given.

    `since` and `until` are days (UTC) of the messages' Kafka timestamps, both included.
    """

    topic: str | None = None
    reason: str | None = None
    since: date | None = None
    until: date | None = None

    @property
    def condition(self) -> str:
        """The condition on rows of fct_rejected_events; its values are in `parameters`."""
        conditions = {
            "topic = {topic:String}": self.topic,
            "reject_reason = {reason:String}": self.reason,
            "kafka_timestamp >= {since:Date}": self.since,
            "kafka_timestamp < addDays({until:Date}, 1)": self.until,
        }
        return " and ".join(["true", *(text for text, value in conditions.items() if value)])

    @property
    def parameters(self) -> dict[str, Any]:
        """The values that `condition` names."""
        given = {
            "topic": self.topic,
            "reason": self.reason,
            "since": self.since,
            "until": self.until,
        }
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True)
class RejectCount:
    """The rejects of a topic, day and reason; the latest of them as an example."""

    day: date
    topic: str
    reason: str
    count: int
    example_at: str
    example: bytes | None


@dataclass(frozen=True)
class Replay:
    """How many events will be judged again, and how many of them raw has no more (expired)."""

    requested: int
    gone: int


@dataclass(frozen=True)
class Correction:
    """What became of the rejected events that a function was to correct.

    `left` it gave nothing or the same bytes for; `empty` have no value (null); `gone` are in raw
    no more.
    """

    corrected: int
    left: int
    empty: int
    gone: int


def count_rejects(client: Client, database: str, selection: Selection) -> list[RejectCount]:
    """Count rejects by day, topic and reason, the latest day first.

    An example is at most 200 bytes of the latest event. Raises RejectsError where the marts have
    not been built, LandingError where ClickHouse fails.
    """
    rows = _query(
        client,
        f"""
        select
            toDate(kafka_timestamp) as day,
            toString(topic) as topic,
            toString(reject_reason) as reason,
            count() as rejects,
            argMax(
                concat(toString(kafka_partition), '@', toString(kafka_offset)),
                (kafka_timestamp, kafka_partition, kafka_offset)
            ) as example_at,
            -- As hexadecimal digits: bytes that are no text. A tuple, or argMax would skip nulls.
            argMax(
                tuple(hex(substring(raw_value, 1, 200))),
                (kafka_timestamp, kafka_partition, kafka_offset)
            ).1 as example
        from {_rejects(database)}
        where {selection.condition}
        group by day, topic, reason
        order by day desc, topic, rejects desc, reason
        """,  # noqa: S608 - quoted
        selection.parameters,
        "rejected events",
    )
    return [
        RejectCount(day, topic, reason, int(count), at, None if hexed is None else _bytes(hexed))
        for day, topic, reason, count, at, hexed in rows
    ]


def replay_rejects(
    client: Client, database: str, raw_database: str, selection: Selection
) -> Replay:
    """Have the next dbt build judge rejected events again; twice is once.

    Raises as `count_rejects`. A request that was cut short is made again without harm.
    """
    create_raw_tables(client, raw_database)
    counted = _query(
        client,
        f"select count() from {_rejects(database)} where {selection.condition}",  # noqa: S608
        selection.parameters,
        "rejected events",
    )
    requested = int(counted[0][0])
    if not requested:
        return Replay(0, 0)
    client.command(
        f"""
        insert into {raw_table(raw_database, REPLAYS)}
        (
            raw_table, cluster, topic, topic_id, `partition`, `offset`, is_correction,
            kafka_timestamp, reject_reason
        )
        select
            {_raw_table_of_event()},
            cluster, topic, topic_id, kafka_partition, kafka_offset, 0, kafka_timestamp,
            reject_reason
        from {_rejects(database)}
        where {selection.condition}
        """,  # noqa: S608 - quoted
        parameters=selection.parameters,
    )
    return Replay(requested, requested - _in_raw(client, database, raw_database, selection))


def correct_rejects(
    client: Client,
    database: str,
    raw_database: str,
    selection: Selection,
    fix: Fix,
    fix_name: str,
    on_progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> Correction:
    """Land what `fix` makes of rejected events, which the next dbt build judges in their place.

    `fix` gets the bytes as they came, even where they were corrected before. Corrections land in
    pages; those that did stay where a later one fails, and doing it again gives the same.
    `on_progress` gets the events done and all.

    Raises RejectsError where `fix` fails or gives anything but bytes or None, and otherwise as
    `count_rejects`.
    """
    create_raw_tables(client, raw_database)
    counted = _query(
        client,
        f"select count() from {_rejects(database)} where {selection.condition}",  # noqa: S608
        selection.parameters,
        "rejected events",
    )
    total = int(counted[0][0])
    corrected = left = empty = 0
    for table in _TABLES.values():
        for page in _pages(client, database, raw_database, selection, table):
            better: list[tuple[_Event, bytes]] = []
            for event in page:
                if event.value is None:
                    empty += 1
                    continue
                value = _corrected(fix, fix_name, event, event.value)
                if value is None or value == event.value:
                    left += 1
                else:
                    better.append((event, value))
            if better:
                _land(client, raw_database, table, better, fix_name)
            corrected += len(better)
            on_progress(corrected + left + empty, total)
    return Correction(corrected, left, empty, total - corrected - left - empty)


def load_fix(name: str) -> Fix:
    """Import the function called `module:function`; raises RejectsError with the remedy."""
    try:
        return load_function(name, "--fix")
    except NamedFunctionError as error:
        raise RejectsError(str(error)) from error


@dataclass(frozen=True)
class _Event:
    cluster: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    kafka_timestamp: int
    reject_reason: str
    value: bytes | None = field(repr=False)

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


def _corrected(fix: Fix, fix_name: str, event: _Event, value: bytes) -> bytes | None:
    try:
        better = fix(value)
    except Exception as error:
        _LOG.exception("%s failed", fix_name)
        raise RejectsError(
            f"{fix_name} failed on {event} ({event.reject_reason}): {error!r}. Mend it and start "
            "again; what was corrected before stays"
        ) from error
    if better is not None and not isinstance(better, bytes):
        raise RejectsError(
            f"{fix_name} gave a {type(better).__name__} for {event}: it must give bytes, or None "
            "for an event that it leaves"
        )
    return better


def _pages(
    client: Client, database: str, raw_database: str, selection: Selection, table: str
) -> Iterator[Sequence[_Event]]:
    """Give the selected events of a raw table with their bytes, ascending by coordinates."""
    key = "topic, topic_id, `partition`, `offset`"
    # The keys of a page first: its bytes are then found by the sorting key of the raw table.
    statement = f"""
        with wanted as (
            select topic, topic_id, kafka_partition, kafka_offset, cluster, reject_reason
            from {_rejects(database)}
            where
                {selection.condition}
                and {_raw_table_of_event()} = {{raw_table:String}}
                and (topic, topic_id, kafka_partition, kafka_offset) > (
                    {{after_topic:String}}, {{after_topic_id:String}},
                    {{after_partition:Int32}}, {{after_offset:Int64}}
                )
            order by topic, topic_id, kafka_partition, kafka_offset
            limit {_PAGE_ROWS}
        )

        select
            toString(wanted.cluster) as cluster,
            toString(wanted.topic) as topic,
            toString(wanted.topic_id) as topic_id,
            wanted.kafka_partition as kafka_partition,
            wanted.kafka_offset as kafka_offset,
            toString(wanted.reject_reason) as reject_reason,
            toUnixTimestamp64Milli(events.kafka_timestamp) as kafka_timestamp,
            hex(events.value) as value,
            events.is_there as is_there
        from wanted
        left join (
            select cluster, {key}, kafka_timestamp, value, 1 as is_there
            from {raw_table(raw_database, table)}
            where ({key}) in (
                select topic, topic_id, kafka_partition, kafka_offset from wanted
            )
        ) as events
            on wanted.topic = events.topic
            and wanted.topic_id = events.topic_id
            and wanted.kafka_partition = events.`partition`
            and wanted.kafka_offset = events.`offset`
            and wanted.cluster = events.cluster
        order by topic, topic_id, kafka_partition, kafka_offset
        settings join_use_nulls = 0
    """  # noqa: S608 - quoted
    after: dict[str, Any] = {
        "after_topic": "", "after_topic_id": "", "after_partition": -1, "after_offset": -1,
    }  # fmt: skip
    while True:
        rows = _query(
            client,
            statement,
            {**selection.parameters, **after, "raw_table": table},
            "rejected events",
        )
        yield [
            _Event(
                cluster, topic, topic_id, int(partition), int(offset), int(timestamp), reason,
                None if hexed is None else _bytes(hexed),
            )
            for cluster, topic, topic_id, partition, offset, reason, timestamp, hexed, is_there
            in rows
            if is_there
        ]  # fmt: skip
        if len(rows) < _PAGE_ROWS:
            return
        _, topic, topic_id, partition, offset, *_ = rows[-1]
        after = {
            "after_topic": topic, "after_topic_id": topic_id,
            "after_partition": int(partition), "after_offset": int(offset),
        }  # fmt: skip


def _land(
    client: Client,
    raw_database: str,
    table: str,
    corrections: Sequence[tuple[_Event, bytes]],
    fix_name: str,
) -> None:
    rows = len(corrections)
    events = [event for event, _ in corrections]
    block = pa.record_batch(
        {
            "raw_table": pa.repeat(pa.scalar(table), rows),
            "cluster": [event.cluster for event in events],
            "topic": [event.topic for event in events],
            "topic_id": [event.topic_id for event in events],
            "partition": pa.array([event.partition for event in events], pa.int32()),
            "offset": pa.array([event.offset for event in events], pa.int64()),
            "is_correction": pa.repeat(pa.scalar(1, pa.uint8()), rows),
            "kafka_timestamp": pa.array(
                [event.kafka_timestamp for event in events], pa.int64()
            ).cast(pa.timestamp("ms", "UTC")),
            "value": pa.array([value for _, value in corrections], pa.large_binary()),
            "corrected_by": pa.repeat(pa.scalar(fix_name), rows),
            "reject_reason": [event.reject_reason for event in events],
        }
    )
    # The table remembers no tokens: a page that lands twice is merged into one.
    token = f"correction/{events[0]}"
    insert_block(
        client, raw_table(raw_database, REPLAYS), block, token, f"correction of {events[0]}"
    )


def _in_raw(client: Client, database: str, raw_database: str, selection: Selection) -> int:
    found = 0
    for event_type, table in _TABLES.items():
        rows = _query(
            client,
            f"""
            select uniqExact(topic, topic_id, `partition`, `offset`)
            from {raw_table(raw_database, table)}
            where (topic, topic_id, `partition`, `offset`) in (
                select topic, topic_id, kafka_partition, kafka_offset
                from {_rejects(database)}
                where {selection.condition} and event_type = '{event_type}'
            )
            """,  # noqa: S608 - quoted
            selection.parameters,
            "raw rows of rejected events",
        )
        found += int(rows[0][0])
    return found


def _rejects(database: str) -> str:
    return f"{quoted(database)}.fct_rejected_events"


def _raw_table_of_event() -> str:
    return f"if(event_type = 'prediction', '{PREDICTION_EVENTS}', '{LABEL_EVENTS}')"


def _bytes(hexed: str | bytes) -> bytes:
    return bytes.fromhex(hexed if isinstance(hexed, str) else hexed.decode())


def _query(
    client: Client, statement: str, parameters: dict[str, Any], doing: str
) -> Sequence[Sequence[Any]]:
    try:
        return query_rows(client, statement, parameters, doing)
    except LandingError as error:
        if error.code in (_UNKNOWN_TABLE, _UNKNOWN_DATABASE):
            raise RejectsError(
                "there is no fct_rejected_events yet: driftline dbt build makes it"
            ) from error
        raise


__all__ = [
    "Correction",
    "Fix",
    "RejectCount",
    "RejectsError",
    "Replay",
    "Selection",
    "correct_rejects",
    "count_rejects",
    "load_fix",
    "replay_rejects",
]
