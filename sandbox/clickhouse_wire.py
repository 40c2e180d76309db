"""Compressed bodies: what HTTP clients send, and what they ask back.

Two layers, as ClickHouse has them: HTTP's own (Content-Encoding, Accept-Encoding) and ClickHouse's
block format (`decompress=1`, `compress=1`), which drivers written in Java and C++ use.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol

import lz4.block
import lz4.frame
import zstandard

from sandbox.clickhouse_checksum import checksum
from sandbox.clickhouse_engine import ClickHouseError

try:
    _brotli: Any = import_module("brotli")
except ImportError:
    _brotli = None

# A block: 16 bytes of checksum, then method, size with this head of 9, size of the content.
_BLOCK_HEAD, _CHECKSUM = 9, 16
_LZ4, _ZSTD, _NONE = 0x82, 0x90, 0x02
_BLOCK_CONTENT = 1 << 20
_LARGEST_BLOCK = 1 << 30


class Decoder(Protocol):
    """Decompresses a body piece by piece."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decompresses to."""

    def finish(self) -> None:
        """Raise if the body ended in the middle."""


class Encoder(Protocol):
    """Compresses a body piece by piece."""

    def feed(self, data: bytes) -> bytes:
        """Give what is ready of the compressed body."""

    def finish(self) -> bytes:
        """Give the rest."""


def _damaged(name: str, why: object) -> ClickHouseError:
    return ClickHouseError(271, "CANNOT_DECOMPRESS", f"Cannot decompress the {name} body: {why}")


class _Plain:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        return None


class _Frames:
    """Decodes formats whose bodies are one frame after another, each by a standard decompressor."""

    def __init__(self, name: str, new: Callable[[], Any]) -> None:
        self._name = name
        self._new = new
        self._frame: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame is None:
                self._frame = self._new()
            try:
                piece = self._frame.decompress(data)
            except (zlib.error, zstandard.ZstdError, RuntimeError, EOFError) as error:
                raise _damaged(self._name, error) from None
            yield piece
            if not self._frame.eof:
                return
            data = self._frame.unused_data or b""
            self._frame = None

    def finish(self) -> None:
        if self._frame is not None:
            raise _damaged(self._name, "it ends in the middle")


