"""Object batches: what gateways registered and deleted, metered, with the miners' receipts.

A gateway's bytes were reserved before it acknowledged a PUT, so a correct batch is never refused: a
receipt that does not count is left out and an event says why.
"""

import hashlib
import struct
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from chain import dagcbor
from chain.errors import Rejected
from chain.ledger import records
from chain.ledger.execution import Execution
from chain.ledger.records import Batch, Holding, Mark, u64
from chain.ledger.transactions.body import Body, Bytes, Height, Id
from chain.proofs import merkle
from chain.receipts import StorageReceipt

DELTAS_MAX, RECEIPTS_MAX, LEAVES_MAX = 4_096, 1_024, 1_000_000
_SIZE_MAX = 1 << 60
# A miner's clock may be ahead of the chain's by this much.
_AHEAD_NS = 600 * 10**9


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One object version, registered or deleted: a leaf of a batch. docs/specs/certificate.md."""

    fid: Annotated[bytes, Meta(min_length=4, max_length=160)]  # CID of the manifest
    version: Annotated[str, Meta(max_length=256)]
    owner: Id
    lease: Id
    size: Bytes = msgspec.field(name="bytes")
    height: Height  # of the ledger when the gateway committed it
    operation: Annotated[str, Meta(pattern="^(put|delete)$")]

    def encoded(self) -> bytes:
        """Canonical DAG-CBOR."""
        return dagcbor.encode(msgspec.to_builtins(self, builtin_types=(bytes,)))

    def hash(self) -> bytes:
        """Its hash in the batch's Merkle tree (RFC 6962)."""
        return merkle.leaf_hash(self.encoded())


