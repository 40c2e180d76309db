"""What a client asks over HTTP, read off the wire: parameters, credentials, body, form, page."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sandbox.clickhouse_access import ADMINISTRATOR
from sandbox.clickhouse_engine import ClickHouseError
from sandbox.clickhouse_sessions import DEFAULT_TIMEOUT, LONGEST_TIMEOUT
from sandbox.clickhouse_wire import Decoder, decoder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

# A statement (an INSERT's rows are not part of it) has to fit into memory several times.
LONGEST_STATEMENT = 16 << 20
LONGEST_FORM = 64 << 20

# Parameters that are the HTTP interface's own; every other one is a setting of the query.
_INTERFACE_PARAMETERS = frozenset(
    {
        "buffer_size", "cancel_http_readonly_queries_on_client_close", "client_protocol_version",
        "close_session", "compress", "database", "decompress", "default_format",
        "enable_http_compression", "http_headers_progress_interval_ms", "http_make_head_request",
        "http_zlib_compression_level", "password", "query", "query_id", "quota_key", "role",
        "send_progress_in_http_headers", "session_check", "session_id", "session_timeout",
        "stacktrace", "user", "wait_end_of_query",
    }
)  # fmt: skip

_NUMBER = re.compile(r"[0-9]{1,18}")
# Seconds without a byte of the body, as in ClickHouse.
_RECEIVE_TIMEOUT = 30

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]+)"|([^\s;,"]+))""", re.IGNORECASE)
_DISPOSITION = re.compile(rb"content-disposition:([^\r\n]*)", re.IGNORECASE)
_PART_PARAMETER = re.compile(rb"""[;\s](name|filename)\*?=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))""")


class Disconnected(Exception):  # noqa: N818 - nothing is wrong on this side
    """The client went away."""


@dataclass(frozen=True)
class Request:
    """An HTTP request without its body."""

    method: str
    path: str
    headers: Mapping[str, str]
    parameters: Mapping[str, str]

    @classmethod
    def from_scope(cls, scope: Scope) -> Request:
        """Read the ASGI scope."""
        headers = {
            name.decode("latin-1").lower(): value.decode("utf-8", "surrogateescape")
            for name, value in scope["headers"]
        }
        query = scope["query_string"].decode("latin-1")
        pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
        return cls(scope["method"], scope["path"], headers, dict(pairs))

    def flag(self, name: str) -> bool:
        """Tell whether a parameter is on."""
        return self.parameters.get(name, "").lower() in ("1", "true")

    def number(self, name: str, default: int) -> int:
        """Read a parameter that is a whole number, not negative."""
        value = self.parameters.get(name, "")
        if value and not _NUMBER.fullmatch(value):
            raise ClickHouseError(36, "BAD_ARGUMENTS", f"{name}={value!r} is not a whole number")
        return int(value) if value else default

    @property
    def is_read_only(self) -> bool:
        """Tell whether the method by itself forbids changes."""
        return self.method != "POST"

    @property
    def is_form(self) -> bool:
        """Tell whether the body is a multipart form."""
        return self.headers.get("content-type", "").lower().startswith("multipart/form-data")

    @property
    def database(self) -> str:
        """The database for this request, '' for the session's."""
        return self.parameters.get("database") or self.headers.get("x-clickhouse-database", "")

    @property
    def default_format(self) -> str:
        """The format of a result whose statement does not name one."""
        return (
            self.parameters.get("default_format")
            or self.headers.get("x-clickhouse-format")
            or "TabSeparated"
        )

    @property
    def session_timeout(self) -> int:
        """How long the session outlives this request, in seconds; too long raises error 374."""
        seconds = self.number("session_timeout", DEFAULT_TIMEOUT)
        if seconds > LONGEST_TIMEOUT:
            raise ClickHouseError(
                374,
                "INVALID_SESSION_TIMEOUT",
                f"session_timeout={seconds} is more than {LONGEST_TIMEOUT} seconds",
            )
        return seconds

    def settings(self, form: Form) -> dict[str, str]:
        """Give the parameters that are settings of the query."""
        return {
            name: value
            for name, value in self.parameters.items()
            if name not in _INTERFACE_PARAMETERS
            and not name.startswith("param_")
            and not form.describes_table(name)
        }

    def credentials(self) -> tuple[str, str]:
        """Give user and password from the Authorization header, X-ClickHouse-* or the URL."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except ValueError:
                return "", ""
            return name, password
        if "x-clickhouse-user" in self.headers or "x-clickhouse-key" in self.headers:
            user = self.headers.get("x-clickhouse-user", ADMINISTRATOR)
            return user, self.headers.get("x-clickhouse-key", "")
        user = self.parameters.get("user") or ADMINISTRATOR
        return user, self.parameters.get("password", "")

    def refusal(self, names: frozenset[str]) -> str | None:
        """Say why this comes from a web page that is not this server's; None if it does not.

        A page can have its own name resolve to 127.0.0.1 (DNS rebinding: the Host header tells),
        or post to 127.0.0.1 without reading the answer (the Origin header tells). IP addresses,
        localhost and `names` are this server.
        """
        host = self.headers.get("host", "") or "localhost"
        if not _is_own(f"//{host}", names):
            return f"Host {host!r} is not this server: use its IP address or its --name\n"
        origin = self.headers.get("origin", "")
        if origin and not _is_own(origin, names):
            return "Requests from other web pages are refused\n"
        return None


def _is_own(address: str, names: frozenset[str]) -> bool:
    try:
        host = urlsplit(address).hostname
    except ValueError:  # brackets that hold no address
        return False
    if host is None:
        return False
    if host == "localhost" or host in names:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Body:
    """A request's body, decompressed as it arrives."""

    def __init__(self, request: Request, receive: Receive) -> None:
        self._receive = receive
        self._patience = request.number("http_receive_timeout", _RECEIVE_TIMEOUT) or None
        self._decoder: Decoder = decoder(
            request.headers.get("content-encoding", ""), request.flag("decompress")
        )
        self._pieces: Iterator[bytes] = iter(())
        self._more = True

    async def read(self) -> bytes:
        """Give the next piece, b"" at the end.

        A client that leaves raises Disconnected, one that sends nothing for long error 209.
        """
        while True:
            for piece in self._pieces:
                if piece:
                    return piece
            if not self._more:
                return b""
            message = await self._next_message()
            if message["type"] == "http.disconnect":
                raise Disconnected
            self._more = message.get("more_body", False)
            self._pieces = self._decode(message.get("body", b""), last=not self._more)

    async def _next_message(self) -> Message:
        try:
            async with asyncio.timeout(self._patience):
                return await self._receive()
        except TimeoutError:
            raise ClickHouseError(
                209,
                "SOCKET_TIMEOUT",
                f"Timeout exceeded while reading the body: nothing came for {self._patience} s",
            ) from None

    def _decode(self, data: bytes, last: bool) -> Iterator[bytes]:
        yield from self._decoder.feed(data)
        if last:
            self._decoder.finish()

    async def read_up_to(self, limit: int) -> tuple[bytes, bool]:
        """Read until about `limit` bytes are there; tell also whether that was all."""
        collected = bytearray()
        while len(collected) < limit:
            piece = await self.read()
            if not piece:
                return bytes(collected), True
            collected += piece
        return bytes(collected), False


