"""The signed transaction around every body. Specification: docs/specs/transaction.md.

Parsing is strict: canonical DAG-CBOR, every field within its bounds, nothing unknown. What parses
has exactly one form, so the id (the CID of the bytes) names one transaction.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import msgspec

from chain import dagcbor
from chain.cids import DAG_CBOR, SHA2_256, Cid
from chain.errors import Rejected
from chain.ids import AccountId
from chain.keys.identity import Identity, verify
from chain.ledger.transactions.body import Body, Height, Id, Signature, Units

DOMAIN = b"cumulus/transaction/1"
TRANSACTION_BYTES_MAX = 1 << 20


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chain: Annotated[str, msgspec.Meta(max_length=50)]
    nonce: Height
    fee: Units
    expiry: Height
    type: Annotated[str, msgspec.Meta(max_length=40)]
    body: dict[str, Any]
    signer: Id
    signature: Signature


@dataclass(frozen=True)
class Transaction:
    """A parsed transaction. The signature is not checked yet: ask `is_signed`."""

    raw: bytes
    chain: str
    nonce: int
    fee: int
    expiry: int  # the last height at which it may be in a block
    body: Body
    signer: AccountId
    signature: bytes
    signed_bytes: bytes

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.raw).digest()

    @property
    def id(self) -> Cid:
        """CIDv1, dag-cbor, SHA-256."""
        return Cid.of(DAG_CBOR, SHA2_256, self.digest)

    def is_signed(self) -> bool:
        """Whether the signer signed it (43 µs)."""
        return verify(self.signer, DOMAIN, self.signed_bytes, self.signature)


def parse(raw: bytes, registry: dict[str, type[Body]]) -> Transaction:
    """Read a transaction of a known type. Raises Rejected("malformed" or "too_large")."""
    if len(raw) > TRANSACTION_BYTES_MAX:
        raise Rejected("too_large", f"a transaction has at most {TRANSACTION_BYTES_MAX} bytes")
    try:
        fields: Any = dagcbor.decode(raw)
        envelope = msgspec.convert(fields, _Envelope)
        body_type = registry.get(envelope.type)
        if body_type is None:
            raise Rejected("malformed", f"unknown transaction type {envelope.type!r}")
        body = msgspec.convert(envelope.body, body_type)
    except (ValueError, msgspec.ValidationError) as error:
        raise Rejected("malformed", f"{error!s:.200}") from None
    del fields["signature"]
    return Transaction(
        raw=raw,
        chain=envelope.chain,
        nonce=envelope.nonce,
        fee=envelope.fee,
        expiry=envelope.expiry,
        body=body,
        signer=AccountId(envelope.signer),
        signature=envelope.signature,
        signed_bytes=dagcbor.encode(fields),
    )


def sign(identity: Identity, body: Body, *, chain: str, nonce: int, fee: int, expiry: int) -> bytes:
    """The bytes of a signed transaction."""
    fields: dict[str, Any] = {
        "chain": chain,
        "nonce": nonce,
        "fee": fee,
        "expiry": expiry,
        "type": body.name,
        "body": body.to_fields(),
        "signer": bytes(identity.id),
    }
    fields["signature"] = identity.sign(DOMAIN, dagcbor.encode(fields))
    return dagcbor.encode(fields)
