"""Collector: drops the API's blocks that no pin reaches (unixfs-index.md says by which rules).

It keeps a bit for each block of the packs that may go, and nothing else of their size. Killed at
any moment, it leaves nothing behind but work done.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

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
from gateway.errors import AccessDenied
from gateway.ipfs.codecs.car import CarReader
from gateway.ipfs.codecs.links import has_links
from gateway.ipfs.index import rows
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.dag import Once, below, unbounded
from gateway.ipfs.index.packing import BLOCKS_MAX
from gateway.ipfs.index.packs import PACK_BYTES, PREFIX, Packs
from gateway.ipfs.index.pins import Pin, pins_page
from gateway.ipfs.index.reader import BlockReader
from gateway.model import Bucket, ObjectVersion
from gateway.objects import ObjectService
from gateway.records import BucketRow, decode
from gateway.transaction import Transaction, unavailable

GRACE_NS = 24 * 3600 * 10**9
HOLD_MAX_NS = 24 * 3600 * 10**9
# Packs below this are stored together, where there are so many of them.
SMALL_BYTES, SMALL_PACKS = 1 << 20, 16
_CLOCKS_NS = 60 * 10**9  # clocks of two gateways differ by less
_PAGE = 200
_TURN = 256  # blocks that are marked before others have their turn
_ID_BYTES = 16
_OWN_KEY = re.compile(re.escape(PREFIX) + r"[0-9a-f]{32}\.car")


class Collected(NamedTuple):
    """What a collection came to."""

    blocks: int  # that are nowhere any more
    packs: int  # deleted
    bytes: int  # of the packs that were deleted, without those that were stored for them


class Overtaken(Exception):
    """Another collection of the bucket has begun."""


class _PinsChanged(Exception):
    """The state is not the one that was marked."""


@dataclass(slots=True)
class _Pack:
    """A pack that may go."""

    version: ObjectVersion
    count: int
    walked: bytearray  # a bit for each of its blocks that is needed, and all that it reaches
    alone: set[int] = field(default_factory=set)  # blocks that are needed by themselves

    def walk(self, number: int) -> bool:
        """Note a block; False if it was noted before."""
        place, bit = number >> 3, 1 << (number & 7)
        is_new = not self.walked[place] & bit
        self.walked[place] |= bit
        return is_new

    def needs(self, number: int) -> bool:
        """Whether a block was noted."""
        return number in self.alone or bool(self.walked[number >> 3] & 1 << (number & 7))

    @property
    def needed(self) -> int:
        """How many were noted."""
        bits = int.from_bytes(self.walked, "big").bit_count()
        walked = sum(bool(self.walked[n >> 3] & 1 << (n & 7)) for n in self.alone)
        return bits + len(self.alone) - walked


@dataclass(frozen=True, slots=True)
class _State:
    """The rows that a deletion holds on."""

    bucket: bytes | None
    pins: bytes | None
    mfs: bytes | None


@dataclass(frozen=True, slots=True)
class Collector:
    """Collects packs of buckets."""

    objects: ObjectService
    catalog: Catalog
    index: BlockIndex
    packs: Packs
    clock: Clock
    entropy: Entropy

    async def collect(
        self,
        bucket: Bucket,
        *,
        grace_ns: int = GRACE_NS,
        dropped: Callable[[Cid], None] = lambda _: None,
    ) -> Collected:
        """Drop what no pin reaches and is older than `grace_ns`; `dropped` is told each.

        Nothing goes from a bucket that does not publish, or never had a pin. Raises StoreError,
        Overtaken; what was dropped before stays so.
        """
        with self.catalog.read() as reader:
            begun = reader.get(Space.BLOCKS, rows.pins_prefix(bucket.id)) is not None
        if not begun or not bucket.publishes:
            return Collected(0, 0, 0)
        own = await self._begin(bucket)
        await self._forget_holds(bucket)
        packs = await self._find(bucket, self._until(bucket, grace_ns))
        return await _Sweep(self, bucket, own, packs, dropped).run()

    async def _begin(self, bucket: Bucket) -> bytes:
        """Name this collection in the state, so that every other one of the bucket ends."""
        own = self.entropy(_ID_BYTES)
        place = rows.pins_prefix(bucket.id)
        while True:
            with self.catalog.read() as reader:
                value = reader.get(Space.BLOCKS, place)
            row = rows.pack(rows.PinState(rows.pin_state(value).pins, own))
            with suppress(Conflict):
                await self._commit(
                    [Equals(Space.BLOCKS, place, value)], [Put(Space.BLOCKS, place, row)]
                )
                return own

    def _until(self, bucket: Bucket, grace_ns: int) -> int:
        """Packs that are not older than this are left alone."""
        until = self.clock.now_ns() - grace_ns
        prefix = rows.holds_prefix(bucket.id)
        with self.catalog.read() as reader:
            held = reader.scan(Space.BLOCKS, prefix, rows.after(prefix), 1)
        if held:
            began = int.from_bytes(held[0][0][len(prefix) :][:8], "big")
            until = min(until, began - _CLOCKS_NS)
        return until

    async def _forget_holds(self, bucket: Bucket) -> None:
        """Writers that were killed."""
        prefix = rows.holds_prefix(bucket.id)
        end = rows.hold_key(bucket.id, max(self.clock.now_ns() - HOLD_MAX_NS, 0), b"")
        with self.catalog.read() as reader:
            old = reader.scan(Space.BLOCKS, prefix, end, _PAGE)
        if old:
            await self._commit([], [Delete(Space.BLOCKS, key) for key, _ in old])

    async def _find(self, bucket: Bucket, until_ns: int) -> dict[bytes, _Pack]:
        """All packs that may go, by uid."""
        found: dict[bytes, _Pack] = {}
        start: bytes | None = b""
        while start is not None:
            page = self.objects.list_objects(bucket, prefix=PREFIX, start=start, limit=_PAGE)
            with self.catalog.read() as reader:
                for version in page.objects:
                    if version.modified_ns > until_ns or not _OWN_KEY.fullmatch(version.key):
                        continue
                    if count := sum(1 for _ in _multihashes(reader, version.uid)):
                        found[version.uid] = _Pack(version, count, bytearray(-(-count // 8)))
            start = page.next_start
            await self.clock.sleep(0)
        return found

    async def _commit(self, conditions: list[Condition], changes: list[Change]) -> None:
        """Raises Conflict, StoreError."""
        try:
            await self.catalog.commit(Batch(conditions, changes))
        except CatalogUnavailable as error:
            raise unavailable(error) from error


class _Sweep:
    """One collection: marks, then drops."""

    def __init__(
        self,
        parts: Collector,
        bucket: Bucket,
        own: bytes,
        packs: dict[bytes, _Pack],
        dropped: Callable[[Cid], None],
    ) -> None:
        self._objects, self._catalog = parts.objects, parts.catalog
        self._index, self._packs, self._clock = parts.index, parts.packs, parts.clock
        self._bucket = bucket
        self._own = own
        self._found = packs
        self._dropped = dropped
        self._marked = _State(None, None, None)
        self._blocks = self._deleted = self._bytes = 0

    async def run(self) -> Collected:
        """See Collector.collect."""
        await self._mark()
        for group in self._groups():
            await self._drop(group)
        return Collected(self._blocks, self._deleted, self._bytes)

    # ------------------------------------------------------------------ what is needed
    async def _mark(self) -> None:
        """Mark all that pins and MFS reach. Raises Overtaken (or it is private now), StoreError.

        What was marked before is not walked again. A block that cannot be read now ends the
        collection; one that is not what its codec says leads nowhere.
        """
        while True:
            with self._catalog.read() as reader:
                state = self._state(reader)
                root = None if state.mfs is None else rows.mfs_root(state.mfs)
            if rows.pin_state(state.pins).collector != self._own or not _publishes(state):
                raise Overtaken
            elsewhere = Once()
            blocks = unbounded(self._index, self._clock)
            if root is not None:
                await self._mark_below(blocks, root, elsewhere)
            after: Cid | None = None
            while page := self._pins(after):
                for pin in page:
                    if pin.recursive:
                        await self._mark_below(blocks, pin.cid, elsewhere)
                    elif holder := self._holder(pin.cid):
                        holder[0].alone.add(holder[1])
                after = page[-1].cid
            with self._catalog.read() as reader:
                if self._state(reader) == state:
                    self._marked = state
                    return

    async def _mark_below(self, blocks: BlockReader, root: Cid, elsewhere: Once) -> None:
        def is_new(cid: Cid) -> bool:
            if holder := self._holder(cid):
                return holder[0].walk(holder[1])
            return has_links(cid) and elsewhere(cid)

        count = 0
        async for cid, found in below(blocks, [root], is_new, lenient=True):
            if found is None and self._index.is_known(cid.multihash):
                raise Overtaken  # it is private at this moment
            count += 1
            if count % _TURN == 0:
                await self._clock.sleep(0)

    def _holder(self, cid: Cid) -> tuple[_Pack, int] | None:
        """The oldest of the packs that may go that has the block, and its number there."""
        for uid, number in self._index.packs_of(cid):
            pack = self._found.get(uid)
            if pack is not None and number < pack.count:
                return pack, number
        return None

    def _pins(self, after: Cid | None) -> list[Pin]:
        with self._catalog.read() as reader:
            return pins_page(reader, self._bucket, after, _PAGE)

    def _state(self, reader: Reader) -> _State:
        return _State(
            reader.get(Space.BUCKETS, self._bucket.name.encode()),
            reader.get(Space.BLOCKS, rows.pins_prefix(self._bucket.id)),
            reader.get(Space.BLOCKS, rows.mfs_key(self._bucket.id)),
        )

    # ------------------------------------------------------------------ what goes
    def _groups(self) -> Iterator[list[_Pack]]:
        """Packs that go together: dead ones, and as many sparse or small ones as make one pack."""
        rest: list[_Pack] = []
        small: list[_Pack] = []
        for pack in self._found.values():
            needed = pack.needed
            if not needed:
                yield [pack]
            elif needed < pack.count and 2 * self._needed_bytes(pack) < pack.version.size:
                rest.append(pack)
            elif pack.version.size < SMALL_BYTES:
                small.append(pack)
        rest += small if len(small) >= SMALL_PACKS else []
        group: list[_Pack] = []
        for pack in sorted(rest, key=lambda each: each.version.uid):
            group.append(pack)
            blocks = sum(each.needed for each in group)
            if blocks > BLOCKS_MAX or sum(each.version.size for each in group) > PACK_BYTES:
                yield group[:-1]
                group = [pack]
        yield group

    def _needed_bytes(self, pack: _Pack) -> int:
        total = 0
        with self._catalog.read() as reader:
            for number, multihash in enumerate(_multihashes(reader, pack.version.uid)):
                if pack.needs(number):
                    key = rows.packed_key(multihash, pack.version.uid)
                    start, end = rows.packed_range(reader.get(Space.BLOCKS, key) or rows.PACKED)
                    total += end - start
        return total

    async def _drop(self, group: list[_Pack]) -> None:
        """Store again what is needed of these packs, and delete them."""
        waiting = list(group)
        while waiting:
            needed = sum(pack.needed for pack in waiting)
            if needed:
                whole = len(waiting) == 1 and needed == waiting[0].count
                if whole or needed > BLOCKS_MAX:
                    return  # more of them are needed than when the group was made
                made = await self._packs.store(self._bucket, (), self._needed(waiting))
                self._bytes -= made.size
            try:
                while waiting:
                    await self._delete(waiting[-1])
                    waiting.pop()
            except _PinsChanged:
                await self._mark()

    async def _needed(self, group: list[_Pack]) -> AsyncIterator[tuple[Cid, bytes]]:
        """The blocks of these packs that are needed, read from the CARs that they are."""
        for pack in group:
            with self._catalog.read() as reader:
                names = _multihashes(reader, pack.version.uid)
                wanted = {name for number, name in enumerate(names) if pack.needs(number)}
            car = CarReader(check=False)
            async for data in self._objects.read(pack.version):
                for cid, block in car.feed(data):
                    if cid.multihash in wanted:
                        wanted.remove(cid.multihash)
                        yield cid, block

    async def _delete(self, pack: _Pack) -> None:
        version = pack.version
        with self._catalog.read() as reader:
            names = list(_multihashes(reader, version.uid))
        try:
            gone = await self._objects.delete(
                self._bucket, version.key, version.version_id, guard=self._guard
            )
        except AccessDenied:  # locked
            return
        if gone is None:
            return
        self._deleted += 1
        self._bytes += version.size
        for number, name in enumerate(names):
            if not pack.needs(number) and not self._index.is_known(name):
                self._blocks += 1
                self._dropped(Cid(b"\x01\x55" + name))

    def _guard(self, transaction: Transaction) -> None:
        """Hold on what was marked. Raises _PinsChanged."""
        state = self._marked
        if self._state(transaction.reader) != state:
            raise _PinsChanged
        transaction.expect(Space.BUCKETS, self._bucket.name.encode(), state.bucket)
        transaction.expect(Space.BLOCKS, rows.pins_prefix(self._bucket.id), state.pins)
        transaction.expect(Space.BLOCKS, rows.mfs_key(self._bucket.id), state.mfs)


def _publishes(state: _State) -> bool:
    return state.bucket is not None and decode(BucketRow, state.bucket).publishes


def _multihashes(reader: Reader, uid: bytes) -> Iterator[bytes]:
    """The blocks of a pack, in the order of their numbers."""
    prefix = rows.lists_prefix(uid)
    for _, value in reader.scan(Space.BLOCKS, prefix, rows.after(prefix), 1 << 20):
        yield from rows.listed(value)
