"""How fast messages land: `make bench-ingest`, or `python -m bench.ingest --help`.

Apache Kafka and the sandbox's ClickHouse server run as processes of their own beside the loader, on
this machine. Three measurements:

- sustained: the loader on a topic that was filled beforehand; its memory over the run.
- compared: the loader and a plain consumer in turn, on the same topic, the median of three rounds.
- log to queryable: PredictionLogger at a steady rate, and how long until a query sees each row.

Landed rows are counted after every run: one that lost or doubled a message is no measurement.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

from bench.messages import VALUE_BYTES, FillError, fill
from bench.watched_process import ProcessFailedError, Usage, WatchedProcess, cpu_seconds
from ingest.command_line import progress
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import JarsUnavailableError
from tests.warehouse_fixtures import ClickHouseProcess

LEAST_RATE = 50_000.0
LEAST_RATIO = 3.0
MOST_P95_SECONDS = 5.0
MOST_GROWTH = 1.1

_PLAIN, _PLAINEST = "plain consumer", "plain consumer, text in one column"
_PARTITIONS = 4
# The just-in-time compiler that a broker has in production, and room for its buffers.
_JVM = ("-Xms512m", "-Xmx1g", "-XX:+UseG1GC")
_DRIFTLINE = Path(sys.executable).with_name("driftline")


class BenchmarkError(Exception):
    """A run is no measurement. The message says why."""


@dataclass(frozen=True)
class Run:
    """One run over `messages`. CPU in microseconds a message, by process."""

    messages: int
    seconds: float
    loader_cpu: float
    server_cpu: float
    broker_cpu: float
    second_third_mib: float
    last_third_mib: float
    peak_mib: float

    @property
    def rate(self) -> float:
        """Messages a second, the start of the process included."""
        return self.messages / self.seconds


@dataclass(frozen=True)
class Latency:
    """Seconds from `log` until a query saw the row; `rate` is what was logged a second."""

    rate: float
    messages: int
    p50: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True)
class Bar:
    """A figure that was promised, and the one seen."""

    name: str
    wanted: str
    seen: str
    is_met: bool


class Bench:
    """The systems of one benchmark; every run gets a group and a raw database of its own."""

    def __init__(self, kafka: KafkaCluster, server: ClickHouseProcess, folder: Path) -> None:
        self.kafka = kafka
        self.server = server
        self._folder = folder
        self._client = server.client(autogenerate_session_id=False)

    def topic(self, name: str, messages: int) -> str:
        """Create a topic, and fill it."""
        self.kafka.admin.create_topic(name, _PARTITIONS)
        if messages:
            with progress(f"filling topic {name}", unit="messages") as advance_to:
                fill(
                    self.kafka.bootstrap_servers,
                    name,
                    messages,
                    on_progress=lambda done: advance_to(done, messages),
                )
        return name

    @contextmanager
    def environment(self, topic: str) -> Iterator[dict[str, str]]:
        """Give the environment of one run over a topic; what it lands is dropped at the end."""
        name = uuid.uuid4().hex[:8]
        environment = {
            **os.environ,
            **self.server.environment(raw_database=f"raw_{name}"),
            "DRIFTLINE_HOME": str(self._folder / "home"),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "DRIFTLINE_PREDICTIONS_TOPIC": topic,
            "DRIFTLINE_LABELS_TOPIC": "labels",
            "DRIFTLINE_CONSUMER_GROUP": f"bench-{name}",
        }
        try:
            yield environment
        finally:
            self._client.command(f"drop database if exists raw_{name} sync")

    def load(self, topic: str, messages: int, options: Sequence[str] = ()) -> Run:
        """Land a filled topic with `driftline load`."""
        with self.environment(topic) as environment:
            run = self._measure(
                [str(_DRIFTLINE), "load", "--until-caught-up", *options], environment, messages
            )
            self._check(
                environment,
                "prediction_events",
                "uniqExact(`partition`, `offset`)",
                messages,
            )
        return run

    def consume_plainly(self, topic: str, messages: int, columns: str) -> Run:
        """Land a filled topic with the plain consumer, into `all` columns or `few`."""
        with self.environment(topic) as environment:
            run = self._measure(
                [sys.executable, "-m", "bench.plain_consumer", str(messages), columns],
                environment,
                messages,
            )
            self._check(environment, "plain_predictions", "uniqExact(prediction_id)", messages)
        return run

    def latency(self, topic: str, rate: float, seconds: float) -> Latency:
        """Log at a steady rate while the loader runs, and see when a query has each row."""
        with self.environment(topic) as environment:
            loader = WatchedProcess(
                [str(_DRIFTLINE), "load"], environment=environment, log=self._folder / "load.log"
            )
            table = f"{environment['CLICKHOUSE_RAW_DATABASE']}.prediction_events"
            try:
                self._warm_up(topic, table, loader)
                logger = WatchedProcess(
                    [sys.executable, "-m", "bench.paced_logger", str(rate), str(seconds)],
                    environment=environment,
                    log=self._folder / "logger.log",
                )
                try:
                    seen = self._watch_rows(table, int(rate * seconds) + _PARTITIONS, logger)
                    logger.wait()
                finally:
                    logger.kill()
                sent = json.loads((self._folder / "logger.log").read_text().splitlines()[-1])
                rows = self._rows(
                    "select `partition`, `offset`, toUnixTimestamp64Milli(kafka_timestamp) "
                    f"from {table} where `offset` > 0"
                )
                loader.stop()
            finally:
                loader.kill()
        if sent["dropped"] or sent["failed"] or len(rows) != sent["delivered"]:
            raise BenchmarkError(f"{len(rows):,} predictions have landed of {sent}")
        return _latency(sent["queued"] / sent["seconds"], seen, rows)

    def _warm_up(self, topic: str, table: str, loader: WatchedProcess) -> None:
        """Wait until the loader has landed one message of each partition: offset 0."""
        for partition in range(_PARTITIONS):
            self.kafka.admin.produce(topic, [b"{}"], partition=partition)
        exists, count = f"exists table {table}", f"select count() from {table}"
        while self._rows(exists)[0][0] == 0 or int(self._rows(count)[0][0]) < _PARTITIONS:
            if loader.process.poll() is not None:
                loader.wait()
                raise BenchmarkError("the loader ended by itself")
            time.sleep(0.1)

    def _watch_rows(
        self, table: str, wanted: int, logger: WatchedProcess
    ) -> list[tuple[float, dict[int, int]]]:
        """Give when (seconds since 1970) a query saw each partition up to which offset."""
        # The rows of a partition land in order, so its greatest offset says which are there.
        statement = f"select `partition`, max(`offset`), count() from {table} group by `partition`"
        seen: list[tuple[float, dict[int, int]]] = []
        deadline = None
        while True:
            rows = self._rows(statement)
            # After the answer: a row is never counted as there before it was.
            now = time.time()
            seen.append((now, {int(row[0]): int(row[1]) for row in rows}))
            if sum(int(row[2]) for row in rows) >= wanted:
                return seen
            if logger.process.poll() is not None:
                deadline = deadline or now + 60
                if now > deadline:
                    raise BenchmarkError(
                        f"a minute after the last of {wanted:,} predictions was logged, "
                        f"{sum(int(row[2]) for row in rows):,} had landed; see {self._folder}"
                    )
            time.sleep(0.05)

    def _rows(self, statement: str) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = self._client.query(statement).result_rows
        return rows

    def _measure(
        self, command: Sequence[str], environment: Mapping[str, str], messages: int
    ) -> Run:
        others = [self.server.process, self.kafka.node().process]
        processes = [psutil.Process(process.pid) for process in others if process is not None]
        before = [cpu_seconds(process) for process in processes]
        watched = WatchedProcess(command, environment=environment, log=self._folder / "run.log")
        try:
            usage: Usage = watched.wait()
        finally:
            watched.kill()
        server, broker = (
            cpu_seconds(process) - begun for process, begun in zip(processes, before, strict=True)
        )
        return Run(
            messages=messages,
            seconds=usage.seconds,
            loader_cpu=usage.cpu_seconds / messages * 1e6,
            server_cpu=server / messages * 1e6,
            broker_cpu=broker / messages * 1e6,
            second_third_mib=usage.third_mib(1),
            last_third_mib=usage.third_mib(2),
            peak_mib=usage.peak_mib,
        )

    def _check(
        self, environment: Mapping[str, str], table: str, distinct: str, messages: int
    ) -> None:
        found = self._rows(
            f"select count(), {distinct} from {environment['CLICKHOUSE_RAW_DATABASE']}.{table}"
        )[0]
        if tuple(map(int, found)) != (messages, messages):
            raise BenchmarkError(
                f"{found[0]:,} rows with {found[1]:,} different messages are in {table}, "
                f"not {messages:,}:\n{(self._folder / 'run.log').read_text()[-4000:]}"
            )


def _latency(
    rate: float, seen: Sequence[tuple[float, Mapping[int, int]]], rows: Sequence[Sequence[Any]]
) -> Latency:
    times = np.array([at for at, _ in seen])
    landed = np.array(rows, dtype=np.int64)
    waits = []
    for partition in np.unique(landed[:, 0]):
        offsets = landed[landed[:, 0] == partition]
        greatest = np.array([by_partition.get(int(partition), -1) for _, by_partition in seen])
        # The first look at which the greatest offset was not below the row's.
        first_seen = times[np.searchsorted(greatest, offsets[:, 1], side="left")]
        waits.append(first_seen - offsets[:, 2] / 1000)
    every = np.concatenate(waits)
    p50, p95, p99 = np.quantile(every, [0.5, 0.95, 0.99])
    return Latency(rate, len(every), float(p50), float(p95), float(p99), float(every.max()))


def _median(runs: Sequence[Run]) -> Run:
    return sorted(runs, key=lambda run: run.rate)[len(runs) // 2]


def _machine() -> dict[str, str]:
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.partition(":")[2].strip()
            for line in information.read_text().splitlines()
            if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "processor": cpu,
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "load before": _load(),
        "python": platform.python_version(),
        **{
            name: version(name)
            for name in ("confluent-kafka", "clickhouse-connect", "pyarrow", "chdb")
        },
    }


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


def _report(
    console: Console,
    sustained: Run | None,
    compared: Mapping[str, Run],
    latency: Latency | None,
    bars: Sequence[Bar],
) -> None:
    table = Table(
        title=f"messages of {VALUE_BYTES} B, Apache Kafka to ClickHouse's HTTP server",
        caption="the last three: µs of CPU a message",
    )
    for name in ("", "messages", "msg/s", "consumer", "server", "broker"):
        table.add_column(name, justify="right" if name else "left")
    runs = {**({"loader, sustained": sustained} if sustained else {}), **compared}
    for name, run in runs.items():
        table.add_row(
            name,
            f"{run.messages:,}",
            f"{run.rate:,.0f}",
            f"{run.loader_cpu:.1f}",
            f"{run.server_cpu:.1f}",
            f"{run.broker_cpu:.1f}",
        )
    console.print(table)
    console.print("ClickHouse Kafka Connect sink: not measured, its jar is not on Maven Central")
    if latency is not None:
        table = Table(title=f"log to queryable at {latency.rate:,.0f} predictions/s, seconds")
        for name in ("predictions", "p50", "p95", "p99", "longest"):
            table.add_column(name, justify="right")
        figures = (latency.p50, latency.p95, latency.p99, latency.longest)
        table.add_row(f"{latency.messages:,}", *(f"{figure:.2f}" for figure in figures))
        console.print(table)
    table = Table(title="bars")
    for name in ("", "wanted", "seen", ""):
        table.add_column(name)
    for bar in bars:
        table.add_row(bar.name, bar.wanted, bar.seen, "met" if bar.is_met else "MISSED")
    console.print(table)


def _bars(sustained: Run | None, compared: Mapping[str, Run], latency: Latency | None) -> list[Bar]:
    bars = []
    if sustained is not None:
        rate, growth = sustained.rate, sustained.last_third_mib / sustained.second_third_mib
        bars += [
            Bar("sustained", f"≥ {LEAST_RATE:,.0f}/s", f"{rate:,.0f}/s", rate >= LEAST_RATE),
            Bar(
                # In the first third buffers fill, of the client and of the allocator.
                "memory, last third to second",
                f"≤ {MOST_GROWTH:.1f}",
                f"{growth:.2f} ({sustained.second_third_mib:.0f} to "
                f"{sustained.last_third_mib:.0f} MiB, peak {sustained.peak_mib:.0f})",
                growth <= MOST_GROWTH,
            ),
        ]
    if compared:
        # Both without what a start takes, where there is a run long enough for that.
        ratio = (sustained or compared["loader"]).rate / compared[_PLAIN].rate
        bars.append(
            Bar(
                "loader to plain consumer",
                f"≥ {LEAST_RATIO:.1f}",
                f"{ratio:.2f}",
                ratio >= LEAST_RATIO,
            )
        )
    if latency is not None:
        bars.append(
            Bar(
                "p95 log to queryable",
                f"< {MOST_P95_SECONDS:.1f} s",
                f"{latency.p95:.2f} s",
                latency.p95 < MOST_P95_SECONDS,
            )
        )
    return bars


def main(
    messages: Annotated[
        int, typer.Option(min=0, help="Of the sustained run; 0: none.")
    ] = 5_000_000,
    compare_messages: Annotated[
        int, typer.Option(min=0, help="Of each run beside the plain consumer; 0: none.")
    ] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of the comparison; the median counts.")] = 3,
    rate: Annotated[float, typer.Option(min=1, help="Predictions logged a second.")] = 10_000,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long they are logged; 0: not at all.")
    ] = 60,
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path(
        ".driftline/bench/ingest.json"
    ),
    load_option: Annotated[
        list[str] | None, typer.Option(help="Passed on to driftline load, e.g. --batch-rows=50000.")
    ] = None,
) -> None:
    """Measure how fast messages land, beside a plain consumer."""
    console = Console()
    machine = _machine()
    sustained: Run | None = None
    compared: dict[str, list[Run]] = {}
    latency: Latency | None = None
    with tempfile.TemporaryDirectory(prefix="driftline-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        server = ClickHouseProcess(folder / "clickhouse")
        try:
            with KafkaCluster(folder / "kafka", jvm=_JVM) as kafka:
                server.start()
                bench = Bench(kafka, server, folder)
                bench.topic("labels", 0)
                if seconds:
                    console.log(f"logging at {rate:,.0f} predictions/s for {seconds:.0f} s")
                    latency = bench.latency(bench.topic("paced", 0), rate, seconds)
                if compare_messages:
                    topic = bench.topic("compared", compare_messages)
                    compared = {"loader": [], _PLAIN: [], _PLAINEST: []}
                    for number in range(rounds):
                        console.log(f"round {number + 1} of {rounds}")
                        compared["loader"].append(
                            bench.load(topic, compare_messages, load_option or ())
                        )
                        for name, columns in ((_PLAIN, "all"), (_PLAINEST, "few")):
                            compared[name].append(
                                bench.consume_plainly(topic, compare_messages, columns)
                            )
                if messages:
                    topic = bench.topic("sustained", messages)
                    console.log(f"landing {messages:,} messages")
                    sustained = bench.load(topic, messages, load_option or ())
        except (BenchmarkError, FillError, JarsUnavailableError, ProcessFailedError) as error:
            raise SystemExit(f"error: {error}") from None
        finally:
            server.stop()
    machine["load after"] = _load()
    medians = {name: _median(runs) for name, runs in compared.items()}
    bars = _bars(sustained, medians, latency)
    _report(console, sustained, medians, latency, bars)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(
        json.dumps(
            {
                "machine": machine,
                "sustained": sustained and asdict(sustained),
                "compared": {
                    name: [asdict(run) for run in runs] for name, runs in compared.items()
                },
                "latency": latency and asdict(latency),
                "bars": [asdict(bar) for bar in bars],
            },
            indent=2,
        )
    )
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()))
    console.print(f"figures: {output}")
    if not all(bar.is_met for bar in bars):
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
