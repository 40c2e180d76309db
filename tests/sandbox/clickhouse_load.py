"""Many clients of one server at once, each doing now this and now that, and what becomes of it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import psutil
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.httputil import get_pool_manager

from tests.sandbox.clickhouse_http import ENDLESS, PlainHttp, wait_until
from tests.warehouse_fixtures import ClickHouseProcess

ROWS_PER_INSERT = 100


@dataclass(frozen=True)
class Sample:
    """What the server's process holds at one moment."""

    seconds: float
    resident_bytes: int
    descriptors: int
    threads: int


@dataclass
class Outcome:
    """What happened under load."""

    done: Counter[str] = field(default_factory=Counter)
    acknowledged_rows: int = 0
    errors: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def note(self, activity: str, rows: int) -> None:
        """Count what a client has done."""
        with self.lock:
            self.done[activity] += 1
            self.acknowledged_rows += rows


def take_sample(process: psutil.Process, began: float) -> Sample:
    """Look at the server."""
    with process.oneshot():
        return Sample(
            time.monotonic() - began,
            process.memory_info().rss,
            process.num_fds(),
            process.num_threads(),
        )


def run_load(server: ClickHouseProcess, clients: int, seconds: float) -> Outcome:
    """Load `server` with `clients` threads for `seconds`, and look at it twice a second."""
    assert server.process
    process = psutil.Process(server.process.pid)
    outcome = Outcome()
    admin = PlainHttp(server, server.user, server.password)
    admin.query("create database busy engine = Atomic")
    admin.query("create table busy.landed (client UInt16, n UInt64, s String) order by n")
    began = time.monotonic()
    threads = [
        threading.Thread(target=_be_a_client, args=(server, number, began + seconds, outcome))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    pending = list(threads)
    while pending:
        outcome.samples.append(take_sample(process, began))
        pending[0].join(0.5)
        pending = [thread for thread in pending if thread.is_alive()]
    outcome.samples.append(take_sample(process, began))
    return outcome


def _be_a_client(server: ClickHouseProcess, number: int, until: float, outcome: Outcome) -> None:
    choice = random.Random(number)  # noqa: S311 - to have it the same again
    names = list(_ACTIVITIES)
    try:
        pool = get_pool_manager()  # of its own, as if it were a process of its own
        with server.client(autogenerate_session_id=False, pool_mgr=pool) as client:
            is_over = False
            while not is_over:  # however slow the machine, each does something
                name = choice.choice(names)
                outcome.note(name, _ACTIVITIES[name](server, client, number, choice))
                is_over = time.monotonic() >= until
        pool.clear()
    except Exception as error:  # noqa: BLE001 - whatever it is, the test is to show it
        with outcome.lock:
            outcome.errors.append(f"client {number}: {type(error).__name__}: {error}")


def _ask(_: ClickHouseProcess, client: Any, number: int, choice: random.Random) -> int:
    value = choice.randrange(1 << 60)
    row = client.query("select {v:UInt64}, {c:UInt16}", {"v": value, "c": number}).first_row
    assert row == (value, number), row
    return 0


def _insert(_: ClickHouseProcess, client: Any, number: int, choice: random.Random) -> int:
    first = choice.randrange(1 << 60)
    rows = [[number, first + row, f"row {row}"] for row in range(ROWS_PER_INSERT)]
    columns = ["client", "n", "s"]
    client.insert("busy.landed", rows, columns, column_type_names=["UInt16", "UInt64", "String"])
    return ROWS_PER_INSERT


def _aggregate(_: ClickHouseProcess, client: Any, number: int, __: random.Random) -> int:
    statement = "select count() % {n:UInt64} from busy.landed where client = {c:UInt16}"
    rest = client.query(statement, {"n": ROWS_PER_INSERT, "c": number}).first_row
    assert rest == (0,), rest
    return 0


def _stream(_: ClickHouseProcess, client: Any, __: int, choice: random.Random) -> int:
    size = choice.randrange(1000, 200_000)
    with client.query_column_block_stream(f"select number from numbers({size})") as blocks:
        assert sum(len(block[0]) for block in blocks) == size
    return 0


def _fail(_: ClickHouseProcess, client: Any, __: int, ___: random.Random) -> int:
    try:
        client.query("select * from busy.nothing")
    except DatabaseError as error:
        if error.code == 60:
            return 0
        raise
    raise AssertionError("a table that does not exist was read")


def _use_a_session(server: ClickHouseProcess, _: Any, number: int, choice: random.Random) -> int:
    http = PlainHttp(server, server.user, server.password)
    session = {"session_id": f"busy {number}"}
    value = choice.randrange(1000)
    http.query(f"create or replace temporary table mine as select {value} as a", **session)
    assert http.query("select a from mine", **session) == f"{value}\n"
    assert http.query("select 1", **session, close_session="1") == "1\n"
    return 0


@contextlib.contextmanager
def _left(server: ClickHouseProcess, client: Any, statement: str) -> Iterator[HTTPConnection]:
    """Begin a statement, go away, and wait until the server has let go of it."""
    admin = PlainHttp(server, server.user, server.password)
    mark = str(uuid.uuid4())
    text = f"/* {mark} */ {statement}"
    connection = admin.connection()
    try:
        connection.request("POST", "/", body=text, headers=admin.headers())
        yield connection
    finally:
        connection.close()
    condition = "position(query, {mark:String}) > 0 and query_id != queryID()"
    question = f"select count() from system.processes where {condition}"
    wait_until(lambda: client.query(question, {"mark": mark}).first_row == (0,), 60)


def _leave_unanswered(server: ClickHouseProcess, client: Any, _: int, __: random.Random) -> int:
    with _left(server, client, ENDLESS):
        return 0


def _leave_half_read(server: ClickHouseProcess, client: Any, _: int, __: random.Random) -> int:
    with _left(server, client, "select number from numbers(100000000000)") as connection:
        response = connection.getresponse()
        assert len(response.read(1000)) == 1000
        response.close()
    return 0


_ACTIVITIES: dict[str, Callable[[ClickHouseProcess, Any, int, random.Random], int]] = {
    "ask": _ask,
    "insert": _insert,
    "aggregate": _aggregate,
    "stream": _stream,
    "fail": _fail,
    "use a session": _use_a_session,
    "leave unanswered": _leave_unanswered,
    "leave half read": _leave_half_read,
}
