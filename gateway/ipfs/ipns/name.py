"""IPNS names: the multihash of a public key in its many spellings. Pure.

https://specs.ipfs.tech/ipns/ipns-record/#ipns-name. Canonical: CIDv1 with codec libp2p-key in
base36 (`k51…`, `k2k4…`). Read as well: base58 peer ids (`12D3Koo…`, `Qm…`) and any CIDv1 of it.
"""

import hashlib
from dataclasses import dataclass

import base58

from chain import varint
from chain.cids import IDENTITY, SHA2_256, Cid, InvalidCid

LIBP2P_KEY = 0x72
# A serialised public key up to this many bytes is its own multihash (identity), not hashed.
INLINE_MAX = 42
TEXT_MAX = 128
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class InvalidName(ValueError):
    """The text is no IPNS name."""


@dataclass(frozen=True, slots=True, order=True)
class IpnsName:
    """The multihash of a serialised public key; equal bytes are equal names."""

    multihash: bytes

    @classmethod
    def of_key(cls, public_key: bytes) -> "IpnsName":
        """The name of a serialised public key (keys.py)."""
        if len(public_key) <= INLINE_MAX:
            return cls(_multihash(IDENTITY, public_key))
        return cls(_multihash(SHA2_256, hashlib.sha256(public_key).digest()))

    @classmethod
    def parse(cls, text: str, *, any_codec: bool = False) -> "IpnsName":
        """Read a name. `any_codec`: also a CIDv1 of another codec than libp2p-key (as old peer
        ids were). Raises InvalidName."""
        if not 0 < len(text) <= TEXT_MAX or not text.isascii():
            raise InvalidName("not an IPNS name")
        if text.startswith(("1", "Qm")):
            return cls._from_multihash(_base58(text))
        try:
            cid = Cid.from_bytes(_from_base36(text[1:])) if text[0] in "kK" else Cid.parse(text)
        except (InvalidCid, ValueError):
            raise InvalidName(f"not an IPNS name: {text[:80]}") from None
        if cid.codec != LIBP2P_KEY and not any_codec:
            raise InvalidName(f"{text[:80]} is no libp2p-key")
        return cls._from_multihash(cid.multihash)

    @classmethod
    def _from_multihash(cls, multihash: bytes) -> "IpnsName":
        try:
            code, _, digest = _split(multihash)
        except ValueError:
            raise InvalidName("not an IPNS name: no multihash") from None
        if code == IDENTITY and 0 < len(digest) <= INLINE_MAX:
            return cls(multihash)
        if code == SHA2_256 and len(digest) == 32:
            return cls(multihash)
        raise InvalidName("not an IPNS name: neither SHA2-256 nor a key")

    @property
    def inlined(self) -> bytes | None:
        """The serialised public key, if the name holds it."""
        code, _, digest = _split(self.multihash)
        return digest if code == IDENTITY else None

    @property
    def cid(self) -> Cid:
        """The name as a CIDv1, codec libp2p-key."""
        return Cid(b"\x01\x72" + self.multihash)

    @property
    def peer_id(self) -> str:
        """The base58 spelling."""
        return base58.b58encode(self.multihash).decode()

    def __str__(self) -> str:
        return base36(self.cid)


def base36(cid: Cid) -> str:
    """A CIDv1 in multibase base36, which needs fewer characters than base32."""
    number, out = int.from_bytes(cid.raw, "big"), []
    while number:
        number, digit = divmod(number, 36)
        out.append(_BASE36[digit])
    return "k" + "".join(reversed(out))


def _from_base36(text: str) -> bytes:
    """Raises ValueError."""
    if not text.isalnum() or not text.isascii() or text[:1] == "0":
        raise ValueError("not base36")  # a CIDv1 starts with 01, so with no zero digit
    number = int(text, 36)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base58(text: str) -> bytes:
    try:
        return base58.b58decode(text)
    except ValueError:
        raise InvalidName(f"not base58: {text[:80]}") from None


def _multihash(code: int, digest: bytes) -> bytes:
    return varint.encode(code) + varint.encode(len(digest)) + digest


def _split(multihash: bytes) -> tuple[int, int, bytes]:
    code, at = varint.decode(multihash, 0)
    size, at = varint.decode(multihash, at)
    if size != len(multihash) - at:
        raise ValueError("the multihash has another length than it says")
    return code, size, multihash[at:]