class _Blocks:
    """Decodes ClickHouse's own blocks."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._pending += data
        while len(self._pending) >= _CHECKSUM + _BLOCK_HEAD:
            size = int.from_bytes(self._pending[17:21], "little")
            if not _BLOCK_HEAD <= size <= _LARGEST_BLOCK:
                raise _damaged("ClickHouse", f"a block claims {size} bytes")
            if len(self._pending) < _CHECKSUM + size:
                return
            block = bytes(self._pending[_CHECKSUM : _CHECKSUM + size])
            if self._pending[:_CHECKSUM] != checksum(block):
                raise ClickHouseError(40, "CHECKSUM_DOESNT_MATCH", "A block's checksum is wrong")
            del self._pending[: _CHECKSUM + size]
            yield self._content(block)

    @staticmethod
    def _content(block: bytes) -> bytes:
        method, content_size = block[0], int.from_bytes(block[5:9], "little")
        if content_size > _LARGEST_BLOCK:
            raise _damaged("ClickHouse", f"a block claims to hold {content_size} bytes")
        try:
            if method == _LZ4:
                content: bytes = lz4.block.decompress(
                    block[_BLOCK_HEAD:], uncompressed_size=content_size
                )
                return content
            if method == _ZSTD:
                return zstandard.decompress(block[_BLOCK_HEAD:], max_output_size=content_size)
        except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
            raise _damaged("ClickHouse", error) from None
        if method == _NONE:
            return block[_BLOCK_HEAD:]
        raise _damaged("ClickHouse", f"method 0x{method:02x} is unknown")

    def finish(self) -> None:
        if self._pending:
            raise _damaged("ClickHouse", "it ends in the middle")


class _Chain:
    def __init__(self, first: Decoder, second: Decoder) -> None:
        self._first, self._second = first, second

    def feed(self, data: bytes) -> Iterator[bytes]:
        for piece in self._first.feed(data):
            yield from self._second.feed(piece)

    def finish(self) -> None:
        self._first.finish()
        self._second.finish()


def decoder(content_encoding: str, in_blocks: bool) -> Decoder:
    """Give the decoder of a request's Content-Encoding, and of blocks inside it (`decompress=1`).

    An encoding that is not known raises error 48.
    """
    name = content_encoding.strip().lower()
    http: Decoder
    if name in ("", "identity"):
        http = _Plain()
    elif name in ("gzip", "x-gzip"):
        http = _Frames(name, lambda: zlib.decompressobj(31))
    elif name == "deflate":
        http = _Frames(name, lambda: zlib.decompressobj(15))
    elif name == "zstd":
        http = _Frames(name, lambda: zstandard.ZstdDecompressor().decompressobj())
    elif name == "lz4":
        http = _Frames(name, lz4.frame.LZ4FrameDecompressor)
    elif name == "br" and _brotli is not None:
        http = _Frames(name, _BrotliFrame)
    else:
        raise ClickHouseError(
            48,
            "NOT_IMPLEMENTED",
            f"Content-Encoding {name!r} is not known: send gzip, deflate, zstd, lz4 or none"
            + (" (br needs the package brotli)" if name == "br" else ""),
        )
    return _Chain(http, _Blocks()) if in_blocks else http


class _BrotliFrame:
    """Brotli's decompressor under the names that the standard library's have."""

    unused_data = b""

    def __init__(self) -> None:
        self._inner: Any = _brotli.Decompressor()

    def decompress(self, data: bytes) -> bytes:
        try:
            piece: bytes = self._inner.process(data)
        except _brotli.error as error:
            raise RuntimeError(str(error)) from None
        return piece

    @property
    def eof(self) -> bool:
        return bool(self._inner.is_finished())


class _PlainEncoder:
    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class _StreamEncoder:
    def __init__(
        self, compress: Callable[[bytes], bytes], flush: Callable[[], bytes], head: bytes = b""
    ) -> None:
        self._compress, self._flush, self._head = compress, flush, head

    def feed(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + self._compress(data)

    def finish(self) -> bytes:
        head, self._head = self._head, b""
        return head + self._flush()


class _BlockEncoder:
    def feed(self, data: bytes) -> bytes:
        return b"".join(
            self._block(data[start : start + _BLOCK_CONTENT])
            for start in range(0, len(data), _BLOCK_CONTENT)
        )

    @staticmethod
    def _block(content: bytes) -> bytes:
        packed: bytes = lz4.block.compress(content, store_size=False)
        sizes = (len(packed) + _BLOCK_HEAD, len(content))
        block = bytes([_LZ4]) + b"".join(size.to_bytes(4, "little") for size in sizes) + packed
        return checksum(block) + block

    def finish(self) -> bytes:
        return b""


def negotiate(accept_encoding: str) -> str:
    """Choose the best of a request's Accept-Encoding that the server can do; '' for none."""
    offered = set()
    for part in accept_encoding.lower().split(","):
        name, _, quality = part.partition(";")
        if quality.replace(" ", "") not in ("q=0", "q=0.0"):
            offered.add(name.strip())
    return next((name for name in ("zstd", "lz4", "gzip", "deflate") if name in offered), "")


def encoder(name: str) -> Encoder:
    """Give an encoder for a name that `negotiate` gives, or for `blocks`: ClickHouse's own."""
    if name == "zstd":
        zstd = zstandard.ZstdCompressor(level=1).compressobj()
        return _StreamEncoder(zstd.compress, zstd.flush)
    if name == "lz4":
        frame = lz4.frame.LZ4FrameCompressor()
        return _StreamEncoder(frame.compress, frame.flush, frame.begin())
    if name == "gzip":
        gzip = zlib.compressobj(3, wbits=31)
        return _StreamEncoder(gzip.compress, gzip.flush)
    if name == "deflate":
        deflate = zlib.compressobj(3)
        return _StreamEncoder(deflate.compress, deflate.flush)
    if name == "blocks":
        return _BlockEncoder()
    return _PlainEncoder()
