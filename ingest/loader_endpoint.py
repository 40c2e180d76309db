"""What a loader tells those who watch it, over HTTP: /metrics, /healthz and /readyz.

Prometheus text by prometheus_client; nothing here can slow the loader down: scrapes read its state,
and the broker is asked about lag by a thread of its own.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ingest.loader_report import LoaderStatus, LoadReport

_log = logging.getLogger("driftline.loader")

STATES = ("locating", "reading", "waiting", "halted")
_BROKER_EVERY_SECONDS = 5.0
# Longer than a loader may wait for an insert when a partition is taken away.
_STUCK_SECONDS = 120.0
_CLIENT_SECONDS = 10.0


class EndpointError(Exception):
    """The address cannot be had. The message names it."""


HighWatermarks = Mapping[tuple[str, int], int]


class HighWatermarkReader:
    """Asks the broker every few seconds for the offset after the last one of each partition.

    `read` gives it for (topic, partition)s, and `reach` asks for anything: what is done where there
    are none. Both may fail with KafkaException, which `is_answered` then says.
    """

    def __init__(
        self,
        read: Callable[[Iterable[tuple[str, int]]], HighWatermarks],
        partitions: Callable[[], Iterable[tuple[str, int]]],
        *,
        reach: Callable[[], object] = lambda: None,
        every_seconds: float = _BROKER_EVERY_SECONDS,
    ) -> None:
        self._read = read
        self._partitions = partitions
        self._reach = reach
        self._every_seconds = every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="driftline-lag", daemon=True)
        self.found: HighWatermarks = {}
        self.is_answered = False

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Stop asking; waits for the answer under way."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                partitions = list(self._partitions())
                if not partitions:
                    self._reach()
                self.found = self._read(partitions)
                self.is_answered = True
            except KafkaException:
                self.is_answered = False
            self._ended.wait(self._every_seconds)


class LoaderCollector(Collector):
    """Gives a loader's metrics, read anew at each scrape.

    `now` is the time in seconds since 1970.
    """

    def __init__(
        self,
        report: LoadReport,
        status: Callable[[], LoaderStatus],
        watermarks: HighWatermarkReader,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._report = report
        self._status = status
        self._watermarks = watermarks
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Give every metric that docs/ingest.md lists."""
        yield from self._totals()
        yield from self._by_partition()

    def _totals(self) -> Iterator[Metric]:
        report = self._report
        for what, help_text in (
            ("rows", "Messages landed."),
            ("bytes", "Bytes of keys and values landed."),
            ("batches", "Inserts that landed."),
        ):
            landed = CounterMetricFamily(f"driftline_loader_{what}", help_text, labels=["topic"])
            for (topic, counted), amount in list(report.landed.items()):
                if counted == what:
                    landed.add_metric([topic], amount)
            yield landed
        inserts = SummaryMetricFamily(
            "driftline_loader_insert_seconds", "Inserts, from sending to having looked."
        )
        inserts.add_metric([], count_value=report.batches, sum_value=report.insert_seconds)
        yield inserts
        retries = CounterMetricFamily(
            "driftline_loader_retries", "Failures by ClickHouse's or Kafka's code.", labels=["code"]
        )
        for code, amount in list(report.retries.items()):
            retries.add_metric([code], amount)
        yield retries
        lost = CounterMetricFamily(
            "driftline_loader_lost_messages",
            "Messages that the broker dropped before they were read.",
            labels=["topic"],
        )
        by_topic: dict[str, int] = {}
        for partition, gap in list(report.gaps):
            by_topic[partition.topic] = by_topic.get(partition.topic, 0) + len(gap)
        for topic, amount in by_topic.items():
            lost.add_metric([topic], amount)
        yield lost
        for name, help_text, amount in (
            ("replayed_batches", "Batches that a found intent has cut.", report.replayed),
            ("repaired_rows", "Rows inserted under a salted token.", report.repaired),
            ("skipped_messages", "Messages read that had landed already.", report.skipped),
            ("rereads", "Times that the table had lost rows.", report.rereads),
            ("pauses", "Times that reading stopped because memory was full.", report.pauses),
        ):
            yield CounterMetricFamily(f"driftline_loader_{name}", help_text, value=amount)

    def _by_partition(self) -> Iterator[Metric]:
        partitions = self._status().partitions
        lag = GaugeMetricFamily(
            "driftline_loader_lag_messages",
            "The broker's high watermark less what has landed.",
            labels=["topic", "partition"],
        )
        oldest = GaugeMetricFamily(
            "driftline_loader_oldest_unlanded_seconds",
            "Age of the oldest message that has not landed.",
            labels=["topic", "partition"],
        )
        for each in partitions:
            labels = [each.topic, str(each.partition)]
            high = self._watermarks.found.get((each.topic, each.partition))
            behind = None
            if high is not None and each.landed_end is not None:
                behind = max(0, high - each.landed_end)
                lag.add_metric(labels, behind)
            # Nothing is held while memory is full or the server is down: then what comes next is
            # at most as old as what landed last.
            since = each.oldest_buffered or (each.last_landed if behind else None)
            if since is not None:
                oldest.add_metric(labels, max(0.0, self._now() - since / 1000))
            elif behind == 0:
                oldest.add_metric(labels, 0)
        yield lag
        yield oldest
        states = GaugeMetricFamily(
            "driftline_loader_partitions", "Assigned partitions by state.", labels=["state"]
        )
        for state in STATES:
            states.add_metric([state], sum(each.state == state for each in partitions))
        yield states
        yield GaugeMetricFamily(
            "driftline_loader_buffered_bytes",
            "Memory that messages take which have not landed.",
            value=sum(each.buffered_bytes for each in partitions),
        )
        yield GaugeMetricFamily(
            "driftline_loader_broker_up",
            "Whether the broker answered when it was last asked for lag.",
            value=self._watermarks.is_answered,
        )


