"""Starting, stopping and looking at the sandbox of one DRIFTLINE_HOME.

No pid files: a process belongs to the sandbox of a home when the environment it was started with
says so (`DRIFTLINE_SANDBOX_HOME`), so neither a crash nor a reboot leaves anything stale.
"""

from __future__ import annotations

import fcntl
import fnmatch
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from driftline import settings
from sandbox.parts import PARTS, Part, port_file
from sandbox.port_files import read_port
from sandbox.problems import MendableError

START_SECONDS = 90
STOP_SECONDS = 30
_POLL_SECONDS = 0.05
_HOME_VARIABLE = "DRIFTLINE_SANDBOX_HOME"


class SandboxError(MendableError):
    """The sandbox cannot do what was asked. The message says why and what to do."""


class State(StrEnum):
    """What became of a part."""

    RUNNING = "running"
    DOWN = "down"
    YOURS = "yours"


@dataclass(frozen=True)
class PartStatus:
    """One part as it is now; `memory_bytes` is the resident memory of its processes."""

    part: Part
    state: State
    detail: str
    pids: tuple[int, ...] = ()
    memory_bytes: int = 0


def up(
    environment: MutableMapping[str, str], on_step: Callable[[str], None] = lambda _: None
) -> list[PartStatus]:
    """Start what is not running, wait until all of it answers, and write the env file.

    A part that `environment` already names a real system for is not started. Returns the state
    of every part. `environment` then holds the sandbox's variables under its own. Raises
    SandboxError, with nothing left running, when a part does not come up.
    """
    home = settings.home(environment)
    if settings.target(environment) != "sandbox":
        raise SandboxError(
            f"DRIFTLINE_TARGET={settings.target(environment)} uses systems of your own: "
            "unset DRIFTLINE_TARGET to use the sandbox"
        )
    with _lock(home):
        settings.load_sandbox_environment(environment)
        if any(found.state is State.DOWN for found in status(environment)):
            on_step("stopping what is left of an earlier sandbox")
            # All or none: the env file describes one start of the sandbox.
            _stop(home)
            settings.load_sandbox_environment(environment)
            wanted = [part for part in PARTS if _given(part, environment) is None]
            _refuse_half_given(wanted, environment)
            _start(home, wanted, environment, on_step)
            settings.load_sandbox_environment(environment)
        return status(environment)


def down(environment: Mapping[str, str], *, delete_data: bool = False) -> int:
    """Stop every process of the sandbox and remove the env file; the data stay by default.

    Returns how many processes there were. Raises SandboxError if one cannot be ended.
    """
    home = settings.home(environment)
    with _lock(home):
        count = _stop(home)
        if delete_data and data_folder(environment).exists():
            shutil.rmtree(data_folder(environment))
        return count


def status(environment: Mapping[str, str]) -> list[PartStatus]:
    """Look at every part: does it answer now, where, and as which processes."""
    home = settings.home(environment)
    written = settings.read_env_file(settings.sandbox_env_file(environment))
    own = _own_variables(environment, written)
    processes = _processes(home)
    found = []
    for part in PARTS:
        variable = _given(part, own)
        if variable is not None:
            found.append(PartStatus(part, State.YOURS, f"{variable} is set in the environment"))
            continue
        serving = [process for process in processes if _runs(process, part.module)]
        pids = tuple(process.pid for process in serving)
        variables = {name: written[name] for name in _variable_names(part) if name in written}
        if not serving:
            detail = _last_words(home, part) or "not started"
            found.append(PartStatus(part, State.DOWN, detail))
        elif len(variables) < len(_variable_names(part)) or not part.is_ready(variables):
            log = home / "logs" / f"{part.name}.log"
            found.append(PartStatus(part, State.DOWN, f"does not answer (see {log})", pids))
        else:
            memory = sum(_resident_bytes(process) for process in serving)
            found.append(PartStatus(part, State.RUNNING, part.address(variables), pids, memory))
    return found


def log_folder(environment: Mapping[str, str]) -> Path:
    """Give the folder of the parts' logs."""
    return settings.home(environment) / "logs"


def data_folder(environment: Mapping[str, str]) -> Path:
    """Give the folder of the sandbox's ClickHouse data."""
    return settings.home(environment) / "clickhouse"


