"""Digests: known values, and CRCs of a whole from the CRCs of its parts."""

import hashlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.digests import CRCS, DIGEST_BYTES, combine, digester
from gateway.model import Algorithm

# Check values over "123456789" from the catalogue of parametrised CRC algorithms (reveng).
KNOWN = {
    Algorithm.CRC32: "cbf43926",
    Algorithm.CRC32C: "e3069283",
    Algorithm.CRC64NVME: "ae8b14860a799888",
    Algorithm.MD5: hashlib.md5(b"123456789").hexdigest(),
    Algorithm.SHA1: hashlib.sha1(b"123456789").hexdigest(),
    Algorithm.SHA256: hashlib.sha256(b"123456789").hexdigest(),
}


def digest(algorithm: Algorithm, *pieces: bytes | memoryview) -> bytes:
    running = digester(algorithm)
    for piece in pieces:
        running.update(piece)
    return running.digest()


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_known_values(algorithm: Algorithm) -> None:
    assert digest(algorithm, b"123456789").hex() == KNOWN[algorithm]
    assert (
        digest(algorithm, b"1234", memoryview(bytearray(b"x56789"))[1:]).hex() == KNOWN[algorithm]
    )
    assert len(digest(algorithm)) == DIGEST_BYTES[algorithm]


def test_crc32_is_zlibs() -> None:
    assert digest(Algorithm.CRC32, b"cumulus") == zlib.crc32(b"cumulus").to_bytes(4, "big")


@given(st.sampled_from(sorted(CRCS)), st.lists(st.binary(max_size=300), max_size=6))
@settings(max_examples=100, deadline=None)
def test_combined_crcs_are_those_of_the_whole(algorithm: Algorithm, parts: list[bytes]) -> None:
    pairs = [(digest(algorithm, part), len(part)) for part in parts]
    assert combine(algorithm, pairs) == digest(algorithm, b"".join(parts))


@pytest.mark.parametrize("algorithm", sorted(CRCS))
def test_large_parts_combine(algorithm: Algorithm) -> None:
    zeros, tail = bytes(5 << 20), b"tail"
    pairs = [(digest(algorithm, b"head" + zeros), 4 + len(zeros)), (digest(algorithm, tail), 4)]
    assert combine(algorithm, pairs) == digest(algorithm, b"head" + zeros + tail)