def health(status: LoaderStatus) -> list[str]:
    """Give why the loader must be restarted; nothing where it need not."""
    if status.seconds_since_turn > _STUCK_SECONDS:
        return [f"the loop has stood still for {status.seconds_since_turn:.0f} s"]
    return []


def readiness(status: LoaderStatus) -> list[str]:
    """Give why not everything lands, a line for each reason; nothing where all is well."""
    reasons = health(status)
    if not status.has_assignment:
        reason = "the group has not given this loader its partitions yet"
        reasons.append(reason + (f": {status.broker_problem}" if status.broker_problem else ""))
    for each in status.partitions:
        if each.state != "reading":
            reason = f"{each.topic}[{each.partition}] is {each.state}"
            # A line each: ClickHouse's errors may have several.
            problem = " ".join((each.problem or "").split())
            reasons.append(reason + (f": {problem}" if problem else ""))
    return reasons


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # Without HTTPServer's own: it asks the DNS for a name that nobody here needs.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        error = sys.exception()
        # A client that has gone away, or says nothing, is no news.
        if not isinstance(error, OSError):
            _log.error("a request for metrics or health failed", exc_info=error)


@contextmanager
def served(
    address: tuple[str, int], registry: CollectorRegistry, status: Callable[[], LoaderStatus]
) -> Iterator[int]:
    """Serve the three paths on `address` while the context lasts; gives the port.

    Raises EndpointError where the address cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        # Who says nothing for so long does not keep a thread.
        timeout = _CLIENT_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, encode(registry), content_type)
            elif path in ("/healthz", "/readyz"):
                reasons = (health if path == "/healthz" else readiness)(status())
                text = "\n".join(reasons or ["ok"]) + "\n"
                self._answer(503 if reasons else 200, text.encode(), "text/plain; charset=utf-8")
            else:
                self._answer(404, b"/metrics, /healthz, /readyz\n", "text/plain")

        def _answer(self, code: int, body: bytes, content_type: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: Any) -> None:
            """Say nothing: a scrape every few seconds is no news."""

    try:
        server = _Server(address, Handler)
    except OSError as error:
        raise EndpointError(
            f"cannot listen on {address[0]} port {address[1]}: {error.strerror}. Choose another "
            "address with --listen; port 0 takes a free one"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="driftline-endpoint", daemon=True)
    thread.start()
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    _log.info("metrics on http://%s:%d/metrics", host, server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
