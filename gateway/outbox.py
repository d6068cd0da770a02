"""The ledger outbox: what the catalog committed becomes numbered object batches.

    OUTBOX, RELEASED -> (one catalog commit) -> BATCHES[number] + META pending -> ledger -> done

The batch is fixed in the catalog before it is sent, so a retry after any crash sends the same
number with the same content, which the ledger takes as a replay. See docs/specs/outbox.md.
"""

import logging
from collections.abc import Iterable, Sequence

import msgspec

from chain import dagcbor
from chain.client import LedgerClient, TransactionFailed
from chain.keys.identity import Identity
from chain.ledger.transactions.objects import Delta, Leaf, ObjectBatch, Release
from chain.proofs import merkle
from chain.receipts import StorageReceipt
from gateway.catalog.interface import (
    Batch,
    Catalog,
    Change,
    Conflict,
    Delete,
    Equals,
    Put,
    Reader,
    Space,
)
from gateway.errors import NoSuchKey, ServiceUnavailable
from gateway.model import ObjectVersion
from gateway.records import OutboxRow, decode
from gateway.store import account_keys
from gateway.versions import version_row
from miner.placement import parse_released

log = logging.getLogger(__name__)

_PENDING = b"outbox/pending"
_NUMBER = b"outbox/number"
# A batch is one transaction (the ledger takes 1,024 receipts in one) and one catalog commit.
ROWS_MAX, RECEIPTS_MAX, RELEASED_MAX = 4_096, 1_000, 1_000
_ATTEMPTS = 16
_QUEUES = (Space.OUTBOX, Space.RELEASED)


class _Pending(msgspec.Struct, frozen=True, array_like=True):
    number: int
    count: int
    root: bytes
    deltas: list[tuple[bytes, int, int]]
    receipts: list[StorageReceipt]
    released: list[tuple[bytes, int]]


class _Leaves(msgspec.Struct, frozen=True, array_like=True):
    """A row of BATCHES. What its leaves say follows from the versions' own rows and `height`."""

    height: int
    hashes: bytes  # 32 bytes for each leaf, in order


_pack = msgspec.msgpack.Encoder().encode
_unpack_pending = msgspec.msgpack.Decoder(_Pending).decode
_unpack_leaves = msgspec.msgpack.Decoder(_Leaves).decode
_unpack_old_leaves = msgspec.msgpack.Decoder(list[bytes]).decode
_unpack_place = msgspec.msgpack.Decoder(tuple[int, int]).decode
_unpack_receipt = msgspec.msgpack.Decoder(StorageReceipt).decode


class Outbox:
    """Sends the outbox of one catalog under one gateway identity. Used by one task at a time."""

    def __init__(self, catalog: Catalog, ledger: LedgerClient, gateway: Identity) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._gateway = gateway

    async def step(self) -> bool:
        """Bring one batch to the ledger; False when there was nothing to do.

        Raises TransactionFailed, RemoteError, Unreachable, CatalogUnavailable: try again later.
        """
        pending = self._pending() or await self._fix()
        if pending is None:
            return False
        deltas = [Delta(lease, added, removed) for lease, added, removed in pending.deltas]
        body = ObjectBatch(
            number=pending.number,
            root=pending.root,
            count=pending.count,
            deltas=deltas,
            receipts=pending.receipts,
            released=[Release(miner, size) for miner, size in pending.released],
        )
        try:
            await self._ledger.submit(self._gateway, body)
        except TransactionFailed as error:
            log.error("batch %d was refused: %s", pending.number, error)
            raise
        await self._catalog.commit(Batch((), [Delete(Space.META, _PENDING)]))
        return True

    def _pending(self) -> _Pending | None:
        with self._catalog.read() as reader:
            raw = reader.get(Space.META, _PENDING)
        return None if raw is None else _unpack_pending(raw)

    async def _fix(self) -> _Pending | None:
        """Turn waiting rows into the next batch, durably; None when no row waits."""
        with self._catalog.read() as reader:
            if not any(reader.scan(space, b"\x00", None, 1) for space in _QUEUES):
                return None
        height = (await self._ledger.status()).height
        for _ in range(_ATTEMPTS):
            with self._catalog.read() as reader:
                batch = _next_batch(reader, height)
            try:
                await self._catalog.commit(batch)
            except Conflict:
                continue  # more was released meanwhile
            return self._pending()
        return None

    async def certificate(self, version: ObjectVersion) -> bytes:
        """The ownership certificate of a version that `head` gave.

        Raises NoSuchKey (never registered here), ServiceUnavailable (not on the ledger yet).
        """
        with self._catalog.read() as reader:
            place = reader.get(Space.LEAVES, version.uid)
            if place is None:
                raise ServiceUnavailable("The object is not on the ledger yet: try again soon.")
            number, index = _unpack_place(place)
            raw = reader.get(Space.BATCHES, number.to_bytes(8, "big"))
            waiting = reader.get(Space.META, _PENDING)
            owner = account_keys(reader, version.bucket.owner.id).owner
        if raw is None:
            raise NoSuchKey("The object's batch is not kept here.")
        if waiting is not None and _unpack_pending(waiting).number <= number:
            raise ServiceUnavailable("The object is not on the ledger yet: try again soon.")
        leaf, hashes = _leaf_of(version, owner, raw, index)
        if leaf.hash() != hashes[index]:
            raise NoSuchKey("The object's batch says something else of it.")
        proof = await self._ledger.object_proof(self._gateway.id, number)
        return proof.certificate(leaf, hashes, index)


