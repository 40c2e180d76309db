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

_CODES_OF_STATUS = {
    # As in ClickHouse's exceptionCodeToHTTPStatus …
    400: (
        *(6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376),
        *(427, 441, 675, 676),
        # … and what else is wrong with the statement or with its rows, where that has 500.
        *(7, 32, 33, 40, 42, 43, 69, 70, 85, 128, 130, 131, 173, 182, 183, 271, 372, 373),
        *(374, 377, 434, 435, 436, 437, 443, 444, 448, 456, 457, 467, 474, 563, 570, 577, 585, 622),
        *(623, 626, 632, 636, 645, 651, 652, 691, 715, 723, 728, 748),
    ),
    401: (194,),
    403: (164, 192, 193, 497, 512, 516),
    404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    408: (159,),
    411: (381,),
    413: (158, 229),
    415: (779,),
    501: (48,),
    503: (76, 202, 209, 439),
}
_STATUS_OF_CODE = {code: status for status, codes in _CODES_OF_STATUS.items() for code in codes}

# Nothing that a client sends may end a header.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def status_of(error: ClickHouseError) -> int:
    """Give the HTTP status for an error, 500 unless the client can do something about it."""
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
    """Writes one HTTP response, compressed as negotiated.

    Its head goes out with the first of the body, or with its end: not before the server is done
    with a statement that has no result. Some clients read no further than the head.
    """

    def __init__(self, send: Send, compression: str, headers: Mapping[str, str]) -> None:
        self._send = send
        self._encoder = encoder(compression)
        self._headers: MutableMapping[str, str] = dict(headers)
        if compression not in ("", "blocks"):
            self._headers["Content-Encoding"] = compression
        self._status = 200
        self.started = False

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Say what the status and headers are to be."""
        self._headers.update(headers)
        self._status = status

    async def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        compressed = self._encoder.feed(data)
        if compressed:
            await self._send_body(compressed, more=True)

    async def flush(self) -> None:
        """Send what the compression held back, and leave the body open."""
        await self._send_body(self._encoder.finish(), more=True)

    async def finish(self) -> None:
        """Send the end of the body."""
        await self._send_body(self._encoder.finish(), more=False)

    async def _send_body(self, data: bytes, more: bool) -> None:
        if not self.started:
            self.started = True
            await self._send(
                {
                    "type": "http.response.start",
                    "status": self._status,
                    "headers": [
                        (
                            name.encode("latin-1"),
                            _CONTROL.sub(b"?", value.encode("utf-8", "replace")),
                        )
                        for name, value in self._headers.items()
                    ],
                }
            )
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
