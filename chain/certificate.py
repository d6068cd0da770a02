"""Ownership certificates: one file that proves, offline, that a network registered an object.

    leaf -> batch root -> state root -> app hash -> header signed by a validator -> genesis

Specification: docs/specs/certificate.md. It proves registration (or deletion, as the leaf says) at
a height; that nothing happened since is another question.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from chain import dagcbor
from chain.errors import InvalidBlock, InvalidCertificate
from chain.genesis import Genesis
from chain.ledger import records, tree
from chain.ledger.block import SignedHeader, app_hash, open_header
from chain.ledger.records import u64
from chain.ledger.transactions.objects import Leaf
from chain.proofs import merkle

FORMAT = 1
CERTIFICATE_BYTES_MAX = 1 << 20

Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
Small = Annotated[bytes, Meta(max_length=4096)]


class _Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    leaf: Small  # canonical bytes of the Leaf
    index: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    path: Annotated[list[Hash], Meta(max_length=64)]  # siblings from the leaf up
    gateway: Hash
    number: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    batch: Small  # canonical bytes of the Batch record
    depth: Annotated[int, Meta(ge=0, le=256)]
    present: Annotated[bytes, Meta(max_length=32)]
    siblings: Annotated[list[Hash], Meta(max_length=256)]
    parameters: Hash  # digest
    header: Small
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


def build(
    leaf: Leaf,
    hashes: Sequence[bytes],
    index: int,
    *,
    gateway: bytes,
    number: int,
    batch: bytes,
    proof: tree.Proof,
    parameters: bytes,
    signed: SignedHeader,
) -> bytes:
    """A certificate for `leaf`, number `index` of a batch whose leaves have exactly `hashes`.

    `batch` is the record's bytes and `proof` its place in the state of the block `signed`.
    """
    fields = _Certificate(
        format=FORMAT,
        leaf=leaf.encoded(),
        index=index,
        path=merkle.path(hashes, index),
        gateway=gateway,
        number=number,
        batch=batch,
        depth=proof.depth,
        present=proof.present,
        siblings=list(proof.siblings),
        parameters=parameters,
        header=signed.header,
        signature=signed.signature,
    )
    return dagcbor.encode(msgspec.structs.asdict(fields))


def verify(certificate: bytes, genesis: Genesis) -> Leaf:
    """The leaf that the certificate proves under this genesis. Raises InvalidCertificate."""
    fields = _parse(certificate)
    try:
        signed = SignedHeader(fields.header, fields.signature)
        header = open_header(signed, genesis.chain_id, genesis.validator_ids())
    except InvalidBlock as error:
        raise InvalidCertificate(str(error)) from None
    proof = tree.Proof(fields.depth, fields.present, tuple(fields.siblings))
    key = records.BATCHES.prefix + fields.gateway + u64(fields.number)
    root = tree.root_from(proof, key, fields.batch)
    if root is None or app_hash(root, fields.parameters) != header.app_hash:
        raise InvalidCertificate("the batch is not in the block's state")
    try:
        batch = records.decode(records.BATCHES, fields.batch)
        leaf = msgspec.convert(_canonical(fields.leaf), Leaf)
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidCertificate(f"not a record: {error!s:.100}") from None
    leaf_hash = merkle.leaf_hash(fields.leaf)
    if not merkle.verify(batch.root, leaf_hash, fields.index, batch.count, fields.path):
        raise InvalidCertificate("the object is not in the batch")
    return leaf


def _parse(certificate: bytes) -> _Certificate:
    if len(certificate) > CERTIFICATE_BYTES_MAX:
        raise InvalidCertificate("larger than any certificate")
    try:
        fields = msgspec.convert(_canonical(certificate), _Certificate)
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidCertificate(f"not a certificate: {error!s:.100}") from None
    if fields.format != FORMAT:
        raise InvalidCertificate(f"format {fields.format}, this program knows {FORMAT}")
    return fields


def _canonical(raw: bytes) -> Any:
    return dagcbor.decode(raw)