def _next_batch(reader: Reader, height: int) -> Batch:
    """The commit that fixes the next batch."""
    rows = reader.scan(Space.OUTBOX, b"\x00", None, ROWS_MAX)
    last = reader.get(Space.META, _NUMBER)
    keys, entries, receipts = _take(rows)
    # A deletion is told with or behind the receipts of what it deletes, never before: the ledger
    # counts a miner's bytes down to 0 at the least.
    all_taken = len(keys) == len(rows) < ROWS_MAX
    freed = reader.scan(Space.RELEASED, b"\x00", None, RELEASED_MAX) if all_taken else []
    number = (int.from_bytes(last, "big") if last else 0) + 1
    objects = [entry for entry in entries if entry.operation in ("put", "delete")]
    leaves = [_leaf(entry, height) for entry in objects]
    hashes = [leaf.hash() for leaf in leaves]
    root = merkle.root(hashes)
    released = [(miner, parse_released(raw)) for miner, raw in freed]
    pending = _Pending(number, len(leaves), root, _deltas(entries), receipts, released)
    changes: list[Change] = [Delete(Space.OUTBOX, key) for key in keys]
    changes += [Delete(Space.RELEASED, miner) for miner, _ in freed]
    changes.append(Put(Space.META, _NUMBER, number.to_bytes(8, "big")))
    changes.append(Put(Space.META, _PENDING, _pack(pending)))
    kept = _pack(_Leaves(height, b"".join(hashes)))
    changes.append(Put(Space.BATCHES, number.to_bytes(8, "big"), kept))
    # In the order of their keys, which fills their pages; stable: a put comes before its delete.
    changes += [
        Put(Space.LEAVES, entry.uid, _pack((number, index)))
        if entry.operation == "put"
        else Delete(Space.LEAVES, entry.uid)
        for index, entry in sorted(enumerate(objects), key=lambda pair: pair[1].uid)
    ]
    unchanged = [Equals(Space.RELEASED, miner, raw) for miner, raw in freed]
    return Batch([Equals(Space.META, _NUMBER, last), *unchanged], changes)


def _take(
    rows: Sequence[tuple[bytes, bytes]],
) -> tuple[list[bytes], list[OutboxRow], list[StorageReceipt]]:
    """As many rows from the front as one batch holds; receipts of one commit only once."""
    keys: list[bytes] = []
    entries: list[OutboxRow] = []
    receipts: dict[bytes, StorageReceipt] = {}
    for key, raw in rows:
        entry = decode(OutboxRow, raw)
        found = {packed: _unpack_receipt(packed) for packed in entry.receipts}
        if keys and len(receipts) + len(found) > RECEIPTS_MAX:
            break
        receipts.update(found)
        keys.append(key)
        entries.append(entry)
    return keys, entries, list(receipts.values())


def _leaf(entry: OutboxRow, height: int) -> Leaf:
    return Leaf(
        fid=entry.fid,
        version=entry.uid.hex(),
        owner=entry.owner,
        lease=entry.lease,
        size=entry.size,
        height=height,
        operation=entry.operation,
    )


def _leaf_of(
    version: ObjectVersion, owner: bytes, raw: bytes, index: int
) -> tuple[Leaf, list[bytes]]:
    """A stored version's leaf, number `index` of the batch in row `raw`, and all leaves' hashes."""
    try:
        kept = _unpack_leaves(raw)
    except msgspec.ValidationError:  # the first release kept the leaves themselves
        leaves = _unpack_old_leaves(raw)
        leaf = msgspec.convert(dagcbor.decode(leaves[index]), Leaf)
        return leaf, [merkle.leaf_hash(one) for one in leaves]
    row = version_row(version)
    entry = OutboxRow("put", row.fid, row.uid, owner, row.lease, row.charged, 0, ())
    step = merkle.DIGEST_BYTES
    hashes = [kept.hashes[at : at + step] for at in range(0, len(kept.hashes), step)]
    return _leaf(entry, kept.height), hashes


def _deltas(entries: Iterable[OutboxRow]) -> list[tuple[bytes, int, int]]:
    """(lease, bytes added, bytes removed), one for each lease, in order of the lease ids."""
    added: dict[bytes, int] = {}
    removed: dict[bytes, int] = {}
    for entry in entries:
        if not entry.lease:
            continue  # repair: receipts only
        side = removed if entry.operation == "delete" else added
        side[entry.lease] = side.get(entry.lease, 0) + entry.size
    leases = sorted({*added, *removed})
    return [(lease, added.get(lease, 0), removed.get(lease, 0)) for lease in leases]
