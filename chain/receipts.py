"""Storage receipts: a miner's word that fragments are on its stable storage.

A miner signs once per group commit, over the Merkle root of the fragments in it; each fragment gets
its path. The ledger verifies the signature, the gateway the path. See docs/specs/receipt.md.
"""

import struct

import msgspec

from chain.ids import AccountId, FragmentId
from chain.keys.identity import Identity, verify
from chain.proofs import merkle

_DOMAIN = b"cumulus/storage-receipt/1"
_FIGURES = struct.Struct(">QQQ")


class StorageReceipt(msgspec.Struct, frozen=True, array_like=True):
    """`count` fragments of `size` bytes together, under one Merkle root, signed by the miner."""

    miner: AccountId
    root: bytes
    count: int
    size: int
    time_ns: int  # the miner's clock
    signature: bytes

    def is_signed(self) -> bool:
        """Whether the signature is the miner's."""
        signed = _signed_bytes(self.miner, self.root, self.count, self.size, self.time_ns)
        return verify(self.miner, _DOMAIN, signed, self.signature)


def fragment_leaf(fragment: FragmentId, size: int) -> bytes:
    """The leaf hash of one fragment of `size` bytes."""
    return merkle.leaf_hash(fragment + size.to_bytes(8, "big"))


def sign_receipt(
    identity: Identity, root: bytes, count: int, size: int, time_ns: int
) -> StorageReceipt:
    """Sign for `count` fragments under a Merkle root, `size` bytes in all."""
    signature = identity.sign(_DOMAIN, _signed_bytes(identity.id, root, count, size, time_ns))
    return StorageReceipt(identity.id, root, count, size, time_ns, signature)


def _signed_bytes(miner: AccountId, root: bytes, count: int, size: int, time_ns: int) -> bytes:
    return miner + root + _FIGURES.pack(count, size, time_ns)
