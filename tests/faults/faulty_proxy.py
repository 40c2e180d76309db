"""A proxy between the loader and ClickHouse that breaks what it is told to break, and counts it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote_plus

_SECONDS = 120.0


@dataclass(frozen=True)
class Fault:
    """What becomes of an insert.

    `kind`: `cut` passes half of the body on and breaks both connections; `lose_answer` passes all
    of it on and breaks off after the server's answer came; `hang` answers nothing until the proxy
    ends; `answer` gives ClickHouse's exception `code` instead of passing it on. `then` is called
    when that has happened.
    """

    kind: str
    code: int = 0
    then: Callable[[], None] = lambda: None


@dataclass
class FaultyProxy:
    """Passes requests on; each INSERT into `table` takes a fault off the list while there is one.

    `happened` are the faults that came about, so that a test can prove that its own did.
    """

    port: int
    upstream: Callable[[], int]
    table: str
    faults: list[Fault] = field(default_factory=list)
    happened: list[Fault] = field(default_factory=list)
    inserts: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, path: str, body: bytes) -> Fault | None:
        """Give the fault for a request, if it is to have one."""
        # The client puts the statement into the address or before the data.
        statement = unquote_plus(path) + body[:1000].decode(errors="replace")
        if "insert into" not in statement.lower() or self.table not in statement:
            return None
        with self.lock:
            self.inserts += 1
            return self.faults.pop(0) if self.faults else None


@contextmanager
def faulty_proxy(upstream: Callable[[], int], table: str, *faults: Fault) -> Iterator[FaultyProxy]:
    """Run a proxy to the port that `upstream` gives, on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            body = self._body()
            fault = proxy.take(self.path, body)
            if fault is None:
                self._pass_on(body)
                return
            getattr(self, f"_{fault.kind}")(body, fault)
            with proxy.lock:
                proxy.happened.append(fault)
            fault.then()

        do_GET = do_POST = handle_request  # noqa: N815 - the names that http.server wants

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _request(self, body: bytes, sent: int | None = None) -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection("127.0.0.1", proxy.upstream(), timeout=_SECONDS)
            connection.putrequest(self.command, self.path, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "host"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            connection.send(body[:sent])
            return connection

        def _pass_on(self, body: bytes) -> None:
            try:
                connection = self._request(body)
                answer = connection.getresponse()
                content = answer.read()
            except OSError:
                # The server is down: so is the way to it.
                self._break()
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        def _break(self) -> None:
            self.close_connection = True
            self.connection.close()

        def _cut(self, body: bytes, _fault: Fault) -> None:
            self._request(body, len(body) // 2).close()
            self._break()

        def _lose_answer(self, body: bytes, _fault: Fault) -> None:
            connection = self._request(body)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            connection.close()
            self._break()

        def _hang(self, _body: bytes, fault: Fault) -> None:
            with proxy.lock:
                proxy.happened.append(fault)
            proxy.ended.wait(_SECONDS)
            self._break()

        def _answer(self, _body: bytes, fault: Fault) -> None:
            content = f"Code: {fault.code}. DB::Exception: told to fail. (TEST)".encode()
            self.send_response(500)
            self.send_header("X-ClickHouse-Exception-Code", str(fault.code))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

        def finish(self) -> None:
            with suppress(OSError, ValueError):  # a connection that was broken on purpose
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    proxy = FaultyProxy(server.server_port, upstream, table, list(faults))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
