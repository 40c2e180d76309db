"""Requests as no honest client sends them, for hypothesis to choose from."""

from __future__ import annotations

import bz2
import gzip
import http.client
import lzma
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

import brotli
import lz4.frame
import zstandard
from hypothesis import strategies as st

from sandbox.clickhouse_wire import encoder
from tests.sandbox.clickhouse_http import Answer, PlainHttp
from tests.warehouse_fixtures import ClickHouseProcess

# Whoever waits for so long for an answer waits for ever. In seconds.
PATIENCE = 60

# Bytes that mean something somewhere: in HTTP, forms, SQL, formats, UTF-8, lengths.
TELLING = (
    *(
        b"\0",
        b"\xff" * 8,
        b"\x80" * 10,
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"--",
        b'"',
        b"'",
        b"`",
        b"\\",
    ),
    *(b"%", b"%00", b"%ff", b"&", b"=", b";", b":", b"[", b"]", b"{", b"}", b"(", b"/*", b"{{p"),
    *(
        b"-1",
        b"0",
        b"18446744073709551616",
        b"9" * 5000,
        b"1e400",
        b"nan",
        b"\xed\xa0\x80",
        b"\xc3",
    ),
)
# Nothing in here changes anything or takes long, whatever becomes of it.
STATEMENTS = (
    b"select 1",
    b"select {p:UInt8} from system.one format JSON",
    b"select a, b from hostile.kept where b = 'x' order by a limit 1 format CSV",
    b"with (select 1) as one select one, 'it''s', \"a\".b, `c` from system.one as a",
    b"insert into hostile.dropped (a, b) format CSV\n1,x\n2,y\n",
    b"insert into hostile.dropped values (1, 'x'), ({p:UInt8}, 'y')",
    b"insert into hostile.dropped select a, b from input('a UInt32, b String') format TSV\n1\tx\n",
    b"explain select 1",
    b"show databases",
    b"describe table hostile.kept",
    b"exists table hostile.kept",
    b"set max_block_size = 100",
    b"use hostile",
    b"",
)
PARAMETERS = (
    *("query", "database", "query_id", "session_id", "session_timeout", "session_check", "role"),
    *("quota_key", "wait_end_of_query", "buffer_size", "compress", "decompress", "close_session"),
    *("enable_http_compression", "send_progress_in_http_headers", "default_format", "param_p"),
    *("user", "password", "max_block_size", "readonly", "profile", "log_comment", "param_", ""),
    *("brought_structure", "brought_types", "brought_format", "no_such_setting", "stacktrace"),
)
HEADERS = (
    *("Host", "Origin", "Authorization", "X-ClickHouse-User", "X-ClickHouse-Key", "Expect"),
    *("X-ClickHouse-Database", "X-ClickHouse-Format", "Content-Type", "Content-Encoding"),
    *("Accept-Encoding", "Connection", "Upgrade", "Range", "Cookie", "X-Forwarded-For"),
)
HEADER_VALUES = (
    *(b"", b"localhost", b"[::1", b"[x]", b"a@b:c", b"127.0.0.1:99999999", b"null", b"http://["),
    *(b"Basic", b"Basic !!!", b"Basic \xff", b"Basic YQ==", b"Bearer x", b"Negotiate"),
    *(
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=B",
    ),
    *(b"gzip", b"br", b"zstd", b"lz4", b"deflate", b"xz", b"bz2", b"snappy", b"gzip;q=x", b"*"),
    *(b"close", b"upgrade", b"websocket", b"h2c", b"100-continue", b"TE", b"CSV", b"ArrowTable"),
)
VALUES = (
    *(b"0", b"1", b"-1", b"true", b"7" * 5000, b"\xd9\xa1", b"\xff", b"\0", b"system", b"hostile"),
    *(b"JSON", b"Native", b"DataFrame", b"Null", b"no such", b"a UInt8", b"UInt8, String", b"a"),
    *(b"administrator", b"default", b"analyst", b"'", b"`", b"\\", b"{}", b"a\r\nb", b"\xc3\x28"),
)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.compress,
    "br": brotli.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
