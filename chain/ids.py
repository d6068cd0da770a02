"""Identifiers that more than one layer speaks of. Bytes inside, hexadecimal for people."""

from typing import NewType

# An Ed25519 public key (32 bytes): a ledger account, a miner, an edge, a gateway.
AccountId = NewType("AccountId", bytes)
# A segment: BLAKE3-256 over its fragment ids (32 bytes); see docs/specs/segment.md.
SegmentId = NewType("SegmentId", bytes)
# A BLAKE3-256 digest of a fragment's bytes (32 bytes); its CID is Cid.of_fragment(digest).
FragmentId = NewType("FragmentId", bytes)

ID_BYTES = 32


class InvalidId(ValueError):
    """Not 32 bytes, or not their hexadecimal form."""


def account_id(value: bytes | str) -> AccountId:
    """Check 32 bytes or 64 hexadecimal digits. Raises InvalidId."""
    try:
        raw = bytes.fromhex(value) if isinstance(value, str) else bytes(value)
    except ValueError:
        raise InvalidId(f"not hexadecimal: {value!r:.80}") from None
    if len(raw) != ID_BYTES:
        raise InvalidId(f"an id has {ID_BYTES} bytes, not {len(raw)}")
    return AccountId(raw)
