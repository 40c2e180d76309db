"""Kill loaders, broker and ClickHouse at random for minutes, then compare exact sets.

`make soak` or `python -m tests.faults.soak --minutes 10 --seed 7`. Messages come all the time. At
the end everything is healed, one loader runs until nothing is left, and the table must have exactly
the (partition, offset)s and the ids that Kafka acknowledged, each once. Exit status 1 where not.
"""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer

from tests.faults.conftest import FaultSystems, FaultyLoader, systems_on_kafka
from tests.kafka.cluster import KafkaCluster
from tests.warehouse_fixtures import ClickHouseProcess

_DRAIN_SECONDS = 300.0


class Stream:
    """Messages without end, each with an id of its own; knows which were acknowledged and where."""

    def __init__(self, systems: FaultSystems, per_second: int) -> None:
        self.acknowledged: dict[tuple[int, int], bytes] = {}
        self.failed: set[bytes] = set()
        self._systems = systems
        self._per_second = per_second
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        producer: Any = Producer(
            {
                "bootstrap.servers": self._systems.kafka.bootstrap_servers,
                "enable.idempotence": True,
                "message.timeout.ms": 300_000,
                "linger.ms": 5,
                "log_level": 0,
            }
        )

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                self.acknowledged[message.partition(), message.offset()] = message.value()
            else:
                self.failed.add(message.value())

        number = 0
        while not self._ended.is_set():
            for _ in range(self._per_second // 20):
                number += 1
                value = f"soak-{number}".encode()
                while True:
                    try:
                        producer.produce(
                            self._systems.topic,
                            value,
                            partition=number % 3,
                            on_delivery=delivered,
                        )
                        break
                    except BufferError:
                        producer.poll(0.1)
            producer.poll(0)
            self._ended.wait(0.05)
        self.remaining = producer.flush(_DRAIN_SECONDS)

    def end(self) -> None:
        """Stop, and wait until every message is acknowledged or has failed."""
        self._ended.set()
        self._thread.join()


class Soak:
    """The systems, and what may happen to them."""

    def __init__(self, systems: FaultSystems, folder: Path, chance: random.Random) -> None:
        self.systems = systems
        self.happened: Counter[str] = Counter()
        self._folder = folder
        self._chance = chance
        self._loaders: list[FaultyLoader] = []
        self._started = 0

    def actions(self) -> dict[str, Callable[[], None]]:
        """Give what may happen, by name."""
        return {
            "loader joins": self.join,
            "loader is killed": lambda: self._end_one(signal.SIGKILL),
            "loader is terminated": lambda: self._end_one(signal.SIGTERM),
            "loader sleeps past its session": self.suspend_loader,
            "broker is killed": self.restart_broker,
            "broker freezes": self.freeze_broker,
            "ClickHouse is killed": self.restart_clickhouse,
            "ClickHouse freezes": self.freeze_clickhouse,
            "nothing": lambda: None,
        }

    def join(self) -> None:
        """Start a loader, of at most three; one that found no ClickHouse has ended by itself."""
        self._loaders = [each for each in self._loaders if each.process.poll() is None]
        if len(self._loaders) >= 3:
            return
        self._started += 1
        log = self._folder / f"loader-{self._started}.log"
        rows = self._chance.choice([20, 100, 1000])
        arguments = ["--for-ever", "--rows", str(rows), "--age", "0.2", "--request", "5"]
        self._loaders.append(FaultyLoader(self.systems, log, "never", 0, *arguments))

    def _end_one(self, number: signal.Signals) -> None:
        if not self._loaders:
            return
        loader = self._loaders.pop(self._chance.randrange(len(self._loaders)))
        if loader.process.poll() is None:
            loader.process.send_signal(number)
            loader.process.wait(120)

    def suspend_loader(self) -> None:
        """Freeze a loader until the group has given its partitions away."""
        if self._loaders:
            process = self._chance.choice(self._loaders).process
            if process.poll() is None:
                process.send_signal(signal.SIGSTOP)
                time.sleep(self._chance.uniform(1, 6))
                process.send_signal(signal.SIGCONT)

    def restart_broker(self) -> None:
        """Kill the broker, and start it again."""
        self.systems.cluster.kill()
        time.sleep(self._chance.uniform(0, 5))
        self.systems.cluster.start_node()

    def freeze_broker(self) -> None:
        """Suspend the broker for a while."""
        self.systems.cluster.suspend()
        time.sleep(self._chance.uniform(1, 6))
        self.systems.cluster.resume()

    def restart_clickhouse(self) -> None:
        """Kill the server, and start it again."""
        process = self.systems.server.process
        if process is not None:
            process.kill()
            process.wait()
        time.sleep(self._chance.uniform(0, 5))
        self.systems.server.start()

    def freeze_clickhouse(self) -> None:
        """Suspend the server for a while."""
        process = self.systems.server.process
        if process is not None:
            process.send_signal(signal.SIGSTOP)
            time.sleep(self._chance.uniform(1, 8))
            process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill every loader."""
        for loader in self._loaders:
            loader.end()
        self._loaders.clear()

    def loader_memory(self) -> int:
        """Give the resident bytes of the largest loader."""
        largest = 0
        for each in self._loaders:
            with suppress(psutil.NoSuchProcess):
                largest = max(largest, psutil.Process(each.process.pid).memory_info().rss)
        return largest


def soak(minutes: float, seed: int, per_second: int) -> bool:
    """Run it; whether everything landed exactly once."""
    chance = random.Random(seed)  # noqa: S311 - a seeded test
    print(f"seed {seed}, {minutes:g} minutes, {per_second} messages/s", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="driftline-soak-") as name:
        folder = Path(name)
        server = ClickHouseProcess(folder / "clickhouse").start()
        server.arguments = ("--port", str(server.port))
        try:
            with KafkaCluster(folder / "kafka") as cluster:
                return _soak_on(
                    systems_on_kafka(server, cluster, 1), folder, chance, minutes, per_second
                )
        finally:
            server.stop()


def _soak_on(
    systems: FaultSystems, folder: Path, chance: random.Random, minutes: float, per_second: int
) -> bool:
    began = time.monotonic()
    running = Soak(systems, folder, chance)
    stream = Stream(systems, per_second)
    actions = running.actions()
    memory = 0
    try:
        running.join()
        while time.monotonic() - began < minutes * 60:
            action = chance.choice(list(actions))
            actions[action]()
            running.happened[action] += 1
            running.join()  # never for long without any
            memory = max(memory, running.loader_memory())
            print(  # noqa: T201
                f"{time.monotonic() - began:6.0f} s  {action:32}"
                f" acknowledged {len(stream.acknowledged):,}",
                flush=True,
            )
            time.sleep(chance.uniform(0, 4))
    finally:
        running.end()
        stream.end()
    systems.load()
    acknowledged = stream.acknowledged
    rows = systems.rows("select partition, offset, value from raw.prediction_events")
    landed = {(int(row[0]), int(row[1])): row[2].encode() for row in rows}
    extra = set(landed) - set(acknowledged)
    # The broker may have kept a message whose acknowledgement never came.
    unexplained = {at for at in extra if landed[at] not in stream.failed}
    problems = {
        "landed twice": len(rows) - len(landed),
        "acknowledged, not landed": len(set(acknowledged) - set(landed)),
        "landed, never sent": len(unexplained),
        "of another content": sum(
            landed[at] != value for at, value in acknowledged.items() if at in landed
        ),
        "ids twice": len(landed) - len(set(landed.values())),
        "not sent": stream.remaining,
    }
    print(f"acknowledged {len(acknowledged):,}, landed {len(rows):,}, failed {len(stream.failed)}")  # noqa: T201
    print(f"largest loader {memory / 2**20:,.0f} MiB; {dict(running.happened)}")  # noqa: T201
    print(problems)  # noqa: T201
    return not any(problems.values())


def main() -> None:
    """Run one soak, and exit with 1 where anything is lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="printed, to run the same again")
    parser.add_argument("--per-second", type=int, default=500)
    chosen = parser.parse_args()
    seed = secrets.randbelow(10**6) if chosen.seed is None else chosen.seed
    if not soak(chosen.minutes, seed, chosen.per_second):
        sys.exit(f"error: not exactly once; again with --seed {seed}")
    print("exactly once")  # noqa: T201


if __name__ == "__main__":
    main()
