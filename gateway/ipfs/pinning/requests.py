"""Requests to pin: rows that survive restarts (docs/specs/unixfs-index.md), and their queue."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from chain.cids import Cid
from chain.clock import Clock, Entropy
from gateway.catalog.interface import (
    Add,
    Batch,
    Catalog,
    CatalogUnavailable,
    Change,
    Condition,
    Conflict,
    Delete,
    Equals,
    Put,
    Space,
)
from gateway.errors import SlowDown
from gateway.ipfs.errors import NotPinned
from gateway.ipfs.index import rows
from gateway.ipfs.index.pins import Pins
from gateway.ipfs.pinning.documents import Wanted
from gateway.model import Bucket
from gateway.transaction import unavailable

QUEUE = b"ipfs-pin/"
REQUESTS_MAX = 100_000  # of a bucket
_COUNTER = b"ipfs-pins/"
_PAGE = 500
_ID_BYTES = 16
_ATTEMPTS = 64


class NoSuchRequest(Exception):
    """The bucket has no request of this id."""


class TooManyRequests(Exception):
    """The bucket has REQUESTS_MAX requests."""


class RequestRow(msgspec.Struct, frozen=True, array_like=True):
    """Row 09 ‖ bucket id ‖ request id."""

    cid: bytes
    name: str
    origins: tuple[str, ...]
    meta: dict[str, str]
    created_ns: int
    status: str  # queued, pinning, pinned, failed
    reason: str = ""  # why it failed, or waits
    tries: int = 0
    shared: bool = False  # the pin was there before, and is not this request's to remove

    @property
    def wanted(self) -> Wanted:
        """As the client put it."""
        return Wanted(Cid(self.cid), self.name, self.origins, self.meta)


class QueueRow(msgspec.Struct, frozen=True, array_like=True):
    """Job `ipfs-pin/` ‖ bucket id ‖ request id: it is to be worked on."""

    bucket: str
    not_before_ns: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is stored."""

    id: bytes
    row: RequestRow
    value: bytes  # the row


