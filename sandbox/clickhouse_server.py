"""The sandbox's ClickHouse: its HTTP interface over one embedded engine.

For a first try on a laptop and for tests, not for production: one process, one engine, no TLS,
no replication. `python -m sandbox.clickhouse_server --data FOLDER --port 8123`. Passwords come
from SANDBOX_CLICKHOUSE_PASSWORD (user `default`) and SANDBOX_ANALYST_PASSWORD (user `analyst`,
who only reads and exists only with a password).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import uvicorn
from h11 import LocalProtocolError

from sandbox.clickhouse_access import (
    ADMINISTRATOR,
    ANALYST,
    Accounts,
    User,
    check_analyst_statement,
    check_role,
)
from sandbox.clickhouse_engine import ClickHouseError, Connection, Engine, Progress
from sandbox.clickhouse_reply import PIECE, Reply, ResultPipe, Send, result_headers, status_of
from sandbox.clickhouse_request import (
    LONGEST_STATEMENT,
    Body,
    Disconnected,
    ExternalTable,
    Form,
    Receive,
    Request,
    Scope,
)
from sandbox.clickhouse_sessions import Lease, Sessions
from sandbox.clickhouse_statement import (
    InsertHead,
    first_word,
    identifier,
    insert_head,
    is_select,
    quote,
    select_tail,
    write_into,
)
from sandbox.clickhouse_wire import negotiate

logger = logging.getLogger("sandbox.clickhouse")

Result = TypeVar("Result")

# An INSERT's head is looked for in this much of the body.
_LONGEST_INSERT_HEAD = 1 << 20
# So much of a result is held back, so that an error up to there still has a status of its own.
_HELD_BACK = 1 << 20
_IN_MEMORY = 8 << 20
# The request line and headers together, in bytes, as in ClickHouse.
_LONGEST_HEAD = 1 << 20
# How long statements have to end when the server does, as in ClickHouse.
_STOP_SECONDS = 5
# For 64 clients, of which each may have left one that is not yet stopped.
_MOST_QUERIES = 128


@dataclass
class Query:
    """One statement on its way through the server."""

    query_id: str
    text: bytes
    lease: Lease
    output_format: str
    parameters: Mapping[str, str]
    settings: Mapping[str, str]
    database: str
    # The engine gives every statement an id of its own. This one, at the end of its log_comment,
    # is ours.
    tag: str = field(default_factory=lambda: f"[{uuid.uuid4()}]")


class ClickHouseServer:
    """The ASGI application.

    `most_queries` run at a time, further ones are refused with status 503; `names` are the host
    names it goes by besides IP addresses and localhost.
    """

    def __init__(
        self,
        engine: Engine,
        accounts: Accounts,
        most_queries: int = _MOST_QUERIES,
        names: frozenset[str] = frozenset(),
    ) -> None:
        self._engine = engine
        self._accounts = accounts
        self._sessions = Sessions(engine)
        self._most_queries = most_queries
        self._names = names
        # A query occupies one thread; a few more keep KILL QUERY and errors going.
        self._threads = ThreadPoolExecutor(most_queries + 8, thread_name_prefix="clickhouse")
        self._in_flight = 0
        self._running: dict[str, Query] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"this server speaks HTTP only, not {scope['type']}")
        try:
            await self._serve(Request.from_scope(scope), receive, send)
        except LocalProtocolError:
            # What came after the head was not HTTP, and uvicorn has said so.
            logger.info("a request whose body is not HTTP")

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        refusal = request.refusal(self._names)
        asks = request.path in ("/", "/query")
        if refusal:
            await _plain(send, 403, refusal)
        elif request.path in ("/ping", "/replicas_status"):
            await _plain(send, 200, "Ok.\n")
        elif not asks:
            await _plain(send, 404, f"There is no handle {request.path}\n")
        elif request.method not in ("GET", "HEAD", "POST"):
            await _plain(send, 405, "Use GET or POST\n")
        elif request.is_read_only and "query" not in request.parameters:
            await _plain(send, 200, "Ok.\n")
        else:
            await self._answer(request, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _stop(self) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        while self._in_flight:
            with contextlib.suppress(ClickHouseError):
                await self._in_thread(self._engine.kill_all)
            if time.monotonic() > deadline:
                # One that waits for another host cannot be stopped. What was acknowledged is safe.
                logger.warning("%d statements do not stop: ending without them", self._in_flight)
                os._exit(0)
            await asyncio.sleep(0.05)
        self._threads.shutdown()
        self._sessions.close()
        self._engine.close()

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        """Run a blocking call. Even when cancelled, wait for it: its connection is in use."""
        calling = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(calling)
        except asyncio.CancelledError:
            await asyncio.wait({calling})
            calling.exception()
            raise

    async def _answer(self, request: Request, receive: Receive, send: Send) -> None:
        query_id = request.parameters.get("query_id") or str(uuid.uuid4())
        tag = secrets.token_hex(8)
        headers = {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Server-Display-Name": "driftline-sandbox",
            "X-ClickHouse-Timezone": self._engine.time_zone,
            "X-ClickHouse-Exception-Tag": tag,
        }
        reply = Reply(send, _compression(request), headers)
        started = time.monotonic()
        self._in_flight += 1
        try:
            user = self._accounts.authenticate(*request.credentials())
            self._refuse_overload()
            await self._run(request, user, query_id, receive, reply)
            # Only now, with its session free again, may the client know that it is done.
            await reply.finish()
            logger.debug("%r by %s: %.3f s", query_id, user.name, time.monotonic() - started)
        except Disconnected:
            logger.info("%r: the client went away", query_id)
        except asyncio.CancelledError:
            aborted = ClickHouseError(236, "ABORTED", "The server is shutting down")
            await self._write_error(reply, aborted, tag)
        except ClickHouseError as error:
            logger.info("%r: error %d (%s)", query_id, error.code, error.name)
            await self._write_error(reply, error, tag)
        finally:
            self._in_flight -= 1

    def _refuse_overload(self) -> None:
        if self._in_flight > self._most_queries:
            raise ClickHouseError(
                202,
                "TOO_MANY_SIMULTANEOUS_QUERIES",
                f"Too many simultaneous queries. Maximum: {self._most_queries}",
            )

    async def _write_error(self, reply: Reply, error: ClickHouseError, tag: str) -> None:
        text = f"{error} (version {self._engine.version})\n".encode("utf-8", "replace")
        if reply.started:
            # The status is gone: ClickHouse's own mark says that the result is not whole.
            await reply.write(
                b"__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n"
                % (tag.encode(), text, len(text), tag.encode())
            )
            await reply.flush()
            return  # without an end: uvicorn breaks the connection off, so every client notices
        headers = {
            "X-ClickHouse-Exception-Code": str(error.code),
            "Content-Type": "text/plain; charset=UTF-8",
        }
        if error.code in (194, 516):
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        reply.start(status_of(error), headers)
        await reply.write(text)
        await reply.finish()

    async def _run(
        self, request: Request, user: User, query_id: str, receive: Receive, reply: Reply
    ) -> None:
        body = Body(request, receive)
        form = Form()
        complete = True
        if request.is_form:
            form = await Form.read(request, body)
            text = form.fields.get("query", "").encode("utf-8", "surrogateescape")
        else:
            text, complete = await body.read_up_to(_LONGEST_INSERT_HEAD)
        url_query = request.parameters.get("query", "").encode("utf-8", "surrogateescape")
        if url_query:
            text = url_query + b"\n" + text
        head = insert_head(text)
        if head is None and not complete:
            rest, complete = await body.read_up_to(LONGEST_STATEMENT)
            if not complete:
                raise ClickHouseError(
                    62,
                    "SYNTAX_ERROR",
                    f"The statement is longer than {LONGEST_STATEMENT >> 20} MiB: "
                    "send rows with INSERT … FORMAT",
                )
            text += rest
        check_role(user, request.parameters.get("role", ""))
        timeout = request.session_timeout
        lease = await self._in_thread(
            lambda: self._sessions.lend(
                user,
                request.parameters.get("session_id", ""),
                timeout,
                request.flag("session_check"),
            )
        )
        lease.ends_session = request.flag("close_session")
        given = {**request.parameters, **form.fields}
        query = Query(
            query_id,
            text,
            lease,
            request.default_format,
            {
                name.removeprefix("param_"): value
                for name, value in given.items()
                if name.startswith("param_")
            },
            request.settings(form),
            request.database,
        )
        if query_id in self._running:
            await self._finish(lease)
            raise ClickHouseError(
                216,
                "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
                f"Query with id = {query_id} is already running.",
            )
        self._running[query_id] = query
        try:
            tables = form.external_tables(given)
            after = await self._in_thread(lambda: self._prepare(query, request, head, tables))
            if head is not None and head.input_call:
                await self._insert_select(query, head, body, reply)
            elif head is not None:
                await self._insert(query, head, body, reply)
            elif is_select(query.text):
                await self._select(query, request, receive, reply)
            else:
                await self._execute(query, reply)
            if after is not None:
                await self._in_thread(after)
        finally:
            del self._running[query_id]
            await self._finish(lease)

    async def _finish(self, lease: Lease) -> None:
        await self._in_thread(lambda: self._sessions.give_back(lease))

    def _prepare(
        self, query: Query, request: Request, head: InsertHead | None, tables: list[ExternalTable]
    ) -> Callable[[], None] | None:
        """Check that the user may run the statement, and set its connection up.

        Gives what is to be done after it has run.
        """
        lease, connection = query.lease, query.lease.connection
        kind = "MUTATING"
        if head is None:
            verdict = connection.classify(query.text)
            kind = verdict.kind
            if verdict.count > 1:
                raise ClickHouseError(
                    62, "SYNTAX_ERROR", "Multi-statements are not allowed: send one at a time"
                )
            if kind == "UNKNOWN":
                if not query.text.strip():
                    raise ClickHouseError(62, "SYNTAX_ERROR", "Syntax error: Empty query")
                connection.canonical(query.text)  # says where the syntax is wrong
        changes_session = kind == "CONTROL" and first_word(query.text) in (b"SET", b"USE")
        if kind == "CONTROL" and not changes_session:
            _refuse_what_no_server_does(connection.canonical(query.text))
        if request.is_read_only and kind != "READ_ONLY" and not changes_session:
            raise ClickHouseError(
                164,
                "READONLY",
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies "
                "readonly. You should use method POST for modifying queries.",
            )
        settings = dict(query.settings)
        freeze = False
        if lease.user.is_analyst:
            statement = check_analyst_statement(connection, query.text)
            settings.update(statement.settings)
            freeze = statement.changes_settings
            if tables:
                raise ClickHouseError(164, "READONLY", "The analyst may not bring tables along")
        if head is None:
            query.output_format = select_tail(query.text).format or query.output_format
        if first_word(query.text) == b"KILL":
            query.text = self._with_engine_ids(query.text)
        settings["log_comment"] = settings.get("log_comment", "") + query.tag
        for table in tables:
            lease.tables.append(table.name)
            _create_external_table(connection, table)
        self._sessions.prepare(lease, settings, query.parameters, query.database, freeze)
        if not changes_session:
            return None
        return lambda: self._sessions.after_session_statement(lease, query.text)

    def _with_engine_ids(self, statement: bytes) -> bytes:
        """Put the engine's ids into a KILL QUERY that names statements by their clients' ids."""
        for query_id, other in list(self._running.items()):
            literal = quote(query_id)
            if literal in statement:
                engine_id = self._engine.running(other.tag)
                if engine_id:
                    statement = statement.replace(literal, quote(engine_id))
        return statement

    async def _insert(self, query: Query, head: InsertHead, body: Body, reply: Reply) -> None:
        """Push an INSERT's rows into the engine as they arrive."""
        connection = query.lease.connection
        insert = await self._in_thread(lambda: connection.insert(head.statement, head.format))
        try:
            piece = query.text[head.data_start :] or await body.read()
            while piece:
                await self._in_thread(partial(insert.append, piece))
                piece = await body.read()
            progress = await self._in_thread(insert.finish)
        except BaseException:
            await self._in_thread(insert.cancel)
            raise
        reply.start(200, result_headers("", progress))

    async def _insert_select(
        self, query: Query, head: InsertHead, body: Body, reply: Reply
    ) -> None:
        """Run INSERT … SELECT … FROM input(…), over a file: the engine has no other way in."""
        with tempfile.NamedTemporaryFile(dir=self._engine.spool) as rows:
            piece = query.text[head.data_start :] or await body.read()
            while piece:
                rows.write(piece)
                piece = await body.read()
            rows.flush()
            statement = head.reading(rows.name)
            _, progress = await self._in_thread(lambda: query.lease.connection.query(statement))
        reply.start(200, result_headers("", progress))

    async def _execute(self, query: Query, reply: Reply) -> None:
        """Run a statement that has no result, or a small one."""
        asked = query.output_format
        data, progress = await self._in_thread(
            lambda: query.lease.connection.query(query.text, asked)
        )
        reply.start(200, result_headers(asked, progress))
        for start in range(0, len(data), PIECE):
            await reply.write(bytes(data[start : start + PIECE]))

    async def _select(self, query: Query, request: Request, receive: Receive, reply: Reply) -> None:
        asked = query.output_format
        pipe = ResultPipe(self._engine.spool)

        def run() -> Progress:
            try:
                text = write_into(query.text, str(pipe.path), asked)
                return query.lease.connection.query(text, asked)[1]
            finally:
                pipe.end()

        await pipe.open()
        running = self._threads.submit(run)
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await self._pass_on(pipe, running, gone, asked, request, reply)
        except BaseException:
            await pipe.close()
            await asyncio.shield(self._cancel(query, running))
            raise
        finally:
            gone.cancel()
            await pipe.close()

    async def _pass_on(
        self,
        pipe: ResultPipe,
        running: Future[Progress],
        gone: asyncio.Task[None],
        asked: str,
        request: Request,
        reply: Reply,
    ) -> None:
        """Send what comes through the pipe, after holding back the first of it (or all)."""
        wait_for_all = request.flag("wait_end_of_query")
        hold_back = max(request.number("buffer_size", _HELD_BACK), _HELD_BACK)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._engine.spool)) as held:
            size = 0
            ended = False
            while not ended and (wait_for_all or size < hold_back):
                piece = await _unless(gone, pipe.read())
                held.write(piece)
                size += len(piece)
                ended = not piece
            progress = await asyncio.wrap_future(running) if ended else Progress()
            reply.start(200, result_headers(asked, progress))
            held.seek(0)
            while piece := held.read(PIECE):
                await reply.write(piece)
        while not ended:
            piece = await _unless(gone, pipe.read())
            if piece:
                await reply.write(piece)
            ended = not piece
        await asyncio.wrap_future(running)

    async def _cancel(self, query: Query, running: Future[Progress]) -> None:
        """Stop a statement, and wait until the engine has let go of its connection."""
        ended = asyncio.wrap_future(running)
        while not ended.done():
            with contextlib.suppress(ClickHouseError):  # a KILL may itself be killed
                await self._in_thread(lambda: self._engine.kill(query.tag))
            await asyncio.wait({ended}, timeout=0.1)
        ended.exception()  # either the one that led here, or that it was stopped


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless(gone: asyncio.Task[None], reading: Awaitable[bytes]) -> bytes:
    task = asyncio.ensure_future(reading)
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    if gone.done():
        task.cancel()
        raise Disconnected
    return task.result()


