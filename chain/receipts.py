"""Storage receipts: a miner's word that fragments are on its stable storage.

A miner signs once per group commit, over the Merkle root of the fragments in it; each fragment gets
its path. The ledger verifies the signature, the gateway the path. See docs/specs/receipt.md.
"""

import struct
from collections.abc import Sequence

import msgspec

from chain.ids import AccountId, FragmentId
from chain.keys.identity import Identity, verify
from chain.proofs import merkle

_DOMAIN = b"cumulus/storage-receipt/1"


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
        return verify(self.miner, _DOMAIN, _signed_bytes(self), self.signature)


def fragment_leaf(fragment: FragmentId, size: int) -> bytes:
    """The leaf hash of one fragment of `size` bytes."""
    return merkle.leaf_hash(fragment + struct.pack(">Q", size))


def sign_receipt(
    identity: Identity, leaves: Sequence[bytes], size: int, time_ns: int
) -> StorageReceipt:
    """Sign for the fragments with these leaf hashes, `size` bytes in all."""
    unsigned = StorageReceipt(
        identity.id, merkle.root(leaves), len(leaves), size, time_ns, signature=b""
    )
    return msgspec.structs.replace(
        unsigned, signature=identity.sign(_DOMAIN, _signed_bytes(unsigned))
    )


def _signed_bytes(receipt: StorageReceipt) -> bytes:
    return (
        receipt.miner
        + receipt.root
        + struct.pack(">QQQ", receipt.count, receipt.size, receipt.time_ns)
    )
