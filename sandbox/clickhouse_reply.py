"""What goes back over HTTP: a result as the engine writes it, headers, statuses, compression."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path

from sandbox.clickhouse_engine import ClickHouseError, Progress
from sandbox.clickhouse_request import Message
from sandbox.clickhouse_wire import encoder

Send = Callable[[Message], Awaitable[None]]

# How much of a result is read and sent at a time.
PIECE = 256 << 10

# After ClickHouse's exceptionCodeToHTTPStatus; everything else is a 500.
_CODES_OF_STATUS = {
    400: (
        *(6, 26, 27, 36, 38, 40, 41, 42, 43, 44, 53, 62, 69, 70, 72, 85, 117, 182, 183),
        *(271, 321, 372, 373, 374, 457, 467, 584),
    ),
    401: (194,),
    403: (164, 192, 193, 497, 516),
    404: (46, 47, 50, 56, 60, 63, 73, 81, 115, 124, 152),
    408: (159,),
    413: (158,),
    501: (48,),
    503: (202,),
}
_STATUS_OF_CODE = {code: status for status, codes in _CODES_OF_STATUS.items() for code in codes}

# Nothing that a client sends may end a header.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def status_of(error: ClickHouseError) -> int:
    """Give the HTTP status for an error."""
    return _STATUS_OF_CODE.get(error.code, 500)


def result_headers(output_format: str, progress: Progress) -> dict[str, str]:
    """Describe a result in headers; the format is '' where there is none."""
    headers = {
        "X-ClickHouse-Summary": progress.as_header(),
        "Content-Type": _content_type(output_format),
    }
    return {**headers, "X-ClickHouse-Format": output_format} if output_format else headers


def _content_type(output_format: str) -> str:
    name = output_format.lower()
    if name in ("json", "jsoncompact", "jsonstrings", "jsoncompactstrings", "jsoncolumns"):
        return "application/json; charset=UTF-8"
    if "eachrow" in name or name in ("jsonlines", "ndjson"):
        return "application/x-ndjson; charset=UTF-8"
    if name.startswith("csv"):
        return "text/csv; charset=UTF-8; header=" + ("present" if "names" in name else "absent")
    if name.startswith(("tabseparated", "tsv")):
        return "text/tab-separated-values; charset=UTF-8"
    if name in ("arrow", "arrowstream", "avro", "native", "orc", "parquet", "rowbinary"):
        return "application/octet-stream"
    return "text/plain; charset=UTF-8"


class ResultPipe:
    """A named pipe that the engine writes a result into, in whatever format.

    So a result of any size and format passes through without being held, at the speed at which
    the client takes it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"result-{uuid.uuid4()}"
        os.mkfifo(self.path, 0o600)
        self._read_end = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        # Open for writing here, too: else the reader would see an end before the engine begins.
        self._write_end = os.open(self.path, os.O_WRONLY)
        self._reader = asyncio.StreamReader(limit=PIECE)
        self._transport: asyncio.ReadTransport | None = None

    async def open(self) -> None:
        """Make ready to read."""
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader),
            os.fdopen(self._read_end, "rb", buffering=0),
        )

    async def read(self) -> bytes:
        """Give the next piece, b"" at the end."""
        return await self._reader.read(PIECE)

    def end(self) -> None:
        """Let the reader see the end, once the engine has written everything. From any thread."""
        os.close(self._write_end)

    async def close(self) -> None:
        """Stop reading: an engine that still writes gets an error."""
        if self._transport is not None:
            self._transport.close()
            await asyncio.sleep(0)  # the transport closes its end in the loop's next turn
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class Reply:
    """Writes one HTTP response, compressed as negotiated."""

    def __init__(self, send: Send, compression: str, headers: Mapping[str, str]) -> None:
        self._send = send
        self._encoder = encoder(compression)
        self._headers: MutableMapping[str, str] = dict(headers)
        if compression not in ("", "blocks"):
            self._headers["Content-Encoding"] = compression
        self.started = False

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status and headers."""
        self._headers.update(headers)
        self.started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (name.encode("latin-1"), _CONTROL.sub(b"?", value.encode("utf-8", "replace")))
                    for name, value in self._headers.items()
                ],
            }
        )

    async def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        compressed = self._encoder.feed(data)
        if compressed:
            await self._send({"type": "http.response.body", "body": compressed, "more_body": True})

    async def flush(self) -> None:
        """Send what the compression held back, and leave the body open."""
        rest = self._encoder.finish()
        await self._send({"type": "http.response.body", "body": rest, "more_body": True})

    async def finish(self) -> None:
        """Send the end of the body."""
        await self._send({"type": "http.response.body", "body": self._encoder.finish()})
