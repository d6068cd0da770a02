"""Content identifiers (https://github.com/multiformats/cid), raw bytes inside.

Text is only for people and URLs: base32 in and out goes through the standard library (3.4 µs),
every other base through py-cid (41 µs).
"""

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache

import cid as py_cid
from blake3 import blake3

from chain import varint

CBOR, RAW, DAG_PB, DAG_CBOR, LIBP2P_KEY = 0x51, 0x55, 0x70, 0x71, 0x72
DAG_JSON, JSON = 0x0129, 0x0200
IDENTITY, SHA2_256, SHA2_512, BLAKE3 = 0x00, 0x12, 0x13, 0x1E

# How nearly all CIDs start: version 1, such a codec, SHA2-256, 32 bytes. They need no parsing.
_USUAL = {bytes([1, codec, SHA2_256, 32]): codec for codec in (RAW, DAG_PB, DAG_CBOR)}

# Longer text is not a CID that anyone uses: an identity CID may hold 128 bytes (IPIP-512).
TEXT_MAX = 512
_DIGEST_MAX = 128


@lru_cache(maxsize=64)
def _prefix(codec: int, hash_code: int, size: int) -> bytes:
    """What stands before a CIDv1's digest."""
    return b"\x01" + b"".join(map(varint.encode, (codec, hash_code, size)))


class InvalidCid(ValueError):
    """The text or bytes are not a CID."""


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """A CID as its binary form; equal bytes are equal CIDs."""

    raw: bytes

    @classmethod
    def of(cls, codec: int, hash_code: int, digest: bytes) -> "Cid":
        """The CIDv1 of a digest."""
        return cls(_prefix(codec, hash_code, len(digest)) + digest)

    @classmethod
    def of_fragment(cls, digest: bytes) -> "Cid":
        """The id of a fragment: CIDv1, raw, BLAKE3-256 digest (32 bytes)."""
        return cls(b"\x01\x55\x1e\x20" + digest)

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Cid":
        """Check and wrap a binary CID. Raises InvalidCid."""
        cid = cls(bytes(raw))
        if len(raw) != 36 or cid.raw[:4] not in _USUAL:
            cid.parts()
        return cid

    @classmethod
    def parse(cls, text: str) -> "Cid":
        """Read a CID in any multibase, or a CIDv0. Raises InvalidCid."""
        return cls(_parsed(text))

    @classmethod
    def _parse(cls, text: str) -> "Cid":
        if not text or len(text) > TEXT_MAX or not text.isascii():
            raise InvalidCid("not a CID")
        if text[0] in "bB":
            body = text[1:].upper()
            try:
                raw = base64.b32decode(body + "=" * (-len(body) % 8))
            except ValueError:
                raise InvalidCid(f"not base32: {text[:80]}") from None
            if base64.b32encode(raw).rstrip(b"=").decode() != body:
                raise InvalidCid(f"not canonical base32: {text[:80]}")
            return cls.from_bytes(raw)
        try:
            return cls.from_bytes(py_cid.make_cid(text).buffer)
        except InvalidCid:
            raise
        except Exception as error:  # py-cid raises whatever its codecs raise
            raise InvalidCid(f"not a CID: {text[:80]}") from error

    def parts(self) -> tuple[int, int, int, bytes]:
        """(version, codec, hash code, digest). Raises InvalidCid."""
        raw = self.raw
        if len(raw) == 36 and (codec := _USUAL.get(raw[:4])) is not None:
            return 1, codec, SHA2_256, raw[4:]
        if len(raw) == 34 and raw[:2] == b"\x12\x20":
            return 0, DAG_PB, SHA2_256, raw[2:]
        version, at = varint.decode(raw, 0, InvalidCid)
        if version != 1:
            raise InvalidCid("only CIDv0 and CIDv1 exist")
        codec, at = varint.decode(raw, at, InvalidCid)
        hash_code, at = varint.decode(raw, at, InvalidCid)
        size, at = varint.decode(raw, at, InvalidCid)
        if size != len(raw) - at or size > _DIGEST_MAX:
            raise InvalidCid("the multihash has another length than it says")
        if hash_code in (SHA2_256, BLAKE3) and size != 32:
            raise InvalidCid("a 256-bit digest has 32 bytes")
        if hash_code == SHA2_512 and size != 64:
            raise InvalidCid("a 512-bit digest has 64 bytes")
        return version, codec, hash_code, raw[at:]

    @property
    def codec(self) -> int:
        return self.parts()[1]

    @property
    def hash_code(self) -> int:
        return self.parts()[2]

    @property
    def digest(self) -> bytes:
        return self.parts()[3]

    @property
    def multihash(self) -> bytes:
        """Hash code, length and digest: what names a block whatever its codec."""
        if len(self.raw) == 36 and self.raw[:4] in _USUAL:
            return self.raw[2:]
        _, _, hash_code, digest = self.parts()
        return varint.encode(hash_code) + varint.encode(len(digest)) + digest

    def matches(self, data: bytes) -> bool:
        """Whether `data` hashes to this CID; an unknown hash function never matches."""
        _, _, hash_code, digest = self.parts()
        if hash_code == SHA2_256:
            return hashlib.sha256(data).digest() == digest
        if hash_code == SHA2_512:
            return hashlib.sha512(data).digest() == digest
        if hash_code == BLAKE3:
            return blake3(data).digest() == digest
        return hash_code == IDENTITY and data == digest

    def __str__(self) -> str:
        return _text(self.raw)


# Requests name the same CIDs again and again, each in several headers: base32 in Python is slow.
@lru_cache(maxsize=4096)
def _parsed(text: str) -> bytes:
    return Cid._parse(text).raw


@lru_cache(maxsize=4096)
def _text(raw: bytes) -> str:
    if raw[:2] == b"\x12\x20":
        text: str = py_cid.make_cid(0, "dag-pb", raw).encode().decode()
        return text
    return "b" + base64.b32encode(raw).decode().rstrip("=").lower()
