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
from gateway.records import OutboxRow, decode
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


_pack = msgspec.msgpack.Encoder().encode
_unpack_pending = msgspec.msgpack.Decoder(_Pending).decode
_unpack_leaves = msgspec.msgpack.Decoder(list[bytes]).decode
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

    async def certificate(self, uid: bytes) -> bytes:
        """The ownership certificate of the version named `uid`.

        Raises NoSuchKey (never registered here), ServiceUnavailable (not on the ledger yet).
        """
        with self._catalog.read() as reader:
            place = reader.get(Space.LEAVES, uid)
            if place is None:
                raise ServiceUnavailable("The object is not on the ledger yet: try again soon.")
            number, index = _unpack_place(place)
            raw = reader.get(Space.BATCHES, number.to_bytes(8, "big"))
            waiting = reader.get(Space.META, _PENDING)
        if raw is None:
            raise NoSuchKey("The object's batch is not kept here.")
        if waiting is not None and _unpack_pending(waiting).number <= number:
            raise ServiceUnavailable("The object is not on the ledger yet: try again soon.")
        leaves = [msgspec.convert(dagcbor.decode(leaf), Leaf) for leaf in _unpack_leaves(raw)]
        proof = await self._ledger.object_proof(self._gateway.id, number)
        return proof.certificate(leaves, index)


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
    root = merkle.root([leaf.hash() for leaf in leaves])
    released = [(miner, parse_released(raw)) for miner, raw in freed]
    pending = _Pending(number, len(leaves), root, _deltas(entries), receipts, released)
    changes: list[Change] = [Delete(Space.OUTBOX, key) for key in keys]
    changes += [Delete(Space.RELEASED, miner) for miner, _ in freed]
    changes.append(Put(Space.META, _NUMBER, number.to_bytes(8, "big")))
    changes.append(Put(Space.META, _PENDING, _pack(pending)))
    encoded = _pack([leaf.encoded() for leaf in leaves])
    changes.append(Put(Space.BATCHES, number.to_bytes(8, "big"), encoded))
    changes += [
        Put(Space.LEAVES, entry.uid, _pack((number, index)))
        if entry.operation == "put"
        else Delete(Space.LEAVES, entry.uid)
        for index, entry in enumerate(objects)
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


def _deltas(entries: Iterable[OutboxRow]) -> list[tuple[bytes, int, int]]:
    """(lease, bytes added, bytes removed), one for each lease, in order of the lease ids."""
    added: dict[bytes, int] = {}
    removed: dict[bytes, int] = {}
    for entry in entries:
        side = removed if entry.operation == "delete" else added
        side[entry.lease] = side.get(entry.lease, 0) + entry.size
    leases = sorted({*added, *removed})
    return [(lease, added.get(lease, 0), removed.get(lease, 0)) for lease in leases]
