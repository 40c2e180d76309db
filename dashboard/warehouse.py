"""The warehouse as the page sees it: read-only, sometimes away, and then saying what to do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from driftline.settings import SettingsError, load_sandbox_environment
from driftline.warehouse_commands import analyst_client

Row = Mapping[str, Any]

# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
_UNKNOWN_IDENTIFIER, _UNKNOWN_TABLE, _UNKNOWN_DATABASE = 47, 60, 81
_TOO_SLOW, _TOO_MUCH_MEMORY = 159, 241
_ABORTED = 236
_ACCESS_DENIED = (192, 193, 194, 497, 516)

_CONNECT_SECONDS = 3
_READ_SECONDS = 60


@dataclass(frozen=True)
class Problem:
    """Why nothing can be shown, and what to do about it, for people."""

    title: str
    remedy: str
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        """Give the problem as the browser keeps it."""
        return asdict(self)


class WarehouseError(Exception):
    """The warehouse did not answer a query. `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem


class QueryClient(Protocol):
    """What is used of a clickhouse-connect client, from several threads at once."""

    def query(self, query: str, parameters: dict[str, Any]) -> Any:
        """Run a statement that reads."""
        ...

    def close(self) -> None:
        """Give back its connections."""
        ...


def connect_as_analyst(environment: Mapping[str, str] = os.environ) -> QueryClient:
    """Connect as the read-only analyst, in the database of the marts.

    The sandbox's variables are read anew on every call, so that a page outlives a restart of the
    sandbox, whose port and passwords change. Raises SettingsError and clickhouse-connect's errors.
    """
    current = dict(environment)
    load_sandbox_environment(current)
    return analyst_client(
        current, connect_timeout=_CONNECT_SECONDS, send_receive_timeout=_READ_SECONDS
    )


class Warehouse:
    """Rows of the marts. It connects when first asked, and again after the warehouse was away."""

    def __init__(self, connect: Callable[[], QueryClient], monotonic: Callable[[], float]) -> None:
        self._connect = connect
        self._monotonic = monotonic
        self._client: QueryClient | None = None
        self._connecting = threading.Lock()
        self._remembering = threading.Lock()
        self._remembered: dict[str, tuple[float, list[Row]]] = {}

    def rows(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[Row]:
        """Give the rows of `statement`, with every time in UTC; raise WarehouseError."""
        from clickhouse_connect.driver.exceptions import ClickHouseError

        client = None
        try:
            client = self._connected()
            result = client.query(statement, parameters=dict(parameters or {}))
        except SettingsError as error:
            raise WarehouseError(
                Problem("The warehouse is not configured", _START_IT, str(error))
            ) from error
        except ClickHouseError as error:
            problem, is_lost = _problem_of(error)
            if is_lost and client is not None:
                self._forget(client)
            raise WarehouseError(problem) from error
        names: Sequence[str] = result.column_names
        return [
            dict(zip(names, map(_in_utc, values), strict=True)) for values in result.result_rows
        ]

    def remembered_rows(self, statement: str, seconds: float) -> list[Row]:
        """Like `rows` without parameters, asked once in `seconds` however many pages are open.

        What takes long to answer is kept longer: it may claim a fifth of the time, not all of it.
        """
        with self._remembering:
            found = self._remembered.get(statement)
            if found is not None and self._monotonic() < found[0]:
                return found[1]
            began = self._monotonic()
            rows = self.rows(statement)
            ended = self._monotonic()
            self._remembered[statement] = (ended + max(seconds, 4 * (ended - began)), rows)
            return rows

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._forget(self._client)

    def _connected(self) -> QueryClient:
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _forget(self, client: QueryClient) -> None:
        with self._connecting:
            if self._client is client:
                self._client = None
        client.close()


_START_IT = (
    "Start the sandbox (driftline sandbox up), or set the CLICKHOUSE_* variables to your own "
    "ClickHouse and start the dashboard again. The page goes on by itself once it answers."
)


def _problem_of(error: Exception) -> tuple[Problem, bool]:
    """Give the problem behind clickhouse-connect's error, and whether to connect anew after it."""
    code = getattr(error, "code", None)
    detail = " ".join(str(error).split())[:400]
    if code in (_UNKNOWN_TABLE, _UNKNOWN_DATABASE):
        remedy = (
            "Run driftline dbt build (in the sandbox: driftline demo flights does all of it). "
            "The page goes on by itself once the marts are there."
        )
        return Problem("The marts are not built yet", remedy, detail), False
    if code == _UNKNOWN_IDENTIFIER:
        remedy = "They were built by another version: run driftline dbt build --full-refresh."
        return Problem("The marts lack a column this page reads", remedy, detail), False
    if code == _ABORTED:
        remedy = (
            "It is going down, or its engine has failed: start it again (the sandbox: driftline "
            "sandbox down, then driftline sandbox up; its data stay). The page goes on by itself."
        )
        return Problem("The warehouse is shutting down", remedy, detail), True
    if code in _ACCESS_DENIED:
        remedy = (
            "Check CLICKHOUSE_ANALYST_USER and CLICKHOUSE_ANALYST_PASSWORD, and that the account "
            "may read the databases of the marts and of the raw events."
        )
        return Problem("ClickHouse refuses the analyst", remedy, detail), True
    if code in (_TOO_SLOW, _TOO_MUCH_MEMORY):
        remedy = "Choose fewer windows, or raise the analyst's limits."
        return Problem("ClickHouse gave up on this query", remedy, detail), False
    if code is None:
        return Problem("The warehouse cannot be reached", _START_IT, detail), True
    return Problem("ClickHouse answered with an error", "See the server's log.", detail), False


def _in_utc(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
