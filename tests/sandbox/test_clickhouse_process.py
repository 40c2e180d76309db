"""The server as a process: starting, stopping, dying, and what is left afterwards."""

from __future__ import annotations

import concurrent.futures
import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.clickhouse_http import PlainHttp, wait_until
from tests.warehouse_fixtures import ClickHouseProcess

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ClickHouseProcess]:
    process = ClickHouseProcess(tmp_path / "data").start()
    yield process
    process.stop()


def http_of(server: ClickHouseProcess) -> PlainHttp:
    return PlainHttp(server, server.user, server.password)


def test_data_outlives_a_restart(server: ClickHouseProcess) -> None:
    http_of(server).query("create table default.kept (a UInt8) order by a")
    http_of(server).query("create database other")
    http_of(server).query("create table other.kept (a UInt8) order by a")
    http_of(server).query("insert into other.kept values (1)")
    assert server.stop() == 0
    server.start()
    assert http_of(server).query("select count() from default.kept") == "0\n"
    assert http_of(server).query("select * from other.kept") == "1\n"
    engines = "select distinct engine from system.databases where name in ('default', 'other')"
    assert http_of(server).query(engines) == "Atomic\n"


@pytest.mark.parametrize("rounds", [1, pytest.param(8, marks=pytest.mark.conformance)])
def test_kill_under_load_loses_no_acknowledged_insert(
    server: ClickHouseProcess, rounds: int
) -> None:
    http_of(server).query("create table acknowledged (a UInt64, s String) order by a")
    sent: set[int] = set()
    acknowledged: set[int] = set()
    numbers = itertools.count()
    check = "check table acknowledged settings check_query_single_value_result = 1"
    for _ in range(rounds):
        kill_under_load(server, numbers, sent, acknowledged)
        server.start()
        there = [int(a) for a in http_of(server).query("select a from acknowledged").split()]
        assert len(there) == len(set(there))
        assert acknowledged <= set(there) <= sent
        assert http_of(server).query(check) == "1\n"


def kill_under_load(
    server: ClickHouseProcess, numbers: Iterator[int], sent: set[int], acknowledged: set[int]
) -> None:
    """Have many clients write and read, kill the server, and wait until all have noticed."""
    assert server.process
    enough = len(acknowledged) + 200

    def write() -> None:
        for number in numbers:
            sent.add(number)
            http_of(server).query(f"insert into acknowledged values ({number}, repeat('x', 1000))")
            acknowledged.add(number)

    def read() -> None:
        while True:
            http_of(server).query("select sum(cityHash64(a, s)) from acknowledged")

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        clients = [pool.submit(write) for _ in range(12)] + [pool.submit(read) for _ in range(4)]
        try:
            wait_until(
                lambda: len(acknowledged) >= enough or any(one.done() for one in clients), 60
            )
        finally:
            server.process.kill()
            server.process.wait()
        for client in clients:
            assert isinstance(client.exception(), (OSError, http.client.HTTPException))
    assert len(acknowledged) >= enough


def test_sigterm_stops_cleanly_while_a_query_runs(server: ClickHouseProcess) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(
            http_of(server).ask, "select sum(cityHash64(number)) from numbers(100000000000)"
        )
        running = "select count() from system.processes where query like '%cityHash64(number)%'"
        wait_until(lambda: http_of(server).query(running) != "1\n", 30)
        # 0 is an end of its own: what does not end within the fixture's deadline is killed.
        assert server.stop() == 0
        assert answer.exception() is not None or answer.result().status >= 400
    assert not list((server.data / "spool").glob("*"))


@pytest.mark.conformance
def test_sigterm_stops_though_a_statement_waits_for_another_host(
    server: ClickHouseProcess,
) -> None:
    http_of(server).query("create table acknowledged (a UInt8) order by a")
    http_of(server).query("insert into acknowledged values (1)")
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        asked = pool.submit(http_of(server).ask, f"select * from url('{url}', CSV, 'a String')")
        silent.accept()
        assert server.stop() == 0  # on its own: whom the fixture kills has another status
        assert asked.exception() is not None or asked.result().status >= 400
    server.start()
    assert http_of(server).query("select * from acknowledged") == "1\n"


@pytest.mark.parametrize("statement", ["system shutdown", "/* x */ SYSTEM\tKILL;"])
def test_nobody_is_shut_down_by_a_statement(server: ClickHouseProcess, statement: str) -> None:
    # Else the engine ends every process of its group, this one too.
    assert http_of(server).ask(statement).code == "48"
    assert http_of(server).query("select 1") == "1\n"


def test_sigint_stops_cleanly(server: ClickHouseProcess) -> None:
    assert server.process
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 0
    assert "Traceback" not in server.log.read_text()


def test_server_stops_when_its_parent_is_gone(server: ClickHouseProcess) -> None:
    assert server.process
    assert server.process.stdin
    server.process.stdin.close()
    assert server.process.wait(20) == 0


