"""CityHash128 of version 1.0.2: the checksum of ClickHouse's compressed blocks.

Later versions of CityHash give other values, so ClickHouse stays with this one. After G. Pike and
J. Alakuijala, CityHash 1.0.2 (Google, 2011). Speed is about 8 MB/s; only clients that ask for
`compress=1` pay it.
"""

from __future__ import annotations

from struct import unpack_from

_MASK = (1 << 64) - 1
_K0 = 0xC3A5C85C97CB3127
_K1 = 0xB492B66FBE98F273
_K2 = 0x9AE16A3B2F90404F
_K3 = 0xC949D7C7509E6557
_MULTIPLIER = 0x9DDFEA08EB382D69


def checksum(data: bytes) -> bytes:
    """Give the 16 bytes that ClickHouse writes before a compressed block."""
    low, high = _city_hash_128(data)
    return low.to_bytes(8, "little") + high.to_bytes(8, "little")


def _city_hash_128(data: bytes) -> tuple[int, int]:
    size = len(data)
    if size >= 16:
        return _with_seed(data[16:], _word(data, 0) ^ _K3, _word(data, 8))
    if size >= 8:
        return _with_seed(b"", _word(data, 0) ^ (size * _K0 & _MASK), _word(data, size - 8) ^ _K1)
    return _with_seed(data, _K0, _K1)


def _word(data: bytes, offset: int) -> int:
    value: int = unpack_from("<Q", data, offset)[0]
    return value


def _rotate(value: int, shift: int) -> int:
    return (value >> shift | value << (64 - shift)) & _MASK


def _shift_mix(value: int) -> int:
    return value ^ (value >> 47)


def _mix(first: int, second: int) -> int:
    """Hash128to64."""
    a = _shift_mix((first ^ second) * _MULTIPLIER & _MASK)
    b = _shift_mix((second ^ a) * _MULTIPLIER & _MASK)
    return b * _MULTIPLIER & _MASK


def _up_to_16(data: bytes) -> int:
    size = len(data)
    if size > 8:
        last = _word(data, size - 8)
        return _mix(_word(data, 0), _rotate(last + size & _MASK, size)) ^ last
    if size >= 4:
        head, tail = unpack_from("<I", data, 0)[0], unpack_from("<I", data, size - 4)[0]
        return _mix(size + (head << 3), tail)
    if size > 0:
        y = data[0] + (data[size >> 1] << 8)
        z = size + (data[size - 1] << 2)
        return _shift_mix((y * _K2 ^ z * _K3) & _MASK) * _K2 & _MASK
    return _K2


def _weak(words: tuple[int, ...], index: int, seed_a: int, seed_b: int) -> tuple[int, int]:
    """WeakHashLen32WithSeeds of four words."""
    w, x, y, z = words[index : index + 4]
    a = seed_a + w
    b = _rotate(seed_b + a + z & _MASK, 21)
    c = a
    a += x + y
    b += _rotate(a & _MASK, 44)
    return a + z & _MASK, b + c & _MASK


def _murmur(data: bytes, a: int, b: int) -> tuple[int, int]:
    """CityMurmur: short inputs."""
    size = len(data)
    if size <= 16:
        a = _shift_mix(a * _K1 & _MASK) * _K1 & _MASK
        c = b * _K1 + _up_to_16(data) & _MASK
        d = _shift_mix(a + (_word(data, 0) if size >= 8 else c) & _MASK)
    else:
        c = _mix(_word(data, size - 8) + _K1 & _MASK, a)
        d = _mix(b + size & _MASK, c + _word(data, size - 16) & _MASK)
        a = a + d & _MASK
        for offset in range(0, size - 16, 16):
            a ^= _shift_mix(_word(data, offset) * _K1 & _MASK) * _K1 & _MASK
            a = a * _K1 & _MASK
            b ^= a
            c ^= _shift_mix(_word(data, offset + 8) * _K1 & _MASK) * _K1 & _MASK
            c = c * _K1 & _MASK
            d ^= c
    a = _mix(a, c)
    b = _mix(d, b)
    return a ^ b, _mix(b, a)


def _with_seed(data: bytes, x: int, y: int) -> tuple[int, int]:
    size = len(data)
    if size < 128:
        return _murmur(data, x, y)
    words = unpack_from(f"<{size // 8}Q", data)
    z = size * _K1 & _MASK
    v0 = _rotate(y ^ _K1, 49) * _K1 + words[0] & _MASK
    v1 = _rotate(v0, 42) * _K1 + words[1] & _MASK
    w0 = _rotate(y + z & _MASK, 35) * _K1 + x & _MASK
    w1 = _rotate(x + words[11] & _MASK, 53) * _K1 & _MASK
    index = 0
    for _ in range(size // 128 * 2):
        x = _rotate(x + y + v0 + words[index + 2] & _MASK, 37) * _K1 & _MASK
        y = _rotate(y + v1 + words[index + 6] & _MASK, 42) * _K1 & _MASK
        x ^= w1
        y ^= v0
        z = _rotate(z ^ w0, 33)
        v0, v1 = _weak(words, index, v1 * _K1, x + w0)
        w0, w1 = _weak(words, index + 4, z + w1, y)
        z, x = x, z
        index += 8
    y = y + _rotate(w0, 37) * _K0 + z & _MASK
    x = x + _rotate(v0 + z & _MASK, 49) * _K0 & _MASK
    remaining = size - index * 8
    for done in range(32, remaining + 32, 32):
        # The last of these may reach back into what was hashed before, as in the original.
        tail = unpack_from("<4Q", data, size - done)
        y = _rotate(y - x & _MASK, 42) * _K0 + v1 & _MASK
        w0 = w0 + tail[2] & _MASK
        x = _rotate(x, 49) * _K0 + w0 & _MASK
        w0 = w0 + v0 & _MASK
        v0, v1 = _weak(tail, 0, v0, v1)
    x = _mix(x, v0)
    y = _mix(y, w0)
    return _mix(x + v1 & _MASK, w1) + y & _MASK, _mix(x + w1 & _MASK, y + v1 & _MASK)
