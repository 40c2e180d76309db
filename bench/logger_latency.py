"""What logging adds to a prediction: `make bench-logger`, `python -m bench.logger_latency --help`.

Each row is a process that calls a logger 5,000 times a second with 20 features and times each call
by the clock, and by that alone: a system call beside it (for CPU time, say) leaves the branch
predictor cold and makes the call slower. Between two calls the thread predicts, as that of a model
server does; in further rows it sleeps, and the core with it, or another thread computes. Beside
PredictionLogger stand what one would take instead, a call that does nothing, and a fixed loop,
whose percentiles show how unevenly the machine itself runs.

The bar is for what logging adds: the 99th percentile of a request that predicts for 100 µs and
logs, less that of one that only predicts. What interrupts a machine interrupts both.

All rows are measured in turn, several times over; of each the run with the median p99 is shown,
with the least and greatest p99 of all. The broker is Apache Kafka (librdkafka's mock broker where
that cannot be had), or a port where nobody listens.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.logger_contender import TOPIC
from driftline.settings import home
from ingest.command_line import progress
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import JarsUnavailableError

MOST_ADDED_MICROSECONDS = 50.0

_PROJECT = Path(__file__).parents[1]
_COLUMNS = ("p10", "p50", "p90", "p99", "p99.9", "max")
_COUNTS = ("delivered", "dropped", "spilled")
# Of an installation of its own, so that the project does not depend on it.
_PEER = "kafka-python==3.0.12"

# What each run of one row saw.
Runs = list[Mapping[str, float]]


class BenchmarkError(Exception):
    """A row could not be measured. The message says why."""


@dataclass(frozen=True)
class Row:
    """One measurement: which contender, in which circumstances, and what is timed."""

    title: str
    contender: str
    is_broker_up: bool
    meanwhile: str = "predicting"
    timed: str = "call"


# What the rows that follow it add to, and which of them the bar is for.
_REQUEST = Row("a request", "nothing", is_broker_up=True, timed="request")
_LOGGED_REQUESTS = (
    Row("a request, driftline", "driftline", is_broker_up=True, timed="request"),
    Row("a request, driftline", "driftline", is_broker_up=False, timed="request"),
    Row("a request, driftline spilling", "driftline-spilling", is_broker_up=False, timed="request"),
)
ROWS = (
    _REQUEST,
    *_LOGGED_REQUESTS,
    Row("nothing", "nothing", is_broker_up=True),
    Row("a fixed loop", "fixed-loop", is_broker_up=True),
    Row("driftline", "driftline", is_broker_up=True),
    Row("driftline", "driftline", is_broker_up=False),
    Row("driftline, spilling", "driftline-spilling", is_broker_up=False),
    Row("json + confluent-kafka", "json-confluent-kafka", is_broker_up=True),
    Row("json + confluent-kafka", "json-confluent-kafka", is_broker_up=False),
    Row("kafka-python", "kafka-python", is_broker_up=True),
    Row("kafka-python", "kafka-python", is_broker_up=False),
    Row("json to a file", "json-file", is_broker_up=True),
    Row("a fixed loop", "fixed-loop", is_broker_up=True, meanwhile="sleeping"),
    Row("driftline", "driftline", is_broker_up=True, meanwhile="sleeping"),
    Row("driftline", "driftline", is_broker_up=False, meanwhile="sleeping"),
    Row("driftline, spilling", "driftline-spilling", is_broker_up=False, meanwhile="sleeping"),
    Row("json + confluent-kafka", "json-confluent-kafka", is_broker_up=True, meanwhile="sleeping"),
    Row("nothing", "nothing", is_broker_up=True, meanwhile="other-thread"),
    Row("driftline", "driftline", is_broker_up=True, meanwhile="other-thread"),
    Row(
        "json + confluent-kafka",
        "json-confluent-kafka",
        is_broker_up=True,
        meanwhile="other-thread",
    ),
)

console = Console()


@contextmanager
def _broker(folder: Path) -> Iterator[tuple[str, str]]:
    """Run a broker; give its name and address."""
    try:
        cluster = KafkaCluster(folder)
    except JarsUnavailableError:
        with _mock_broker() as address:
            yield "librdkafka's mock broker", address
        return
    try:
        cluster.start()
        cluster.admin.create_topic(TOPIC)
        yield "Apache Kafka", cluster.bootstrap_servers
    finally:
        cluster.stop()


@contextmanager
def _mock_broker() -> Iterator[str]:
    script = (
        "import sys; from confluent_kafka import Producer\n"
        "owner = Producer({'bootstrap.servers': '127.0.0.1:0', 'test.mock.num.brokers': 1})\n"
        "broker = next(iter(owner.list_topics(timeout=10).brokers.values()))\n"
        "print(f'{broker.host}:{broker.port}', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise BenchmarkError("the mock broker has no pipes")
        yield process.stdout.readline().strip()
        process.stdin.close()


def _deserted_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _peer_python() -> Path | None:
    """Give an interpreter with kafka-python, installed for it; None where that fails."""
    folder = home() / "bench" / "peers"
    python = folder / "bin" / "python"
    stamp = folder / _PEER
    if not stamp.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            install = [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            subprocess.run([*install, _PEER, "lz4"], check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        stamp.touch()
    return python


def _measure(
    row: Row, servers: str, rate: float, seconds: float, python: Path
) -> Mapping[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        what = [row.contender, servers, str(rate), str(seconds), folder]
        done = subprocess.run(
            [python, "-m", "bench.logger_contender", *what, row.meanwhile, row.timed],
            cwd=_PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise BenchmarkError(f"{row.title} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _shown(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _table(results: list[tuple[Row, Mapping[str, float]]], title: str) -> Table:
    table = Table(title=title)
    for name in ("", "broker", "meanwhile"):
        table.add_column(name, no_wrap=True)
    for name in (*_COLUMNS, "p99 of all", "calls/s", *_COUNTS):
        table.add_column(name, justify="right", no_wrap=True)
    for row, found in results:
        table.add_row(
            row.title,
            "up" if row.is_broker_up else "down",
            row.meanwhile,
            *(_shown(found[name]) for name in _COLUMNS),
            f"{_shown(found['least_p99'])} to {_shown(found['greatest_p99'])}",
            f"{found['achieved']:,.0f}",
            *(f"{found[name]:,}" if name in found else "" for name in _COUNTS),
        )
    return table


def _median_run(runs: Runs) -> Mapping[str, float]:
    by_p99 = sorted(runs, key=lambda run: run["p99"])
    median = by_p99[len(by_p99) // 2]
    return {**median, "least_p99": by_p99[0]["p99"], "greatest_p99": by_p99[-1]["p99"]}


def _added(runs: Mapping[Row, Runs]) -> dict[Row, list[float]]:
    """Give what each logged request adds to the p99 of one that is not logged, round by round."""
    return {
        row: [
            logged["p99"] - alone["p99"]
            for alone, logged in zip(runs[_REQUEST], runs[row], strict=True)
        ]
        for row in _LOGGED_REQUESTS
    }


def _measure_all(rate: float, seconds: float, rounds: int) -> tuple[str, Mapping[Row, Runs]]:
    peer = _peer_python()
    if peer is None:
        console.print(f"{_PEER} cannot be installed here: its rows are left out")
    rows = [row for row in ROWS if peer is not None or row.contender != "kafka-python"]
    runs: dict[Row, Runs] = {row: [] for row in rows}
    with (
        tempfile.TemporaryDirectory() as folder,
        _broker(Path(folder)) as (broker, address),
        progress("logging", unit="runs") as advance,
    ):
        for number, row in enumerate(rows * rounds):
            python = peer if row.contender == "kafka-python" and peer else Path(sys.executable)
            servers = address if row.is_broker_up else _deserted_port()
            runs[row].append(_measure(row, servers, rate, seconds, python))
            advance(number + 1, len(rows) * rounds)
    return broker, runs


def main(
    rate: Annotated[float, typer.Option(help="Predictions a second.")] = 5_000,
    seconds: Annotated[float, typer.Option(help="How long each run takes.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="How many runs each row has.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write figures there.")] = None,
) -> None:
    """Measure what logging adds to a prediction, and fail where that is above the bar."""
    try:
        broker, runs = _measure_all(rate, seconds, rounds)
    except BenchmarkError as error:
        console.print(f"error: {error}")
        raise typer.Exit(1) from None
    results = [(row, _median_run(runs[row])) for row in runs]
    wide = Console(width=max(console.width, 165))
    wide.print(
        _table(
            results,
            f"Microseconds a call, at {rate:,.0f} calls/s, 20 features; {broker}; "
            f"the median of {rounds} runs",
        )
    )
    console.print(
        f"confluent-kafka {version('confluent-kafka')}, orjson {version('orjson')}, "
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"load {' '.join(f'{load:.1f}' for load in os.getloadavg())}"
    )
    if json_file is not None:
        figures: list[dict[str, Any]] = [
            {
                "title": row.title,
                "is_broker_up": row.is_broker_up,
                "meanwhile": row.meanwhile,
                "timed": row.timed,
                **found,
            }
            for row, found in results
        ]
        json_file.write_text(json.dumps(figures, indent=1) + "\n")
    is_slow = False
    for row, added in _added(runs).items():
        median = statistics.median(added)
        is_slow |= median >= MOST_ADDED_MICROSECONDS
        console.print(
            f"{row.title}, the broker {'up' if row.is_broker_up else 'down'}: {median:.1f} µs are "
            f"added to the p99 of a request ({', '.join(f'{rise:.1f}' for rise in added)})"
        )
    if is_slow:
        console.print(f"error: not below {MOST_ADDED_MICROSECONDS:.0f} µs")
        raise typer.Exit(1)
    console.print(f"all below {MOST_ADDED_MICROSECONDS:.0f} µs")


if __name__ == "__main__":
    typer.run(main)
