"""Compressed bodies: what HTTP clients send, and what they ask back.

Two layers, as ClickHouse has them: HTTP's own (Content-Encoding, Accept-Encoding) and ClickHouse's
block format (`decompress=1`, `compress=1`), which drivers written in Java and C++ use.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import brotli
import lz4.block
import lz4.frame
import zstandard

from sandbox.clickhouse_checksum import checksum
from sandbox.clickhouse_engine import ClickHouseError

# A block: 16 bytes of checksum, then method, size with this head of 9, size of the content.
_BLOCK_HEAD, _CHECKSUM = 9, 16
_LZ4, _ZSTD, _NONE = 0x82, 0x90, 0x02
_BLOCK_CONTENT = 1 << 20
_LARGEST_BLOCK = 1 << 30
# What results are compressed with, the quickest first.
ENCODINGS = ("zstd", "lz4", "gzip", "deflate", "br", "bz2", "xz")
# A few bytes may stand for gigabytes. So much is unpacked at a time where that can be said, else
# so much is read at a time: of zstd, it stands for 32 MiB at most, of gzip for 1 MiB.
_UNPACKED = 1 << 20
_SLICE = 1 << 10
# RuntimeError is lz4's, OSError bz2's.
_FRAME_ERRORS = (zlib.error, zstandard.ZstdError, lzma.LZMAError, RuntimeError, EOFError, OSError)


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
        for start in range(0, len(data), _SLICE):
            yield from self._feed_slice(data[start : start + _SLICE])

    def _feed_slice(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame is None:
                self._frame = self._new()
            bounded = hasattr(self._frame, "needs_input")
            try:
                yield self._frame.decompress(data, *([_UNPACKED] if bounded else []))
                while bounded and not self._frame.needs_input and not self._frame.eof:
                    yield self._frame.decompress(b"", _UNPACKED)
            except _FRAME_ERRORS as error:
                raise _damaged(self._name, error) from None
            if not self._frame.eof:
                return
            data = self._frame.unused_data or b""
            self._frame = None

    def finish(self) -> None:
        if self._frame is not None:
            raise _damaged(self._name, "it ends in the middle")


class _Brotli:
    """Decodes brotli, of which a few bytes may stand for many megabytes."""

    def __init__(self) -> None:
        self._inner: Any = brotli.Decompressor()
        self._began = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._began = self._began or bool(data)
        try:
            piece = self._inner.process(data, output_buffer_limit=_UNPACKED)
            while piece:
                yield piece
                piece = self._inner.process(b"", output_buffer_limit=_UNPACKED)
        except brotli.error as error:
            raise _damaged("br", error) from None

    def finish(self) -> None:
        if self._began and not self._inner.is_finished():
            raise _damaged("br", "it ends in the middle")


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
        packed = block[_BLOCK_HEAD:]
        try:
            if method == _LZ4:
                content: bytes = lz4.block.decompress(packed, uncompressed_size=content_size)
            elif method == _ZSTD:
                # The frame may name a size of its own, which is allocated before it is looked at.
                if zstandard.frame_content_size(packed) > content_size:
                    raise _damaged("ClickHouse", "a block holds more than it claims")
                content = zstandard.decompress(packed, max_output_size=content_size)
            elif method == _NONE:
                content = packed
            else:
                raise _damaged("ClickHouse", f"method 0x{method:02x} is unknown")
        except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
            raise _damaged("ClickHouse", error) from None
        if len(content) != content_size:
            raise _damaged("ClickHouse", f"a block of {content_size} bytes holds {len(content)}")
        return content

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


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "x-gzip": lambda: zlib.decompressobj(31),
    "deflate": lambda: zlib.decompressobj(15),
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "xz": lzma.LZMADecompressor,
    "bz2": bz2.BZ2Decompressor,
}


def decoder(content_encoding: str, in_blocks: bool) -> Decoder:
    """Give the decoder of a request's Content-Encoding, and of blocks inside it (`decompress=1`).

    An encoding that is not known raises error 48.
    """
    name = content_encoding.strip().lower()
    http: Decoder
    if name in ("", "identity"):
        http = _Plain()
    elif name == "br":
        http = _Brotli()
    elif name in _DECOMPRESSORS:
        http = _Frames(name, _DECOMPRESSORS[name])
    else:
        known = ", ".join(("br", *_DECOMPRESSORS))
        raise ClickHouseError(
            48, "NOT_IMPLEMENTED", f"Content-Encoding {name!r} is not known: send {known} or none"
        )
    return _Chain(http, _Blocks()) if in_blocks else http


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
    return next((name for name in ENCODINGS if name in offered), "")


def encoder(name: str) -> Encoder:
    """Give an encoder for one of ENCODINGS, or for `blocks`: ClickHouse's own; else none."""
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
    if name == "br":
        compressor: Any = brotli.Compressor(quality=1)
        return _StreamEncoder(compressor.process, compressor.finish)
    if name == "bz2":
        squeezer = bz2.BZ2Compressor(1)
        return _StreamEncoder(squeezer.compress, squeezer.flush)
    if name == "xz":
        xz = lzma.LZMACompressor(preset=0)
        return _StreamEncoder(xz.compress, xz.flush)
    if name == "blocks":
        return _BlockEncoder()
    return _PlainEncoder()
