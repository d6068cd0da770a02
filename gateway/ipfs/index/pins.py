"""Pins: what a bucket's collections leave alone (unixfs-index.md)."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from chain.cids import Cid
from chain.clock import Clock, Entropy
from gateway.catalog.interface import (
    Batch,
    Catalog,
    CatalogUnavailable,
    Change,
    Condition,
    Conflict,
    Delete,
    Equals,
    Put,
    Reader,
    Space,
)
from gateway.errors import SlowDown
from gateway.ipfs.errors import AlreadyPinned, BlockError, Incomplete, NotPinned
from gateway.ipfs.index import rows
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.dag import Once, below, unbounded
from gateway.ipfs.index.packs import Packs
from gateway.model import Bucket
from gateway.transaction import unavailable

_ATTEMPTS = 64
_PAGE = 1000
_CHANCE = 8


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin of a bucket."""

    cid: Cid
    recursive: bool
    name: str
    created_ns: int


class Pins:
    """Pins of buckets that publish. Every method raises StoreError where the catalog is away."""

    def __init__(
        self, catalog: Catalog, index: BlockIndex, packs: Packs, clock: Clock, entropy: Entropy
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._packs = packs
        self._clock = clock
        self._entropy = entropy

    async def add(
        self,
        bucket: Bucket,
        cid: Cid,
        *,
        recursive: bool = True,
        name: str = "",
        partial: bool = False,
    ) -> int:
        """Pin a block, or all that it reaches; the number of blocks.

        All of it must be here, unless `partial`; what no pack of this bucket holds (an object's
        blocks, another bucket's) is stored as packs too. A pin of the same CID is replaced.
        Raises Incomplete, AlreadyPinned.
        """
        before = await self._put(bucket, cid, recursive=recursive, name=name)
        try:
            return await self._own(bucket, cid, recursive=recursive, partial=partial)
        except BaseException:
            await self._undo(bucket, cid, before)
            raise

    async def remove(self, bucket: Bucket, cid: Cid) -> Pin:
        """Unpin; the pin that was. Raises NotPinned."""
        key = rows.pin_key(bucket.id, cid)
        for _ in range(_ATTEMPTS):
            with self._catalog.read() as reader:
                value = reader.get(Space.BLOCKS, key)
            if value is None:
                raise NotPinned(f"{cid} is not pinned")
            if await self._commit([Equals(Space.BLOCKS, key, value)], [Delete(Space.BLOCKS, key)]):
                return _pin(bucket, key, value)
        raise SlowDown

    def get(self, bucket: Bucket, cid: Cid) -> Pin | None:
        """The pin of this very CID."""
        key = rows.pin_key(bucket.id, cid)
        with self._catalog.read() as reader:
            value = reader.get(Space.BLOCKS, key)
        return None if value is None else _pin(bucket, key, value)

    def list(self, bucket: Bucket, *, after: Cid | None = None, limit: int = _PAGE) -> list[Pin]:
        """Up to `limit` pins in the order of their binary CIDs, behind `after`."""
        with self._catalog.read() as reader:
            return pins_page(reader, bucket, after, limit)

    async def indirect(self, bucket: Bucket) -> AsyncIterator[tuple[Cid, Cid]]:
        """(block, pinned root) of all that recursive pins reach, without the roots; each once."""
        once, reader = Once(), unbounded(self._index, self._clock)
        after: Cid | None = None
        while page := self.list(bucket, after=after):
            for pin in page:
                if pin.recursive:
                    async for cid, _ in below(reader, [pin.cid], once):
                        if cid != pin.cid:
                            yield cid, pin.cid
            after = page[-1].cid

    @asynccontextmanager
    async def hold(self, bucket: Bucket) -> AsyncIterator[None]:
        """Keep what is stored from now on until the end, when it is pinned: at most for a day."""
        held = Put(
            Space.BLOCKS,
            rows.hold_key(bucket.id, self._clock.now_ns(), self._entropy(_CHANCE)),
            rows.FORMAT,
        )
        await self._commit([], [held])
        try:
            yield
        finally:
            with suppress(CatalogUnavailable):  # a collection forgets it
                await self._catalog.commit(Batch(changes=[Delete(Space.BLOCKS, held.key)]))

    # ------------------------------------------------------------------ a pin that comes
    async def _put(self, bucket: Bucket, cid: Cid, *, recursive: bool, name: str) -> bytes | None:
        """Commit the pin and the new state; the row that it replaced."""
        key, place = rows.pin_key(bucket.id, cid), rows.pins_prefix(bucket.id)
        for _ in range(_ATTEMPTS):
            with self._catalog.read() as reader:
                before, value = reader.get(Space.BLOCKS, key), reader.get(Space.BLOCKS, place)
            if before is not None and not recursive and rows.pin(before).recursive:
                raise AlreadyPinned(f"{cid} already pinned recursively")
            state = rows.pin_state(value)
            changed = rows.PinState(state.pins + 1, state.collector)
            row = rows.Pin(recursive, name, self._clock.now_ns())
            if await self._commit(
                [Equals(Space.BLOCKS, place, value), Equals(Space.BLOCKS, key, before)],
                [
                    Put(Space.BLOCKS, place, rows.pack(changed)),
                    Put(Space.BLOCKS, key, rows.pack(row)),
                ],
            ):
                return before
        raise SlowDown

    async def _undo(self, bucket: Bucket, cid: Cid, before: bytes | None) -> None:
        key = rows.pin_key(bucket.id, cid)
        change = Delete(Space.BLOCKS, key) if before is None else Put(Space.BLOCKS, key, before)
        with suppress(CatalogUnavailable):
            await self._catalog.commit(Batch(changes=[change]))

    async def _own(self, bucket: Bucket, cid: Cid, *, recursive: bool, partial: bool) -> int:
        """Walk what the pin reaches; store what is not in packs yet. Raises Incomplete."""
        walk = _Walk(self._index, self._clock, partial=partial)
        foreign = walk.foreign(bucket, cid, recursive=recursive)
        await self._packs.store_all(bucket, (), foreign)
        return walk.count

    async def _commit(self, conditions: Sequence[Condition], changes: Sequence[Change]) -> bool:
        """False if it was overtaken."""
        try:
            await self._catalog.commit(Batch(conditions, changes))
        except Conflict:
            return False
        except CatalogUnavailable as error:
            raise unavailable(error) from error
        return True


class _Walk:
    """What a new pin reaches."""

    def __init__(self, index: BlockIndex, clock: Clock, *, partial: bool) -> None:
        self._index = index
        self._reader = unbounded(index, clock)
        self._partial = partial
        self.count = 0

    async def foreign(
        self, bucket: Bucket, cid: Cid, *, recursive: bool
    ) -> AsyncIterator[tuple[Cid, bytes]]:
        """The blocks that no pack of this bucket holds."""
        once = Once()
        is_new: Callable[[Cid], bool] = once if recursive else lambda each: each == cid
        try:
            async for block, found in below(self._reader, [cid], is_new):
                if found is None:
                    if not self._partial:
                        raise Incomplete(f"block {block} is missing")
                    continue
                self.count += 1
                if not self._index.is_packed(block, bucket.id):
                    yield block, await self._reader.bytes_of(found)
        except BlockError as error:
            raise Incomplete(f"a block under {cid} cannot be read: {error}") from None


def pins_page(reader: Reader, bucket: Bucket, after: Cid | None, limit: int) -> list[Pin]:
    """See Pins.list."""
    start = rows.holds_prefix(bucket.id) if after is None else rows.pin_key(bucket.id, after)
    start = rows.after(start) if after is None else start + b"\x00"
    end = rows.after(rows.pins_prefix(bucket.id))
    return [_pin(bucket, key, value) for key, value in reader.scan(Space.BLOCKS, start, end, limit)]


def _pin(bucket: Bucket, key: bytes, value: bytes) -> Pin:
    row = rows.pin(value)
    cid = Cid(key[len(rows.pins_prefix(bucket.id)) :])
    return Pin(cid, row.recursive, row.name, row.created_ns)
