"""What S3 clients hash: MD5, SHA-1, SHA-256, and three CRCs that can be combined.

GB/s per core: crc32 (ISA-L) 55, crc32c and crc64nvme (awscrt) 50; MD5 0.79 and SHA-256 1.84 are
what a PUT really costs, so those of several streams are computed side by side (gateway/hashing).
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from awscrt import checksums as aws
from isal import isal_zlib

from chain.net.transport import Buffer
from gateway.model import Algorithm, Digests

DIGEST_BYTES = {
    Algorithm.MD5: 16,
    Algorithm.CRC32: 4,
    Algorithm.CRC32C: 4,
    Algorithm.CRC64NVME: 8,
    Algorithm.SHA1: 20,
    Algorithm.SHA256: 32,
}
# Reflected polynomials: IEEE 802.3, Castagnoli, NVMe (Rocksoft).
_POLYNOMIALS = {
    Algorithm.CRC32: 0xEDB88320,
    Algorithm.CRC32C: 0x82F63B78,
    Algorithm.CRC64NVME: 0x9A6C9329AC4BC9B5,
}
CRCS = frozenset(_POLYNOMIALS)
Vector = tuple[int, ...]


class Running(Protocol):
    """What has taken bytes."""

    def digest(self) -> bytes:
        """The digest of all bytes so far."""
        ...


class Digester(Running, Protocol):
    """hashlib's face."""

    def update(self, data: Buffer, /) -> None:
        """Take more bytes."""
        ...


class Crc:
    """A CRC behind hashlib's face."""

    __slots__ = ("_extend", "_size", "_value")

    def __init__(self, extend: Callable[[Buffer, int], int], size: int) -> None:
        self._extend = extend
        self._size = size
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        """Take more bytes."""
        self._value = self._extend(data, self._value)

    def digest(self) -> bytes:
        """Big-endian, as S3 writes it."""
        return self._value.to_bytes(self._size, "big")


def _crc32(data: Buffer, value: int) -> int:
    result: int = isal_zlib.crc32(data, value)
    return result


def _crc32c(data: Buffer, value: int) -> int:
    # google-crc32c takes `bytes` alone: 25 GB/s, 16 with the copy that it needs here.
    result: int = aws.crc32c(data, value)
    return result


def _crc64nvme(data: Buffer, value: int) -> int:
    result: int = aws.crc64nvme(data, value)
    return result


def digester(algorithm: Algorithm) -> Digester:
    """A fresh digester."""
    match algorithm:
        case Algorithm.MD5:
            return hashlib.md5(usedforsecurity=False)
        case Algorithm.SHA1:
            return hashlib.sha1(usedforsecurity=False)
        case Algorithm.SHA256:
            return hashlib.sha256()
        case Algorithm.CRC32:
            return Crc(_crc32, 4)
        case Algorithm.CRC32C:
            return Crc(_crc32c, 4)
        case Algorithm.CRC64NVME:
            return Crc(_crc64nvme, 8)


_WHOLE: dict[Algorithm, Callable[[Buffer], bytes]] = {
    Algorithm.MD5: lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
    Algorithm.SHA1: lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    Algorithm.SHA256: lambda data: hashlib.sha256(data).digest(),
    Algorithm.CRC32: lambda data: _crc32(data, 0).to_bytes(4, "big"),
    Algorithm.CRC32C: lambda data: _crc32c(data, 0).to_bytes(4, "big"),
    Algorithm.CRC64NVME: lambda data: _crc64nvme(data, 0).to_bytes(8, "big"),
}


def digests_of(data: Buffer, algorithms: frozenset[Algorithm]) -> Digests:
    """Digests of what is in one piece: a small body, a request's XML."""
    return Digests(len(data), {algorithm: _WHOLE[algorithm](data) for algorithm in algorithms})


def combine(algorithm: Algorithm, parts: Sequence[tuple[bytes, int]]) -> bytes:
    """The CRC of a concatenation from (CRC, length) of its pieces, without their bytes.

    Appending n bytes multiplies a CRC by x^(8n) in GF(2)[x] modulo the polynomial; the matrices of
    x^(8·2^i) are squared once and kept, as in Mark Adler's crc32_combine.
    """
    size = DIGEST_BYTES[algorithm]
    value = 0
    for digest, length in parts:
        value = _shift(algorithm, value, length) ^ int.from_bytes(digest, "big")
    return value.to_bytes(size, "big")


def _shift(algorithm: Algorithm, value: int, length: int) -> int:
    power = 0
    while length and value:
        if length & 1:
            value = _times(_zero_bytes(algorithm, power), value)
        length >>= 1
        power += 1
    return value


@lru_cache(maxsize=256)
def _zero_bytes(algorithm: Algorithm, power: int) -> Vector:
    """The matrix that appends 2**power zero bytes: image of each bit of the register."""
    width = 8 * DIGEST_BYTES[algorithm]
    if power:
        half = _zero_bytes(algorithm, power - 1)
        return tuple(_times(half, column) for column in half)
    one_bit: Vector = (_POLYNOMIALS[algorithm], *(1 << bit for bit in range(width - 1)))
    for _ in range(3):  # one bit -> two -> four -> eight
        one_bit = tuple(_times(one_bit, column) for column in one_bit)
    return one_bit


def _times(matrix: Vector, vector: int) -> int:
    total = 0
    for column in matrix:
        if vector & 1:
            total ^= column
        vector >>= 1
        if not vector:
            break
    return total
