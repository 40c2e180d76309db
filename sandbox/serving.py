"""Everything at once, for looking around: sandbox, loader, Dagster and dashboard, until Ctrl-C."""

from __future__ import annotations

import http.client
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass

import honcho.manager

from orchestration.instance import end_abandoned_runs, open_instance, prepare_instance
from sandbox import lifecycle
from sandbox.problems import MendableError
from sandbox.supervisor import PartLogs

LOOPBACK = "127.0.0.1"
DAGSTER_PORT, DASHBOARD_PORT = 3000, 8050
START_SECONDS = 180
_STOP_SECONDS = 30
_POLL_SECONDS = 0.2
# What Python exits with on these signals: an end that was asked for.
_ASKED_FOR = {130, 143}


class ServingError(MendableError):
    """The parts cannot be served. The message says why and what to do."""


@dataclass(frozen=True)
class Server:
    """A process to serve. `path` answers with status 200 once it is ready; empty: not a page."""

    name: str
    command: tuple[str, ...]
    port: int = 0
    path: str = ""

    @property
    def address(self) -> str:
        """The address to open."""
        return f"http://{LOOPBACK}:{self.port}/"


def servers(dagster_port: int, dashboard_port: int) -> tuple[Server, ...]:
    """Give the processes, each by this interpreter, on loopback only."""
    python = (sys.executable, "-P", "-m")
    definitions = ("-m", "orchestration.definitions")
    return (
        Server("loader", (*python, "driftline", "load")),
        Server(
            "dagster",
            (
                *(*python, "dagster_webserver", *definitions),
                *("--host", LOOPBACK, "--port", str(dagster_port)),
            ),
            dagster_port,
            "/server_info",
        ),
        Server("dagster-daemon", (*python, "dagster._daemon", "run", *definitions)),
        Server(
            "dashboard",
            (*python, "driftline", "dashboard", "--port", str(dashboard_port)),
            dashboard_port,
            "/",
        ),
    )


def serve(
    environment: MutableMapping[str, str],
    say: Callable[[str], None],
    *,
    dagster_port: int | None,
    dashboard_port: int | None,
) -> int:
    """Serve until SIGINT or SIGTERM, then stop all that was started here; gives the exit status.

    A port of None means the usual one, or a free one where that is taken; 0 a free one. A sandbox
    that ran before goes on running. Raises MendableError and SettingsError.
    """
    dagster = free_port(dagster_port, DAGSTER_PORT, "--dagster-port")
    dashboard = free_port(dashboard_port, DASHBOARD_PORT, "--dashboard-port")
    ran_before = all(
        part.state is not lifecycle.State.DOWN for part in lifecycle.status(environment)
    )
    say("starting the sandbox")
    lifecycle.up(environment)
    try:
        variables = prepare_instance(environment)
        with open_instance(environment) as instance:
            for run_id in end_abandoned_runs(instance):
                say(f"run {run_id} had been killed: it is marked as failed now")
        return _supervise(variables, servers(dagster, dashboard), environment, say)
    finally:
        if ran_before:
            say("the sandbox goes on, as it ran before: driftline sandbox down ends it")
        else:
            lifecycle.down(environment)
            say("all is down; the data stay")


def free_port(asked: int | None, usual: int, option: str) -> int:
    """Choose a free port of loopback; raises ServingError where the one asked for is taken."""
    for candidate in (usual if asked is None else asked, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, candidate))
            except OSError:
                if asked is not None:
                    raise ServingError(
                        f"port {asked} is taken: choose another {option} (0 takes a free one)"
                    ) from None
                continue
            return int(probe.getsockname()[1])
    raise ServingError("no port of 127.0.0.1 is free")


def _supervise(
    variables: dict[str, str],
    chosen: Sequence[Server],
    environment: MutableMapping[str, str],
    say: Callable[[str], None],
) -> int:
    logs = lifecycle.log_folder(environment)
    # honcho's own five seconds are short for a loader that lands what it holds.
    honcho.manager.KILL_WAIT = _STOP_SECONDS
    manager = honcho.manager.Manager(PartLogs(logs))
    for server in chosen:
        manager.add_process(
            server.name,
            "exec " + shlex.join(server.command),
            # The mark by which `driftline sandbox down` finds what a kill -9 of this one left.
            env=variables | lifecycle.ownership(environment) | {"PYTHONUNBUFFERED": "1"},
        )
    stopped = threading.Event()
    announcer = threading.Thread(
        target=_announce, args=(chosen, say, stopped), name="announcer", daemon=True
    )
    say(f"starting Dagster, dashboard and loader (logs: {logs})")
    announcer.start()
    try:
        manager.loop()
    finally:
        stopped.set()
        announcer.join()
    status = int(manager.returncode or 0)
    if status in _ASKED_FOR:
        return 0
    log = (logs / "supervisor.log").read_text(errors="replace").splitlines()
    ended = next((line for line in reversed(log) if "stopped (rc=" in line), "one of them ended")
    raise ServingError(f"{ended.strip()}: see its log in {logs}; driftline up starts all again")


def _announce(
    chosen: Sequence[Server], say: Callable[[str], None], stopped: threading.Event
) -> None:
    waiting = [server for server in chosen if server.path]
    deadline = time.monotonic() + START_SECONDS
    while waiting and not stopped.wait(_POLL_SECONDS):
        for server in list(waiting):
            if _answers(server):
                say(f"{server.name}: {server.address}")
                waiting.remove(server)
        if time.monotonic() > deadline:
            names = ", ".join(server.name for server in waiting)
            say(f"no answer from {names} within {START_SECONDS} seconds: see the logs")
            return
    if not waiting:
        say("Ctrl-C stops all of it")


def _answers(server: Server) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, server.port, timeout=5)
    try:
        connection.request("GET", server.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
