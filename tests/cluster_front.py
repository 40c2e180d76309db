"""A cluster of two shards in one engine, and what it was told, word by word.

The embedded engine has neither Keeper nor DDL for several nodes, and a table is in it once. What
only nodes can do is taken out of a statement on its way: replicated tables become plain ones. What
an engine does with its Distributed tables stays: it takes the two shards, which are both itself,
for its own, splits inserts by the sharding key and sends each query to both; a filter leaves to
each shard the rows that it would have on a machine of its own.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import urllib3

from tests.warehouse_fixtures import ClickHouseProcess

CLUSTER = "monitoring"
SHARDS = 2
ENVIRONMENT = {
    "DRIFTLINE_TARGET": "cluster",
    "CLICKHOUSE_CLUSTER": CLUSTER,
    "CLICKHOUSE_SHARDS": str(SHARDS),
    "CLICKHOUSE_REPLICAS": "1",
}

_SHARD = """<shard><internal_replication>true</internal_replication>
<replica><host>127.0.0.1</host><port>9000</port></replica></shard>"""
# The engine listens on no port, and takes the nodes of the port that it believes to be its own for
# itself.
_CONFIGURATION = (
    f"<clickhouse><tcp_port>9000</tcp_port><remote_servers><{CLUSTER}>{_SHARD * SHARDS}"
    f"</{CLUSTER}></remote_servers></clickhouse>"
)
# What one engine cannot do -> what it does in its place.
_ON_ONE_ENGINE = (
    (re.compile(r"\s+on\s+cluster\s+(\"\w+\"|`\w+`)", re.IGNORECASE), " "),
    (re.compile(r"Replicated(\w*MergeTree)\('[^']*',\s*'[^']*'(,\s*)?"), r"\1("),
    (re.compile(r"\breplicated_(deduplication_window = [1-9])"), r"non_replicated_\1"),
    (re.compile(r"\bsystem\s+sync\s+replica\b[^;]*", re.IGNORECASE), "select 1"),
)
_DISTRIBUTED = re.compile(
    rf"Distributed\(['`]{CLUSTER}['`], ['`](\w+)['`], ['`](\w+)['`]\s*, (.+?)\s*\)\s*$"
)
_NOT_FORWARDED = {"host", "content-length", "connection", "transfer-encoding", "accept-encoding"}


@dataclass
class ClusterFront:
    """The server to connect to, and what it was told so far, in order.

    `engine` is the server behind it, which takes statements as they are.
    """

    engine: ClickHouseProcess
    server: ClickHouseProcess
    statements: list[str] = field(default_factory=list)
    _shard_of: dict[str, str] = field(default_factory=dict)

    def on_one_engine(self, statement: str) -> str:
        """Note a statement, and give what the engine is to run in its place."""
        self.statements.append(statement)
        if distributed := _DISTRIBUTED.search(statement):
            database, table, key = distributed.groups()
            self._shard_of[f"{database}.{table}"] = key
        for pattern, replacement in _ON_ONE_ENGINE:
            statement = pattern.sub(replacement, statement)
        return statement

    @property
    def filters(self) -> str:
        """The setting that leaves to each shard its own rows of the sharded tables."""
        pairs = (
            f"'{table}': 'shardNum() = 0 or ({key}) % {SHARDS} = shardNum() - 1'"
            for table, key in list(self._shard_of.items())
        )
        return f"{{{', '.join(pairs)}}}"


@contextmanager
def cluster_front(folder: Path) -> Iterator[ClusterFront]:
    """Run a cluster over an empty folder, on a free port, while the context lasts."""
    configuration = folder / "data" / "configuration" / "engine.d"
    configuration.mkdir(parents=True)
    (configuration / "cluster.xml").write_text(_CONFIGURATION)
    engine = ClickHouseProcess(folder / "data")
    front = ClusterFront(engine, engine)
    service = ThreadingHTTPServer(("127.0.0.1", 0), _handler(front))
    service.daemon_threads = True
    thread = threading.Thread(target=service.serve_forever, args=(0.05,))
    try:
        engine.start()
        thread.start()
        front.server = replace(engine, port=service.server_port, variables=ENVIRONMENT)
        yield front
    finally:
        if thread.is_alive():
            service.shutdown()
            thread.join()
        service.server_close()
        engine.stop()


def _handler(front: ClusterFront) -> type[BaseHTTPRequestHandler]:
    pool = urllib3.PoolManager(maxsize=16)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer is one packet: by several small ones the client would wait for 40 ms.
        wbufsize = 65536

        def do_GET(self) -> None:
            self._forward(b"")

        def do_POST(self) -> None:
            self._forward(self._body())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def _forward(self, body: bytes) -> None:
            parts = urlsplit(self.path)
            parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
            if "query" in parameters:
                parameters["query"] = front.on_one_engine(parameters["query"])
            elif body and "Content-Encoding" not in self.headers:
                # Behind the statement there may be rows of any format.
                statement = front.on_one_engine(body.decode(errors="surrogateescape"))
                body = statement.encode(errors="surrogateescape")
            if parts.path == "/":
                parameters["additional_table_filters"] = front.filters
            answer = pool.request(
                str(self.command),
                f"{front.engine.url}{parts.path}?{urlencode(parameters)}",
                body=body or None,
                headers={
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in _NOT_FORWARDED
                },
                retries=False,
            )
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _NOT_FORWARDED:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.data)))
            self.end_headers()
            self.wfile.write(answer.data)

    return Handler