@dataclass(frozen=True)
class ExternalTable:
    """A table that a form brings along for one query."""

    name: str
    format: str
    structure: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Form:
    """The fields and files of a multipart body."""

    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    async def read(cls, request: Request, body: Body) -> Form:
        """Read a multipart body whole."""
        data, complete = await body.read_up_to(LONGEST_FORM)
        if not complete:
            raise ClickHouseError(
                36, "BAD_ARGUMENTS", f"A form may have {LONGEST_FORM >> 20} MiB at most"
            )
        fields: dict[str, str] = {}
        files: dict[str, bytes] = {}
        for head, content in _parts(request.headers["content-type"], data):
            disposition = _DISPOSITION.search(head)
            found = _PART_PARAMETER.findall(disposition.group(1)) if disposition else []
            about = {kind: quoted or bare for kind, quoted, bare in found}
            name = about.get(b"name", b"").decode("utf-8", "surrogateescape")
            if b"filename" in about:
                files[name] = content
            else:
                fields[name] = content.decode("utf-8", "surrogateescape")
        return cls(fields, files)

    def describes_table(self, parameter: str) -> bool:
        """Tell whether a parameter says how one of the files is written."""
        table, _, what = parameter.rpartition("_")
        return table in self.files and what in ("format", "structure", "types")

    def external_tables(self, parameters: Mapping[str, str]) -> list[ExternalTable]:
        """Give the files as tables. Columns come from NAME_structure, or NAME_types (_1, _2 …)."""
        tables = []
        for name, data in self.files.items():
            structure = parameters.get(f"{name}_structure", "")
            if not structure:
                types = parameters.get(f"{name}_types", "")
                if not types:
                    raise ClickHouseError(
                        36, "BAD_ARGUMENTS", f"Table {name} needs {name}_structure or {name}_types"
                    )
                columns = enumerate(_split_types(types), start=1)
                structure = ", ".join(f"_{number} {kind}" for number, kind in columns)
            kind = parameters.get(f"{name}_format") or "TabSeparated"
            tables.append(ExternalTable(name, kind, structure, data))
        return tables


def _parts(content_type: str, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield head and content of each part of a multipart body."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise ClickHouseError(36, "BAD_ARGUMENTS", "The form's Content-Type names no boundary")
    mark = b"\r\n--" + (boundary[1] or boundary[2]).encode("utf-8", "surrogateescape")
    # Before the first mark stands nothing of ours, and so after the last, which has two dashes.
    for part in (b"\r\n" + data).split(mark)[1:]:
        if part.startswith(b"--"):
            return
        head, end_of_head, content = part.partition(b"\r\n\r\n")
        if not end_of_head:
            break
        yield head, content
    raise ClickHouseError(
        36, "BAD_ARGUMENTS", "The form is not whole: its last boundary is missing"
    )


def _split_types(types: str) -> list[str]:
    """Cut at the commas that are outside brackets."""
    parts, depth = [""], 0
    for character in types:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
