"""Compressed bodies, cut anywhere, and ClickHouse's checksum."""

from __future__ import annotations

from pathlib import Path

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sandbox.clickhouse_checksum import checksum
from sandbox.clickhouse_engine import ClickHouseError
from sandbox.clickhouse_wire import ENCODINGS, decoder, encoder, negotiate
from tests.sandbox.clickhouse_http import PlainHttp

# Of bytes 0, 7, 14 … modulo 256, computed with the package clickhouse-cityhash 1.0.2.
CHECKSUMS = [
    (0, "2b9ac064fc9df03d291ee592c340b53c"),
    (3, "e07a891e44244c90a549af712c7dd3ea"),
    (7, "3e03a3791ecbc12a880d3e33b91d511a"),
    (12, "6abf4d05f54f6180c0b4b73a73f7ee04"),
    (16, "7b836449ac0fec835248a3ab5f5775d2"),
    (31, "ad277a5163383190dbb031cc04831032"),
    (100, "50c580ec698da15064e3d1c5b848c0c8"),
    (144, "8ab234a62c4b2e69cd50d2ed4e3da74f"),
    (300, "e568eb20911251db0d6614322eb714b9"),
    (4096, "a0d8c772e94a8f6cb20052f8dac171ad"),
]


@pytest.mark.parametrize(("size", "expected"), CHECKSUMS)
def test_checksum_is_that_of_the_reference(size: int, expected: str) -> None:
    assert checksum(bytes(number * 7 % 256 for number in range(size))).hex() == expected


def test_checksum_is_the_one_that_the_engine_writes(admin_http: PlainHttp) -> None:
    admin_http.query(
        "create or replace table blocks (a String) order by tuple() "
        "settings min_bytes_for_wide_part = 0"
    )
    admin_http.query("insert into blocks select randomString(number) from numbers(2000)")
    path = admin_http.query(
        "select path from system.parts where table = 'blocks' and active format TSVRaw"
    ).strip()
    seen = 0
    for file in Path(path).glob("*.bin"):
        data = file.read_bytes()
        while data:
            size = int.from_bytes(data[17:21], "little")
            assert checksum(data[16 : 16 + size]) == data[:16]
            data = data[16 + size :]
            seen += 1
    admin_http.query("drop table blocks sync")
    assert seen > 1


@pytest.mark.parametrize("name", ["", *ENCODINGS, "blocks"])
@given(pieces=st.lists(st.binary(max_size=300), max_size=6), cut=st.integers(1, 50))
def test_what_is_encoded_is_decoded_however_it_is_cut(
    name: str, pieces: list[bytes], cut: int
) -> None:
    writer = encoder(name)
    sent = b"".join([writer.feed(piece) for piece in pieces] + [writer.finish()])
    reader = decoder("" if name == "blocks" else name, in_blocks=name == "blocks")
    got = b"".join(
        part
        for start in range(0, len(sent), cut)
        for part in reader.feed(sent[start : start + cut])
    )
    reader.finish()
    assert got == b"".join(pieces)


# Not brotli: it has no mark to begin with, and takes some noise for an empty body.
@pytest.mark.parametrize("name", [*(name for name in ENCODINGS if name != "br"), "blocks"])
@given(noise=st.binary(min_size=1, max_size=100))
def test_noise_is_refused_or_incomplete(name: str, noise: bytes) -> None:
    reader = decoder("" if name == "blocks" else name, in_blocks=name == "blocks")

    def read() -> None:
        list(reader.feed(noise))
        reader.finish()

    with pytest.raises(ClickHouseError):
        read()


@pytest.mark.parametrize("name", ENCODINGS)
def test_little_that_stands_for_much_is_unpacked_in_pieces(name: str) -> None:
    writer = encoder(name)
    zeros = bytes(1 << 20)
    packed = b"".join([writer.feed(zeros) for _ in range(64)] + [writer.finish()])
    reader = decoder(name, in_blocks=False)
    sizes = [len(piece) for piece in reader.feed(packed)]
    reader.finish()
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 32 << 20


def block(method: int, packed: bytes, size: int) -> bytes:
    """Make a block of ClickHouse's with whatever in it."""
    head = bytes([method]) + (len(packed) + 9).to_bytes(4, "little") + size.to_bytes(4, "little")
    return checksum(head + packed) + head + packed


@pytest.mark.parametrize(
    ("method", "packed", "size"),
    [
        (0x90, zstandard.compress(b"x" * 100), 99),
        (0x90, zstandard.compress(b"x" * 100), 101),
        # A frame that claims 2**60 bytes.
        (0x90, bytes.fromhex("28b52ffde0") + (1 << 60).to_bytes(8, "little") + b"\1\0\0", 100),
        (0x90, b"", 0),
        (0x82, lz4.block.compress(b"x" * 100, store_size=False), 99),
        (0x82, lz4.block.compress(b"x" * 100, store_size=False), 1 << 29),
        (0x82, b"", 1),
        (0x02, b"xx", 1),
        (0x77, b"xx", 2),
    ],
)
def test_block_that_is_not_what_it_claims_is_refused(method: int, packed: bytes, size: int) -> None:
    with pytest.raises(ClickHouseError, match="CANNOT_DECOMPRESS"):
        list(decoder("", in_blocks=True).feed(block(method, packed, size)))


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("br, xz", "br"),
        ("gzip;q=1.0, zstd;q=0", "gzip"),
        ("identity, *;q=0", ""),
        ("LZ4", "lz4"),
    ],
)
def test_best_encoding_on_offer_is_chosen(accepted: str, chosen: str) -> None:
    assert negotiate(accepted) == chosen
