"""Apache Kafka itself, from its own jars, in processes that tests may kill, stop and suspend.

KRaft: every node is broker and controller at once. One node serves nearly every test; three show
what happens when a leader dies.
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.admin import KafkaAdmin
from tests.kafka.jars import jars, java

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0

# Below every system's ephemeral ports: no client's connection takes the port of a node that is
# down, so that it comes back under the address its clients know.
_PORTS = range(20_000, 32_000)

# Little memory and a short warm-up rather than the highest throughput.
TEST_JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

# What takes seconds in production takes less here; no rule is another one.
_PROPERTIES: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    # A group is complete when its first member asks.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1_000,
    "log.retention.check.interval.ms": 500,
    "log.initial.task.delay.ms": 500,
    "log.segment.delete.delay.ms": 500,
    # A node that was killed is let in again when its session is over.
    "broker.session.timeout.ms": 3_000,
    "broker.heartbeat.interval.ms": 500,
    "controlled.shutdown.enable": "true",
    "num.network.threads": 2,
    "num.io.threads": 4,
    "log.cleaner.dedupe.buffer.size": 4 * 1024 * 1024,
}

_LOG4J = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="warn">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d{ISO8601} %p %m (%c{1})%n%throwable"/></Console>
  </Appenders>
  <Loggers><Root level="info"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


@dataclass(frozen=True)
class Listener:
    """Another way in for clients, beside the plain one that the cluster itself uses.

    `protocol` is SSL, SASL_PLAINTEXT or SASL_SSL; `properties` are the listener's own, without the
    prefix `listener.name.`.
    """

    protocol: str
    properties: Mapping[str, object] = field(default_factory=dict)


class KafkaNode:
    """One process of the cluster. It ends with the process that started it, however that ends."""

    def __init__(
        self,
        number: int,
        folder: Path,
        class_path: Path,
        jvm: Sequence[str],
        listeners: Sequence[str] = (),
    ) -> None:
        self.number = number
        self.folder = folder
        self.port, self.controller_port, *ports = _free_ports(2 + len(listeners))
        self.listener_ports = dict(zip(listeners, ports, strict=True))
        self.process: subprocess.Popen[bytes] | None = None
        self._class_path = class_path
        self._jvm = jvm
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients connect: host:port, the same after every restart."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the process wrote, over all its starts."""
        return self.folder / "kafka.log"

    @property
    def is_running(self) -> bool:
        """Whether the process is there (it may be suspended)."""
        return self.process is not None and self.process.poll() is None

    def java_command(self, main_class: str, *arguments: str) -> list[str]:
        """Give the command that runs a class of Kafka's jars."""
        return [
            java(),
            *self._jvm,
            "-XX:-UsePerfData",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}",
            "-cp",
            f"{self._class_path}/*",
            main_class,
            *arguments,
        ]

    def format(self, cluster_id: str, properties: Mapping[str, object]) -> None:
        """Write the configuration and prepare the data folder, as a first start needs."""
        self.folder.mkdir(parents=True)
        (self.folder / "log4j2.xml").write_text(_LOG4J)
        lines = [f"{name}={value}\n" for name, value in properties.items()]
        configuration = self.folder / "server.properties"
        configuration.write_text("".join(lines))
        ended = subprocess.run(
            self.java_command(
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster_id}",  # it may begin with a hyphen
                "--config",
                str(configuration),
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            raise RuntimeError(f"Kafka's storage tool failed:\n{ended.stdout}{ended.stderr}")

    def spawn(self) -> None:
        """Start the process; whether it serves is for the cluster to see."""
        if self.is_running:
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.java_command("kafka.Kafka", str(self.folder / "server.properties")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Reads a pipe that is never written: its end means that this process has ended.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'cat >/dev/null; kill -s KILL -- "-$1"', "guard", str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, which must be running."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"Kafka node {self.number} is not running")
        self.process.send_signal(number)

    def end(self, number: signal.Signals) -> int:
        """End the process with a signal, at last with SIGKILL; give its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
            if number != signal.SIGKILL:
                # Suspended, it would not hear it.
                self.process.send_signal(signal.SIGCONT)
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self._dismiss_guard()
            self.process = None

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin:
                self._guard.stdin.close()
            self._guard = None


class KafkaCluster:
    """A cluster of Apache Kafka below `folder`, running from `start` (or `with`) to `stop`.

    Nodes are numbered from 1. Their logs are `folder/node-N/kafka.log`. `properties` are put on top
    of the nodes' own; `listeners` are further ones by name; `jvm` are the options of each node's
    Java runtime. Raises JarsUnavailableError where Java or the jars cannot be had.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 1,
        properties: Mapping[str, object] | None = None,
        listeners: Mapping[str, Listener] | None = None,
        jvm: Sequence[str] = TEST_JVM,
    ) -> None:
        self.folder = folder
        self.cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        java()
        class_path = jars()
        self._nodes = {
            number: KafkaNode(
                number, folder / f"node-{number}", class_path, jvm, list(listeners or {})
            )
            for number in range(1, nodes + 1)
        }
        self._listeners = dict(listeners or {})
        self._extra = dict(properties or {})
        self._admin: KafkaAdmin | None = None
        self._is_formatted = False

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all nodes, also of those that are down."""
        return ",".join(node.address for node in self._nodes.values())

    def servers(self, listener: str) -> str:
        """Give the addresses of all nodes at one of the further listeners."""
        ports = (node.listener_ports[listener] for node in self._nodes.values())
        return ",".join(f"127.0.0.1:{port}" for port in ports)

    @property
    def admin(self) -> KafkaAdmin:
        """Topics, offsets and messages of this cluster."""
        if self._admin is None:
            self._admin = KafkaAdmin(self.bootstrap_servers)
        return self._admin

    def node(self, number: int = 1) -> KafkaNode:
        """Give one node: its log, its process, its address."""
        return self._nodes[number]

    def start(self) -> Self:
        """Start every node that is not running, and wait until all serve."""
        if not self._is_formatted:
            for node in self._nodes.values():
                node.format(self.cluster_id, self._properties(node))
            self._is_formatted = True
        for node in self._nodes.values():
            node.spawn()
        self.wait_until_serving(*self._nodes)
        return self

    def start_node(self, number: int = 1) -> None:
        """Start one node on the data and the ports it had, and wait until it serves."""
        self._nodes[number].spawn()
        self.wait_until_serving(number)

    def kill(self, number: int = 1) -> None:
        """End a node with SIGKILL."""
        self._nodes[number].end(signal.SIGKILL)

    def stop_node(self, number: int = 1) -> None:
        """End a node with SIGTERM: it hands over what it leads, and closes its logs."""
        self._nodes[number].end(signal.SIGTERM)

    def restart(self, number: int = 1) -> None:
        """Kill a node and start it on the same data."""
        self.kill(number)
        self.start_node(number)

    def suspend(self, number: int = 1) -> None:
        """Freeze a node (SIGSTOP): its connections stay open, and nothing answers."""
        node = self._nodes[number]
        node.send(signal.SIGSTOP)
        if node.process is not None:
            process = psutil.Process(node.process.pid)
            _wait_for(
                lambda: process.status() == psutil.STATUS_STOPPED,
                f"node {number} to be suspended",
                _STOP_SECONDS,
            )

    def resume(self, number: int = 1) -> None:
        """Let a suspended node go on (SIGCONT)."""
        self._nodes[number].send(signal.SIGCONT)

    def heal(self) -> None:
        """Resume and start whatever a test left suspended or dead, and wait until all serve."""
        for node in self._nodes.values():
            if node.is_running:
                node.send(signal.SIGCONT)
        self.start()

    def stop(self) -> None:
        """End every node; the data stays."""
        running = [node for node in self._nodes.values() if node.is_running]
        # Nothing is kept, so nothing need be handed over: the last controllers could not anyway.
        for node in running:
            node.end(signal.SIGKILL)

    def leader(self, topic: str, partition: int = 0) -> int:
        """Give the number of the node that leads a partition (-1: none)."""
        metadata = self.admin.client.list_topics(topic, timeout=10)
        return int(metadata.topics[topic].partitions[partition].leader)

    def wait_until_serving(self, *numbers: int) -> None:
        """Wait until these nodes answer and the cluster counts them in.

        Raises RuntimeError with a node's log where it has ended.
        """
        for number in numbers:
            node = self._nodes[number]
            client = AdminClient({"bootstrap.servers": node.address, "log_level": 0})

            def serves(
                node: KafkaNode = node, client: AdminClient = client, number: int = number
            ) -> bool:
                if not node.is_running:
                    raise RuntimeError(
                        f"Kafka node {number} has ended:\n{node.log.read_text()[-4000:]}"
                    )
                try:
                    metadata = client.list_topics(timeout=1)
                except KafkaException:
                    return False
                # A node whose session is not valid yet is not among the brokers.
                return number in metadata.brokers

            _wait_for(serves, f"Kafka node {number} to serve; see {node.log}", _START_SECONDS)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _properties(self, node: KafkaNode) -> dict[str, object]:
        voters = ",".join(
            f"{each.number}@127.0.0.1:{each.controller_port}" for each in self._nodes.values()
        )
        replicas = min(3, len(self._nodes))
        further = "".join(
            f",{name}://127.0.0.1:{port}" for name, port in node.listener_ports.items()
        )
        return {
            **_PROPERTIES,
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT"
            + "".join(f",{name}:{each.protocol}" for name, each in self._listeners.items()),
            "node.id": node.number,
            "controller.quorum.voters": voters,
            "listeners": f"BROKER://{node.address}{further}"
            f",CONTROLLER://127.0.0.1:{node.controller_port}",
            "advertised.listeners": f"BROKER://{node.address}{further}",
            **{
                f"listener.name.{name.lower()}.{key}": value
                for name, each in self._listeners.items()
                for key, value in each.properties.items()
            },
            "log.dirs": node.folder / "data",
            "default.replication.factor": replicas,
            "min.insync.replicas": max(1, replicas - 1),
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": max(1, replicas - 1),
            **self._extra,
        }


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    candidates = random.SystemRandom()
    while len(ports) < count:
        port = candidates.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def _wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)
