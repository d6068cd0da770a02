"""Blocks, headers, results. Specification: docs/specs/block.md. Pure: light clients use it too."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from chain import dagcbor
from chain.errors import OK, InvalidBlock
from chain.ids import AccountId
from chain.keys.identity import Identity, verify
from chain.proofs import merkle

DOMAIN = b"cumulus/block/1"
_APP_DOMAIN = b"cumulus/app-hash/1\x00"
BLOCK_BYTES_MAX = 80 << 20

Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a validator signs. `app_hash` is the state after this block's transactions."""

    chain: Annotated[str, msgspec.Meta(max_length=50)]
    height: Count
    time_ns: Count
    previous: Hash  # of the header before; the genesis digest at height 1
    app_hash: Hash
    transactions: Hash  # Merkle root over the transactions' bytes
    results: Hash  # Merkle root over the results, the block's own events last
    proposer: Hash

    def encoded(self) -> bytes:
        """The canonical bytes: what is signed and hashed."""
        return dagcbor.encode(msgspec.structs.asdict(self))

    def hash(self) -> bytes:
        """SHA-256 of the canonical bytes (32 bytes)."""
        return hashlib.sha256(self.encoded()).digest()


class SignedHeader(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A header's canonical bytes and its proposer's signature."""

    header: bytes
    signature: bytes


class Block(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A signed header and the transactions under it."""

    signed: SignedHeader
    transactions: list[bytes]

    def encoded(self) -> bytes:
        """Canonical DAG-CBOR: [[header, signature], [transaction …]]."""
        signed = [self.signed.header, self.signed.signature]
        return dagcbor.encode([signed, list(self.transactions)])


class Event(msgspec.Struct, frozen=True, array_like=True):
    """Something that happened, for the explorer and for bills: a type and its figures."""

    type: str
    attributes: dict[str, Any]  # int, str or bytes


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What became of one transaction. `code` is a word of chain/errors.py."""

    code: str
    reason: str
    events: list[Event]

    @property
    def ok(self) -> bool:
        """Whether it took effect."""
        return self.code == OK


def app_hash(state_root: bytes, parameters: bytes) -> bytes:
    """SHA-256(domain ‖ state root ‖ digest of the parameters)."""
    return hashlib.sha256(_APP_DOMAIN + state_root + parameters).digest()


def transactions_root(transactions: Sequence[bytes]) -> bytes:
    """The Merkle root over raw transactions."""
    return merkle.root([merkle.leaf_hash(raw) for raw in transactions])


def results_bytes(results: Sequence[Result], events: Sequence[Event]) -> list[bytes]:
    """The leaves under `Header.results`: one for each transaction, then the block's events."""
    leaves: list[Any] = [msgspec.to_builtins(r, builtin_types=(bytes,)) for r in results]
    leaves.append([msgspec.to_builtins(e, builtin_types=(bytes,)) for e in events])
    return [dagcbor.encode(leaf) for leaf in leaves]


def sign(identity: Identity, header: Header) -> SignedHeader:
    """The header under its proposer's signature."""
    assert header.proposer == identity.id
    raw = header.encoded()
    return SignedHeader(raw, identity.sign(DOMAIN, raw))


def open_header(signed: SignedHeader, chain: str, validators: Sequence[AccountId]) -> Header:
    """The header, if one of `validators` signed it for `chain`. Raises InvalidBlock."""
    try:
        fields: Any = dagcbor.decode(signed.header)
        header = msgspec.convert(fields, Header)
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidBlock(f"not a header: {error!s:.100}") from None
    if header.chain != chain:
        raise InvalidBlock(f"a block of {header.chain!r}, not of {chain!r}")
    proposer = AccountId(header.proposer)
    if proposer not in validators:
        raise InvalidBlock("signed by nobody whom the genesis trusts")
    if not verify(proposer, DOMAIN, signed.header, signed.signature):
        raise InvalidBlock("the signature is not the proposer's")
    return header


def parse_block(raw: bytes) -> Block:
    """Read a block's bytes; nothing is verified. Raises InvalidBlock."""
    if len(raw) > BLOCK_BYTES_MAX:
        raise InvalidBlock("larger than any block")
    try:
        fields: Any = dagcbor.decode(raw)
        return msgspec.convert(fields, Block)
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidBlock(f"not a block: {error!s:.100}") from None
