"""Packs: blocks that others made, as CARs among the objects of a bucket (unixfs-index.md).

A pack is stored sealed like any object, and its rows come in the object's own commit: when a call
returns, its blocks are durable and found by BlockIndex.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from chain.cids import Cid
from chain.clock import Clock, Entropy
from chain.net.transport import Buffer
from gateway.errors import InvalidCar, InvalidRequest, StoreError
from gateway.ipfs.codecs import car
from gateway.ipfs.errors import BlockError, Incomplete
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.dag import Once, below, unbounded
from gateway.ipfs.index.packing import BLOCKS_MAX
from gateway.model import CAR, IMPORT, Attributes, Bucket, ObjectVersion
from gateway.objects import ObjectService
from gateway.records import ordered_id

PREFIX = "blocks/"
PACK_BYTES = 64 << 20
_TYPE = "application/vnd.ipld.car"
_PIECE = 256 << 10


class Imported(NamedTuple):
    """What came in by one CAR."""

    roots: tuple[Cid, ...]
    blocks: int
    bytes: int  # of the blocks


class Packs:
    """Where every foreign block comes in."""

    def __init__(
        self, objects: ObjectService, index: BlockIndex, clock: Clock, entropy: Entropy
    ) -> None:
        self._objects = objects
        self._index = index
        self._clock = clock
        self._entropy = entropy

    async def store(
        self,
        bucket: Bucket,
        roots: Sequence[Cid],
        blocks: AsyncIterator[tuple[Cid, bytes]],
        *,
        key: str = "",
    ) -> ObjectVersion:
        """Store up to BLOCKS_MAX blocks as one pack, under a key of its own if none is given.

        Raises InvalidRequest (the bucket does not publish), InvalidCar (neither roots nor blocks;
        a block is not what its CID names; larger than 2 MiB), StoreError; then nothing is stored.
        """
        if not bucket.publishes:
            raise InvalidRequest(f"The bucket {bucket.name} does not publish.")
        key = key or f"{PREFIX}{ordered_id(self._clock.now_ns(), self._entropy).hex()}.car"
        attributes = Attributes(content_type=_TYPE, metadata={IMPORT: CAR})
        return await self._objects.put(bucket, key, _car(roots, blocks), attributes)

    async def store_all(
        self, bucket: Bucket, roots: Sequence[Cid], blocks: AsyncIterator[tuple[Cid, bytes]]
    ) -> list[ObjectVersion]:
        """Store any number of blocks as packs of PACK_BYTES. Raises as `store`.

        What was stored before an exception is deleted again.
        """
        made: list[ObjectVersion] = []
        feed = _Feed(blocks)
        try:
            while await feed.goes_on():
                made.append(await self.store(bucket, roots, feed.some()))
        except BaseException:
            for version in made:
                with suppress(StoreError):
                    await self._objects.delete(bucket, version.key)
            raise
        return made

    async def import_car(
        self, bucket: Bucket, body: AsyncIterator[Buffer], *, partial: bool = False
    ) -> Imported:
        """Store the blocks of a CAR. `partial`: what its roots reach need not be here.

        Raises as `store`, and Incomplete when a block is missing; then nothing is stored.
        """
        source = _Source(body)
        made = await self.store_all(bucket, (), source.blocks())
        if not partial:
            try:
                await self._check(source.roots)
            except BaseException:
                for version in made:
                    with suppress(StoreError):
                        await self._objects.delete(bucket, version.key)
                raise
        return Imported(source.roots, source.count, source.bytes)

    async def _check(self, roots: Sequence[Cid]) -> None:
        """Walk down from the roots; leaves are looked up, not read. Raises Incomplete."""
        try:
            async for cid, found in below(unbounded(self._index, self._clock), roots, Once()):
                if found is None:
                    raise Incomplete(f"block {cid} is missing")
        except BlockError as error:
            raise Incomplete(f"a block cannot be read: {error}") from None


class _Source:
    """The blocks of a CAR that comes in; they are checked where they are stored."""

    def __init__(self, body: AsyncIterator[Buffer]) -> None:
        self._body = body
        self.roots: tuple[Cid, ...] = ()
        self.count = self.bytes = 0

    async def blocks(self) -> AsyncIterator[tuple[Cid, bytes]]:
        """All blocks, in order. Raises InvalidCar."""
        reader = car.CarReader(check=False)
        try:
            async for data in self._body:
                for cid, block in reader.feed(data):
                    self.count += 1
                    self.bytes += len(block)
                    yield cid, block
            reader.finish()
        except BlockError as error:
            raise InvalidCar(f"The body is not a CAR: {error}.") from None
        self.roots = reader.roots or ()


class _Feed:
    """Cuts a stream of blocks to as many as a pack takes."""

    def __init__(self, blocks: AsyncIterator[tuple[Cid, bytes]]) -> None:
        self._blocks = blocks
        self._next: tuple[Cid, bytes] | None = None

    async def goes_on(self) -> bool:
        """Whether there is a block for one pack more."""
        self._next = await anext(self._blocks, None)
        return self._next is not None

    async def some(self) -> AsyncIterator[tuple[Cid, bytes]]:
        """The next pack's blocks."""
        count = size = 0
        while self._next is not None:
            yield self._next
            count, size = count + 1, size + len(self._next[1])
            if count == BLOCKS_MAX or size >= PACK_BYTES:
                return
            self._next = await anext(self._blocks, None)


async def _car(
    roots: Sequence[Cid], blocks: AsyncIterator[tuple[Cid, bytes]]
) -> AsyncIterator[Buffer]:
    """A CAR in pieces that are worth a hop to a thread."""
    piece = bytearray(car.header(roots))
    async for cid, block in blocks:
        piece += car.section_head(cid, len(block))
        piece += block
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