class Requests:
    """The requests of all buckets. Raises StoreError where the catalog is away."""

    def __init__(self, catalog: Catalog, pins: Pins, clock: Clock, entropy: Entropy) -> None:
        self._catalog = catalog
        self._pins = pins
        self._clock = clock
        self._entropy = entropy

    async def create(self, bucket: Bucket, wanted: Wanted, *, instead: bytes = b"") -> Request:
        """A new request, queued; `instead`: of that one, which goes.

        Raises NoSuchRequest (`instead`), TooManyRequests.
        """
        now = self._clock.now_ns()
        id = now.to_bytes(8, "big") + self._entropy(_ID_BYTES - 8)
        row = RequestRow(
            wanted.cid.raw, wanted.name, wanted.origins, dict(wanted.meta), now, "queued"
        )
        value = _packed(row)
        changes: list[Change] = [
            Put(Space.BLOCKS, _key(bucket.id, id), value),
            Put(Space.JOBS, QUEUE + bucket.id + id, _packed(QueueRow(bucket.name))),
        ]
        counted = Add(_COUNTER + bucket.id, 1, ceiling=REQUESTS_MAX)
        if instead:
            await self.delete(bucket, instead, also=[*changes, counted])
        elif not await self._commit([], [*changes, counted]):
            raise TooManyRequests
        return Request(id, row, value)

    def get(self, bucket: Bucket, id: bytes) -> Request:
        """Raises NoSuchRequest."""
        with self._catalog.read() as reader:
            value = reader.get(Space.BLOCKS, _key(bucket.id, id))
        if value is None:
            raise NoSuchRequest
        return Request(id, _request(value), value)

    async def all(self, bucket: Bucket) -> AsyncIterator[Request]:
        """Every request, newest first."""
        start = rows.requests_prefix(bucket.id)
        end = rows.after(start)
        while True:
            with self._catalog.read() as reader:
                page = reader.scan(Space.BLOCKS, start, end, _PAGE, reverse=True)
            for key, value in page:
                yield Request(key[-_ID_BYTES:], _request(value), value)
            if len(page) < _PAGE:
                return
            end = page[-1][0]
            await asyncio.sleep(0)

    async def delete(self, bucket: Bucket, id: bytes, *, also: Sequence[Change] = ()) -> None:
        """Forget a request, and unpin what it pinned, unless something else pins it too.

        `also` is done in the same commit. Raises NoSuchRequest.
        """
        for _ in range(_ATTEMPTS):
            found = self.get(bucket, id)
            key = _key(bucket.id, id)
            changes: list[Change] = [
                Delete(Space.BLOCKS, key),
                Delete(Space.JOBS, QUEUE + bucket.id + id),
                Add(_COUNTER + bucket.id, -1),
                *also,
            ]
            if await self._commit([Equals(Space.BLOCKS, key, found.value)], changes):
                if found.row.status == "pinned" and not found.row.shared:
                    await self.unpin(bucket, Cid(found.row.cid))
                return
        raise SlowDown

    async def unpin(self, bucket: Bucket, cid: Cid) -> None:
        """Remove the pin of a CID if no request rests on it."""
        if not await self.rests(bucket, cid):
            with suppress(NotPinned):
                await self._pins.remove(bucket, cid)

    async def rests(self, bucket: Bucket, cid: Cid, *, besides: bytes = b"") -> bool:
        """Whether a request has pinned this CID, or is about to."""
        async for each in self.all(bucket):
            is_other = each.id != besides and each.row.cid == cid.raw
            if is_other and each.row.status in ("pinned", "pinning"):
                return True
        return False

    # ------------------------------------------------------------------ the queue
    def due(self, each: int) -> list[tuple[bytes, str, bytes]]:
        """(bucket id, bucket, request id) of what is to be worked on now.

        Up to `each` of a bucket, oldest first; the first of every bucket, then the second …
        """
        now = self._clock.now_ns()
        found: list[tuple[int, tuple[bytes, str, bytes]]] = []
        counts: dict[bytes, int] = {}
        start, end = QUEUE, rows.after(QUEUE)
        while True:
            with self._catalog.read() as reader:
                page = reader.scan(Space.JOBS, start, end, _PAGE)
            for key, value in page:
                start = key + b"\x00"
                bucket_id, id = key[len(QUEUE) : -_ID_BYTES], key[-_ID_BYTES:]
                row = rows.unpacked(value, QueueRow)
                if row.not_before_ns > now:
                    continue
                count = counts[bucket_id] = counts.get(bucket_id, 0) + 1
                found.append((count, (bucket_id, row.bucket, id)))
                if count == each:
                    start = rows.after(QUEUE + bucket_id)
                    break
            else:
                if len(page) < _PAGE:
                    return [place for _, place in sorted(found)]

    async def change(
        self, bucket: Bucket, request: Request, row: RequestRow, *, again_ns: int | None = None
    ) -> Request | None:
        """Put another row; None if the request has changed or is gone.

        `again_ns`: it stays in the queue until then; else a row that is pinned or failed leaves it.
        """
        key, job = _key(bucket.id, request.id), QUEUE + bucket.id + request.id
        value = _packed(row)
        changes: list[Change] = [Put(Space.BLOCKS, key, value)]
        if again_ns is not None:
            changes.append(Put(Space.JOBS, job, _packed(QueueRow(bucket.name, again_ns))))
        elif row.status in ("pinned", "failed"):
            changes.append(Delete(Space.JOBS, job))
        if not await self._commit([Equals(Space.BLOCKS, key, request.value)], changes):
            return None
        return Request(request.id, row, value)

    async def forget(self, bucket_id: bytes, id: bytes) -> None:
        """Take a request from the queue whose bucket or row is gone."""
        await self._commit([], [Delete(Space.JOBS, QUEUE + bucket_id + id)])

    async def _commit(self, conditions: list[Condition], changes: list[Change]) -> bool:
        """False if it was overtaken."""
        try:
            await self._catalog.commit(Batch(conditions, changes))
        except Conflict:
            return False
        except CatalogUnavailable as error:
            raise unavailable(error) from error
        return True


def _key(bucket_id: bytes, id: bytes) -> bytes:
    return rows.requests_prefix(bucket_id) + id


def _packed(row: RequestRow | QueueRow) -> bytes:
    return rows.FORMAT + msgspec.msgpack.encode(row)


def _request(value: bytes) -> RequestRow:
    return rows.unpacked(value, RequestRow)
