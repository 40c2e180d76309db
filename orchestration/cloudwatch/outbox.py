"""The outbox: what is to be sent is written first, then sent, then marked.

A run that dies between sending and marking leaves datums pending that CloudWatch has. The next run
sends them once more, with the same value and timestamp, which changes no minimum, maximum or
average, and so no alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from ingest.raw_tables import METRIC_PUBLICATIONS, raw_table
from orchestration.cloudwatch.metric_data import (
    Datum,
    Dimensions,
    Quarantined,
    as_request,
    batches,
    in_words,
    is_too_old,
)

# CloudWatch's words for a request of which a part is wrong: the rest of it can be sent alone.
_REFUSALS = frozenset(
    (
        "InvalidParameterCombination",
        "InvalidParameterCombinationException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "MissingParameter",
        "MissingRequiredParameterException",
        "RequestEntityTooLarge",
        "RequestEntityTooLargeException",
        "ValidationError",
        "ValidationException",
    )
)

_COLUMNS = (
    "run_id",
    "metric_name",
    "dimensions",
    "metric_values",
    "unit",
    "stamped_at",
    "state",
    "reason",
)

# A datum is what was written of it first; its state is the greatest that it has had.
_PENDING = """
select
    run_id,
    metric_name,
    arrayMap(pair -> [toString(pair.1), pair.2], dimensions) as pairs,
    argMin(metric_values, landed_at) as first_values,
    argMin(unit, landed_at) as first_unit,
    toUnixTimestamp64Milli(argMin(stamped_at, landed_at)) as stamped_ms
from {table}
group by run_id, metric_name, dimensions
having max(state) = 'pending'
order by stamped_ms desc, run_id, metric_name, dimensions
"""

_KEYS_OF_RUN = """
select metric_name, arrayMap(pair -> [toString(pair.1), pair.2], dimensions) as pairs
from {table}
where run_id = {{run_id:String}}
group by metric_name, dimensions
"""


class State(StrEnum):
    """What became of a datum."""

    PENDING = "pending"
    EXPIRED = "expired"
    QUARANTINED = "quarantined"
    SENT = "sent"


class OutboxClient(Protocol):
    """The part of a clickhouse-connect client that the outbox needs."""

    def query(self, query: str, /, *, parameters: dict[str, Any]) -> Any:
        """Run a query; the answer has `result_rows`."""

    def insert(
        self, table: str, data: Any, *, column_names: Sequence[str], settings: dict[str, Any]
    ) -> Any:
        """Insert rows into a table, named in full."""


class MetricClient(Protocol):
    """The part of boto3's CloudWatch client that takes metrics."""

    def put_metric_data(self, **arguments: Any) -> Any:
        """Send datums."""


@dataclass(frozen=True)
class Entry:
    """A datum in the outbox, and the run that wrote it."""

    run_id: str
    datum: Datum


class Outbox:
    """The table `metric_publications`: append only, so that no crash leaves a half-made change."""

    def __init__(self, client: OutboxClient, raw_database: str) -> None:
        self._client = client
        self._table = raw_table(raw_database, METRIC_PUBLICATIONS)

    def write(
        self, run_id: str, accepted: Iterable[Datum], quarantined: Iterable[Quarantined]
    ) -> None:
        """Write what a run has to send, and what it may not.

        A run that is tried again writes only what it had not: its first values stand.
        """
        answer = self._client.query(
            _KEYS_OF_RUN.format(table=self._table), parameters={"run_id": run_id}
        )
        known = {(name, _dimensions(pairs)) for name, pairs in answer.result_rows}
        rows = [(Entry(run_id, datum), State.PENDING, "") for datum in accepted]
        rows += [(Entry(run_id, bad.datum), State.QUARANTINED, bad.reason) for bad in quarantined]
        self._append([row for row in rows if row[0].datum.key not in known])

    def pending(self) -> tuple[Entry, ...]:
        """Give what is still to be sent, of every run, the newest first."""
        answer = self._client.query(_PENDING.format(table=self._table), parameters={})
        return tuple(
            Entry(
                run_id,
                Datum(
                    name=name,
                    dimensions=_dimensions(pairs),
                    value=values[0] if len(values) == 1 else tuple(values),
                    unit=unit,
                    timestamp=datetime.fromtimestamp(stamped_ms / 1000, UTC),
                ),
            )
            for run_id, name, pairs, values, unit, stamped_ms in answer.result_rows
        )

    def mark(self, entries: Iterable[Entry], state: State, reason: str = "") -> None:
        """Append that these have come to a further state."""
        self._append([(entry, state, reason) for entry in entries])

    def _append(self, rows: Sequence[tuple[Entry, State, str]]) -> None:
        if not rows:
            return
        self._client.insert(
            self._table,
            [
                (
                    entry.run_id,
                    entry.datum.name,
                    list(entry.datum.key[1]),
                    list(entry.datum.values),
                    entry.datum.unit,
                    entry.datum.timestamp,
                    state.value,
                    reason,
                )
                for entry, state, reason in rows
            ],
            column_names=_COLUMNS,
            # Written means stored: the next step relies on it.
            settings={"async_insert": 0},
        )


def _dimensions(pairs: Iterable[Sequence[str]]) -> Dimensions:
    return tuple((name, value) for name, value in pairs)


@dataclass(frozen=True)
class Delivery:
    """How many datums were sent, are still pending, and were too old; what was refused, and why."""

    sent: int
    pending: int
    expired: int
    problems: tuple[str, ...]


def deliver(
    cloudwatch: MetricClient,
    outbox: Outbox,
    *,
    namespace: str,
    run_id: str,
    now: datetime,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Delivery:
    """Send what is pending: this run's datums first, then what earlier runs left.

    What is two weeks old is expired, for CloudWatch would refuse it. A request that is refused is
    halved until what is wrong stands alone; that stays pending, like everything that throttling or
    a failed connection kept back, and the next run tries again.
    """
    entries = outbox.pending()
    expired = [entry for entry in entries if is_too_old(entry.datum.timestamp, now)]
    outbox.mark(expired, State.EXPIRED, "two weeks old before it could be sent")
    waiting = [entry for entry in entries if not is_too_old(entry.datum.timestamp, now)]
    # A backlog that is refused must not hold back what is new.
    ours = [entry for entry in waiting if entry.run_id == run_id]
    backlog = [entry for entry in waiting if entry.run_id != run_id]
    requests = [*_requests(ours), *_requests(backlog)]

    sent = 0
    problems: list[str] = []
    while requests:
        request = requests.pop(0)
        try:
            cloudwatch.put_metric_data(
                Namespace=namespace, MetricData=[as_request(entry.datum) for entry in request]
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code", "") not in _REFUSALS:
                problems.append(f"CloudWatch took no more metrics: {error}")
                break
            if len(request) > 1:
                middle = len(request) // 2
                requests[:0] = [request[:middle], request[middle:]]
            else:
                (entry,) = request
                problems.append(f"{in_words(entry.datum)} was refused: {error}")
        except BotoCoreError as error:
            problems.append(f"CloudWatch could not be reached: {error}")
            break
        else:
            outbox.mark(request, State.SENT)
            sent += len(request)
            on_progress(sent, len(waiting))
    return Delivery(sent, len(waiting) - sent, len(expired), tuple(problems))


def _requests(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    requests = []
    start = 0
    for batch in batches(entry.datum for entry in entries):
        requests.append(entries[start : start + len(batch)])
        start += len(batch)
    return requests