def ownership(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the variable that makes a process part of the sandbox: `down` ends it."""
    return {_HOME_VARIABLE: str(settings.home(environment))}


def _start(
    home: Path, wanted: list[Part], environment: Mapping[str, str], on_step: Callable[[str], None]
) -> None:
    for folder in (home, home / "run", home / "logs"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    credentials = {name: secret for part in wanted for name, secret in part.credentials().items()}
    # Logs of an earlier start would answer "why is it down" with old news.
    (home / "logs" / "supervisor.log").unlink(missing_ok=True)
    crashes = home / "logs" / "supervisor.err"
    with crashes.open("w") as output:
        supervisor = subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-P", "-m", "sandbox.supervisor", "--home", str(home)),
                *(part.name for part in wanted),
            ],
            cwd=home,
            env={
                **environment,
                **credentials,
                _HOME_VARIABLE: str(home),
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        variables = _wait_until_ready(home, wanted, credentials, supervisor, on_step)
    except BaseException:
        _stop(home)
        supervisor.wait()
        raise
    # Left to run on purpose: without this, Popen would warn that nobody waited for it.
    supervisor.returncode = 0
    _write_env_file(settings.sandbox_env_file(environment), variables)


def _wait_until_ready(
    home: Path,
    wanted: list[Part],
    credentials: Mapping[str, str],
    supervisor: subprocess.Popen[bytes],
    on_step: Callable[[str], None],
) -> dict[str, str]:
    deadline = time.monotonic() + START_SECONDS
    variables: dict[str, str] = {}
    for part in wanted:
        on_step(f"waiting for {part.title}")
        while True:
            port = read_port(port_file(home, part.name))
            if port is not None:
                offered = part.variables(port, credentials)
                if part.is_ready(offered):
                    variables.update(offered)
                    break
            if supervisor.poll() is not None:
                raise SandboxError(f"the sandbox did not start: {_why(home)}")
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{part.title} did not answer within {START_SECONDS} seconds: {_why(home)}"
                )
            time.sleep(_POLL_SECONDS)
    return variables


def _why(home: Path) -> str:
    """Say which log has the cause, and its last line."""
    for name in ("supervisor.err", *(f"{part.name}.log" for part in PARTS)):
        path = home / "logs" / name
        lines = path.read_text(errors="replace").split("\n") if path.exists() else []
        said = [line for line in lines if "Error" in line or "error" in line]
        if said:
            return f"{said[-1].strip()} (see {path})"
    return f"see the logs in {home / 'logs'}"


def _stop(home: Path) -> int:
    count = len(_processes(home))
    # The supervisor ends its parts; what is left without one is ended here, at last by force.
    _signal(filter(_is_supervisor, _processes(home)), signal.SIGTERM)
    supervised = any(_is_supervisor(process) for process in _processes(home))
    if not (supervised and _all_gone(home, STOP_SECONDS)):
        _signal(_processes(home), signal.SIGTERM)
        if not _all_gone(home, STOP_SECONDS / 3):
            _signal(_processes(home), signal.SIGKILL)
            if not _all_gone(home, STOP_SECONDS / 3):
                left = ", ".join(str(process.pid) for process in _processes(home))
                raise SandboxError(f"these processes of the sandbox do not end: {left}")
    for part in PARTS:
        port_file(home, part.name).unlink(missing_ok=True)
    (home / "sandbox.env").unlink(missing_ok=True)
    return count


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _all_gone(home: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _processes(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _processes(home: Path) -> list[psutil.Process]:
    """Find the live processes that were started for the sandbox of `home`, children included."""
    found = []
    for process in psutil.process_iter():
        # Another user's process cannot be read, an ended one no longer: neither is ours.
        with suppress(psutil.Error, OSError):
            if process.environ().get(_HOME_VARIABLE) == str(home):
                found.append(process)
    return found


def _runs(process: psutil.Process, module: str) -> bool:
    with suppress(psutil.Error, OSError):
        return ["-m", module] == process.cmdline()[2:4]
    return False


def _is_supervisor(process: psutil.Process) -> bool:
    # honcho's readers of output are forks of the supervisor: they look the same, but it alone
    # leads the session.
    with suppress(psutil.Error, OSError):
        return _runs(process, "sandbox.supervisor") and os.getsid(process.pid) == process.pid
    return False


def _resident_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error, OSError):
        return int(process.memory_info().rss)
    return 0


def _last_words(home: Path, part: Part) -> str:
    """Give honcho's line on how the part ended, if it has ended."""
    log = home / "logs" / "supervisor.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    ends = [line for line in lines if f"{part.name} stopped (rc=" in line]
    return f"{ends[-1]} (see {home / 'logs' / part.name}.log)" if ends else ""


def _own_variables(environment: Mapping[str, str], written: Mapping[str, str]) -> dict[str, str]:
    """Give what the real environment says: without what the env file put there."""
    return {name: value for name, value in environment.items() if written.get(name) != value}


def _given(part: Part, own: Mapping[str, str]) -> str | None:
    return _first_set(part.given_by, own)


def _first_set(patterns: Iterable[str], own: Mapping[str, str]) -> str | None:
    for pattern in patterns:
        for name in fnmatch.filter(sorted(own), pattern):
            if own[name]:
                return name
    return None


def _refuse_half_given(wanted: list[Part], own: Mapping[str, str]) -> None:
    for part in wanted:
        name = _first_set(part.useless_alone, own)
        if name is not None:
            raise SandboxError(
                f"{name} is set, but {part.given_by[0]} is not: set {part.given_by[0]} to use a "
                f"system of your own, or unset {name} to use the sandbox's"
            )


def _variable_names(part: Part) -> set[str]:
    return set(part.variables(0, part.credentials()))


def _write_env_file(path: Path, variables: Mapping[str, str]) -> None:
    lines = {
        **variables,
        "DRIFTLINE_SANDBOX_ID": secrets.token_hex(8),
        "DRIFTLINE_SANDBOX_VARIABLES": " ".join(variables),
    }
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    # Passwords are in it: private from its first byte.
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in lines.items())
    part.replace(path)


@contextmanager
def _lock(home: Path) -> Iterator[None]:
    """Let one `up` or `down` of a home run at a time; the others wait."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "sandbox.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