FORM = (
    b"--B\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nselect count() from brought\r\n"
    b'--B\r\nContent-Disposition: form-data; name="brought"; filename="x"\r\n'
    b"Content-Type: text/csv\r\n\r\n1\n2\n\r\n--B--\r\n"
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Give bytes of `whole` with up to four places cut out, doubled or replaced."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        cut = bytes(data[start:end])
        data[start:end] = draw(
            st.one_of(st.sampled_from(TELLING), st.just(cut * 2), st.binary(max_size=8))
        )
    return bytes(data)


def perhaps_damaged(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Give `whole` as it is or damaged."""
    return st.one_of(whole, damaged(whole))


@dataclass(frozen=True)
class HostileRequest:
    """A request in which anything may be wrong but its length."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    chunks: bool

    def as_bytes(self) -> bytes:
        """Write it down. A client could send this."""
        lines = [self.method + b" " + self.target + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers]
        if self.chunks:
            lines.append(b"Transfer-Encoding: chunked")
            halves = self.body[: len(self.body) // 2], self.body[len(self.body) // 2 :]
            parts = [b"%x\r\n%s\r\n" % (len(part), part) for part in halves if part]
            body = b"".join(parts) + b"0\r\n\r\n"
        else:
            lines.append(b"Content-Length: %d" % len(self.body))
            body = self.body
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


statements = st.sampled_from(STATEMENTS)
values = perhaps_damaged(st.one_of(st.sampled_from(VALUES), statements))


@st.composite
def targets(draw: st.DrawFn) -> bytes:
    """Give paths with parameters."""
    path = draw(
        st.sampled_from((b"/", b"/", b"/", b"/query", b"/ping", b"/x", b"//", b"/%ff", b"*"))
    )
    names = st.sampled_from([name.encode() for name in PARAMETERS])
    pairs = draw(st.lists(st.tuples(names, values), max_size=4))
    written = [quote_from_bytes(name) + "=" + quote_from_bytes(value) for name, value in pairs]
    junk = draw(st.text("%&=+;?/az09", max_size=8))
    return path + b"?" + "&".join([*written, junk]).encode()


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """Give bodies with the headers that tell of them."""
    kind = draw(st.sampled_from(("plain", "form", "blocks", *COMPRESS)))
    if kind == "form":
        described = (b"Content-Type", b"multipart/form-data; boundary=B")
        return draw(perhaps_damaged(st.just(FORM))), (described,)
    body = draw(perhaps_damaged(statements))
    if kind == "plain":
        return body, ()
    if kind == "blocks":
        return draw(perhaps_damaged(st.just(encoder("blocks").feed(body)))), ()
    packed = perhaps_damaged(st.just(COMPRESS[kind](body)))
    return draw(packed), ((b"Content-Encoding", kind.encode()),)


@st.composite
def hostile_requests(draw: st.DrawFn, http: PlainHttp) -> HostileRequest:
    """Give requests; most of them come from somebody who may ask."""
    body, about_body = draw(bodies())
    names = st.sampled_from([name.encode() for name in HEADERS])
    header_values = perhaps_damaged(st.sampled_from(HEADER_VALUES))
    others = draw(st.lists(st.tuples(names, header_values), max_size=2))
    credentials = http.headers()["Authorization"].encode()
    return HostileRequest(
        draw(
            st.sampled_from((b"POST", b"POST", b"POST", b"GET", b"HEAD", b"PUT", b"OPTIONS", b"X"))
        ),
        draw(targets()),
        ((b"Host", b"localhost"), (b"Authorization", credentials), *about_body, *others),
        body,
        draw(st.booleans()),
    )


def ask(server: ClickHouseProcess, request: HostileRequest) -> Answer:
    """Give the answer to a request; raise TimeoutError if there is none."""
    with socket.create_connection((server.host, server.port), PATIENCE) as connection:
        connection.sendall(request.as_bytes())
        response = http.client.HTTPResponse(connection, method=request.method.decode())
        response.begin()
        return Answer(response.status, response.headers, response.read())


def answer_to_bytes(server: ClickHouseProcess, data: bytes) -> bytes:
    """Give all that comes back for any bytes at all, sent by a client that then sends no more."""
    with socket.create_connection((server.host, server.port), PATIENCE) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                received += piece
        except (ConnectionError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
        return received