class Delta(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Bytes that a batch added to and removed from one lease."""

    lease: Id
    added: Bytes
    removed: Bytes


class Release(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Bytes of deleted fragments that a miner no longer stores."""

    miner: Id
    size: Bytes


class ObjectBatch(Body, frozen=True):
    """The signing gateway's batch `number`, counted from 1 without gaps."""

    name: ClassVar[str] = "object_batch"
    number: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    root: Id
    count: Annotated[int, Meta(ge=0, le=LEAVES_MAX)]
    deltas: Annotated[list[Delta], Meta(max_length=DELTAS_MAX)]
    receipts: Annotated[list[StorageReceipt], Meta(max_length=RECEIPTS_MAX)]
    released: Annotated[list[Release], Meta(max_length=RECEIPTS_MAX)]

    def apply(self, run: Execution) -> None:
        gateway = run.state.get(records.GATEWAYS, run.signer)
        if gateway is None:
            raise Rejected("not_found", "register the gateway first")
        key = run.signer + u64(self.number)
        digest = hashlib.sha256(dagcbor.encode(self.to_fields())).digest()
        before = run.state.get(records.BATCHES, key)
        if before is not None:
            if before.digest != digest:
                raise Rejected("conflict", f"batch {self.number} was another one")
            run.emit("batch_replayed", gateway=run.signer, number=self.number)
            return
        if self.number != gateway.batches:
            raise Rejected("gap", f"the next batch has number {gateway.batches}")
        self._meter(run)
        stored: dict[bytes, int] = {}
        self._count_receipts(run, stored)
        self._count_releases(run, stored)
        for miner, difference in stored.items():
            _change_stored(run, miner, difference)
        run.state.put(records.GATEWAYS, run.signer, replace(gateway, batches=self.number + 1))
        run.state.put(records.BATCHES, key, Batch(digest, self.root, self.count, run.height))
        run.emit(
            "object_batch", gateway=run.signer, number=self.number, root=self.root, count=self.count
        )

    def _meter(self, run: Execution) -> None:
        if len({delta.lease for delta in self.deltas}) != len(self.deltas):
            raise Rejected("conflict", "one delta per lease")
        for delta in self.deltas:
            lease = run.state.get(records.LEASES, delta.lease)
            if lease is None:
                # expired since the gateway acknowledged: nothing is left to meter
                run.emit("unmetered", lease=delta.lease, added=delta.added)
                continue
            key = delta.lease + run.signer
            held = run.state.get(records.AUTHORISATIONS, key)
            if held is None:
                raise Rejected("not_owner", f"not authorised on lease {delta.lease.hex()}")
            used = held.used + delta.added - delta.removed
            if not 0 <= used <= held.reserved:
                raise Rejected(
                    "over_reservation", f"{used} bytes of {held.reserved} that are reserved"
                )
            run.state.put(records.AUTHORISATIONS, key, replace(held, used=used))
            after = replace(lease, used=lease.used + used - held.used)
            run.state.put(records.LEASES, delta.lease, after)

    def _count_receipts(self, run: Execution, stored: dict[bytes, int]) -> None:
        """Add to `stored` (miner -> bytes) what receipts say that count."""
        for receipt in self.receipts:
            refusal = _refusal(run, receipt, stored.get(receipt.miner, 0))
            if refusal:
                run.emit("receipt_refused", miner=receipt.miner[:32], reason=refusal)
                continue
            run.state.put(records.RECEIPTS, _receipt_key(receipt), Mark(run.height))
            stored[receipt.miner] = stored.get(receipt.miner, 0) + receipt.size

    def _count_releases(self, run: Execution, stored: dict[bytes, int]) -> None:
        """Take from `stored` what was released: at each miner no more than this gateway holds."""
        for release in self.released:
            miner = release.miner
            held = run.state.get(records.HOLDINGS, miner + run.signer)
            there = (held.size if held else 0) + stored.get(miner, 0)
            size = min(release.size, there)
            if size < release.size:
                run.emit("release_cut", miner=miner, asked=release.size, held=there)
            stored[miner] = stored.get(miner, 0) - size


def _refusal(run: Execution, receipt: StorageReceipt, more: int) -> str:
    """Why a receipt does not count; empty when it does. `more` bytes are new at its miner."""
    in_bounds = (
        len(receipt.miner) == 32
        and len(receipt.root) == 32
        and 0 < receipt.count <= LEAVES_MAX
        and 0 <= receipt.size <= _SIZE_MAX
    )
    if not in_bounds:
        return "malformed"
    oldest = run.time_ns - run.parameters.receipt_seconds * 10**9
    if not max(0, oldest) <= receipt.time_ns <= run.time_ns + _AHEAD_NS:
        return "too old or ahead of time"
    if run.state.get(records.RECEIPTS, _receipt_key(receipt)) is not None:
        return "counted before"
    return _miners_refusal(run, receipt, more)


def _miners_refusal(run: Execution, receipt: StorageReceipt, more: int) -> str:
    """What the miner's record and signature say against a receipt; empty for nothing."""
    miner = run.state.get(records.MINERS, receipt.miner)
    if miner is None:
        return "no such miner"
    if miner.state == "lost":
        return "the miner is lost"
    if miner.stored_bytes + more + receipt.size > miner.pledged_bytes:
        return "more than the miner pledged"
    return "" if receipt.is_signed() else "not signed by the miner"


def _receipt_key(receipt: StorageReceipt) -> bytes:
    counted = receipt.miner + receipt.root + struct.pack(">QQ", receipt.count, receipt.size)
    return u64(receipt.time_ns) + hashlib.sha256(counted).digest()


def _change_stored(run: Execution, miner: bytes, difference: int) -> None:
    """Bytes of the signing gateway at a registered miner."""
    record = run.state.get(records.MINERS, miner)
    if record is None or not difference:
        return
    key = miner + run.signer
    held = run.state.get(records.HOLDINGS, key) or Holding(0)
    after = Holding(held.size + difference)
    run.state.put(records.HOLDINGS, key, after if after.size else None)
    stored = record.stored_bytes + difference
    assert stored >= 0 <= after.size, "holdings add up to what is stored"
    run.state.put(records.MINERS, miner, replace(record, stored_bytes=stored))
    run.emit("stored_bytes", miner=miner, stored=stored)