def _refuse_what_no_server_does(canonical: bytes) -> None:
    if b"\nINTO OUTFILE " in canonical:  # in a literal the line end would be written as \\n
        raise ClickHouseError(48, "NOT_IMPLEMENTED", "INTO OUTFILE is for clients only")
    if canonical in (b"SYSTEM SHUTDOWN", b"SYSTEM KILL"):
        # The engine would signal the whole process group, whoever else is in it.
        raise ClickHouseError(48, "NOT_IMPLEMENTED", "Stop the sandbox's server with SIGTERM")


def _create_external_table(connection: Connection, table: ExternalTable) -> None:
    name = identifier(table.name)
    structure = table.structure.encode("utf-8", "surrogateescape")
    connection.query(b"CREATE OR REPLACE TEMPORARY TABLE " + name + b" (" + structure + b")")
    insert = connection.insert(b"INSERT INTO " + name, table.format)
    try:
        insert.append(table.data)
        insert.finish()
    except ClickHouseError:
        insert.cancel()
        raise


def _compression(request: Request) -> str:
    if request.flag("compress"):
        return "blocks"
    if request.flag("enable_http_compression"):
        return negotiate(request.headers.get("accept-encoding", ""))
    return ""


async def _plain(send: Send, status: int, text: str) -> None:
    reply = Reply(send, "", {"Content-Type": "text/html; charset=UTF-8"})
    reply.start(status, {})
    await reply.write(text.encode())
    await reply.finish()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay, 40 ms a query, off only where the protocol is spelled out.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(256)
    return listener


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    """Stop when whoever holds the other end of standard input is gone, however that came."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.should_exit = True


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.clickhouse_server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the databases")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on: %(default)s")
    parser.add_argument("--port", type=int, default=8123, help="0 for a free one: %(default)s")
    parser.add_argument("--port-file", type=Path, help="file to write the port into")
    parser.add_argument("--name", action="append", default=[], help="host name to answer to")
    parser.add_argument(
        "--with-parent", action="store_true", help="stop when standard input ends, too"
    )
    parser.add_argument("--memory", type=int, help="bytes that the engine may use")
    parser.add_argument(
        "--most-queries", type=int, default=_MOST_QUERIES, help="at a time: %(default)s"
    )
    options = parser.parse_args(arguments)
    try:
        options.is_local = ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        parser.error(f"--host {options.host}: give an IP address, such as 127.0.0.1")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT; give the exit status."""
    options = _parse(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    password = os.environ.get("SANDBOX_CLICKHOUSE_PASSWORD", "")
    if not password and not options.is_local:
        logger.error(
            "--host %s is reachable from other machines: set SANDBOX_CLICKHOUSE_PASSWORD, "
            "or listen on 127.0.0.1",
            options.host,
        )
        return 2
    passwords = {ADMINISTRATOR: password}
    if os.environ.get("SANDBOX_ANALYST_PASSWORD"):
        passwords[ANALYST] = os.environ["SANDBOX_ANALYST_PASSWORD"]
    port_file = options.port_file.absolute() if options.port_file else None
    listener = _listen(options.host, options.port)
    port = listener.getsockname()[1]
    engine = Engine(options.data, options.memory)  # changes the current folder
    application = ClickHouseServer(
        engine, Accounts(passwords), options.most_queries, frozenset(options.name)
    )
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            # Not httptools: it drops the body of a request that offers HTTP/2, as Java does.
            http="h11",
            h11_max_incomplete_event_size=_LONGEST_HEAD,
            # Never uvloop, which uvicorn takes where it is installed: it closes the descriptor of
            # a pipe twice, the second time perhaps a file that the engine has opened meanwhile.
            loop="asyncio",
            ws="none",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            timeout_keep_alive=75,
        )
    )
    if port_file:
        unfinished = port_file.with_name(port_file.name + ".unfinished")
        unfinished.write_text(f"{port}\n")
        unfinished.replace(port_file)
    logger.info("ClickHouse %s on http://%s:%d", engine.version, options.host, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it is done: this process then just ends.
        signal.signal(number, server.handle_exit)
    if options.with_parent:
        threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    server.run(sockets=[listener])
    logger.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