def test_second_server_on_the_same_data_is_refused(server: ClickHouseProcess) -> None:
    second = ClickHouseProcess(server.data)
    with pytest.raises(RuntimeError, match="did not start"):
        second.start()
    assert http_of(server).query("select 1") == "1\n"


def test_secrets_are_not_logged(server: ClickHouseProcess) -> None:
    assert server.process
    secret = "secret-of-a-statement"
    http_of(server).ask("select 1")
    PlainHttp(server, server.user, "a-wrong-password").ask("select 1")
    nothing = {"Authorization": ""}
    for password in (server.password, "a-wrong-password"):
        http_of(server).ask("select 1", {"user": server.user, "password": password}, nothing)
        http_of(server).ask("select 1", None, {**nothing, "X-ClickHouse-Key": password})
    for statement in ("select '{}', nope", "selct '{}'", "select throwIf(1, '{}')"):
        given = {"param_p": secret, "log_comment": secret}
        http_of(server).ask(statement.format(secret), given)
    late = f"select throwIf(number = 3000000, '{secret}'), number from numbers(4000000)"
    with pytest.raises(http.client.IncompleteRead):
        http_of(server).ask(late)
    http_of(server).ask("select 1", {"no_such_setting": secret, "query_id": "a\r\nforged line"})
    command = Path(f"/proc/{server.process.pid}/cmdline")
    text = server.log.read_text() + (command.read_text() if command.exists() else "")
    for found in (server.password, server.analyst_password, "a-wrong-password", secret):
        assert found not in text
    assert "error 516" in text
    assert "'a\\r\\nforged line': error 115" in text


def start_and_wait(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")}
    return subprocess.run(
        [sys.executable, "-m", "sandbox.clickhouse_server", *arguments],
        cwd=REPOSITORY,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_other_machines_are_not_let_in_without_a_password(tmp_path: Path) -> None:
    result = start_and_wait("--data", str(tmp_path), "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert result.returncode == 2
    assert "set SANDBOX_CLICKHOUSE_PASSWORD" in result.stderr
    assert not list(tmp_path.iterdir())


def test_host_must_be_an_address(tmp_path: Path) -> None:
    result = start_and_wait("--data", str(tmp_path), "--host", "localhost", "--port", "0")
    assert result.returncode == 2
    assert "give an IP address" in result.stderr


def test_without_passwords_only_the_administrator_is_there(tmp_path: Path) -> None:
    server = ClickHouseProcess(tmp_path / "data", password="", analyst_password="").start()
    try:
        assert PlainHttp(server, "default", "").query("select 1") == "1\n"
        assert PlainHttp(server, "analyst", "").ask("select 1").code == "516"
    finally:
        server.stop()


def test_configuration_of_the_current_folder_is_not_read(tmp_path: Path) -> None:
    # The embedded engine takes a config.xml from where it is started.
    data = tmp_path / "data"
    (data / "spool").mkdir(parents=True)
    (data / "spool" / "config.xml").write_text("<clickhouse><nonsense")
    server = ClickHouseProcess(data).start()
    try:
        assert http_of(server).query("select 1") == "1\n"
    finally:
        server.stop()


def test_memory_limit_fails_the_query_and_not_the_server(tmp_path: Path) -> None:
    server = ClickHouseProcess(tmp_path / "data", arguments=("--memory", "700000000")).start()
    try:
        http = http_of(server)
        greedy = "select length(groupArray(toString(number))) from numbers(100000000)"
        assert http.ask(greedy).code == "241"
        spilling = "select count() from (select number from numbers(20000000) group by number)"
        assert http.query(spilling) == "20000000\n"
        assert http.query("select 1") == "1\n"
    finally:
        server.stop()


def test_time_zone_is_utc_wherever_the_machine_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    server = ClickHouseProcess(tmp_path / "data").start()
    try:
        assert http_of(server).query("select timezone(), toString(toDateTime(0))") == (
            "UTC\t1970-01-01 00:00:00\n"
        )
    finally:
        server.stop()


def test_default_database_survives_every_end(tmp_path: Path) -> None:
    """Restart over a default database that is empty, has tables, or was dropped."""
    engine = "select engine from system.databases where name = 'default'"
    steps = [
        ["select 1"],
        ["select 1"],
        ["create table kept (a UInt8) order by a", "insert into kept values (1)"],
        ["select * from kept"],
        ["select * from kept", "drop table kept sync"],
        ["drop database default sync"],
        ["create table again (a UInt8) order by a"],
        ["select * from again"],
    ]
    server = ClickHouseProcess(tmp_path / "data")
    try:
        for number, statements in enumerate(steps):
            server.start()
            assert server.process
            assert http_of(server).query(engine) == "Atomic\n"
            for statement in statements:
                http_of(server).query(statement)
            if number % 2:
                server.process.kill()
                server.process.wait()
            else:
                assert server.stop() == 0
    finally:
        server.stop()
