"""The blocks of one request: found, bounded, and read ahead.

A request may touch so many blocks and no more. Blocks are read by whole chunks, which are opened as
a whole anyway: a CAR of a thousand small blocks out of a pack is one read or two.

With `foreign` blocks that the network does not hold are fetched, verified, and kept nowhere in it.
"""

import asyncio

from chain.cids import Cid
from chain.clock import Clock
from gateway.ipfs.errors import NotFetched, NotFound, TakesTooLong
from gateway.ipfs.foreign.blocks import FetchFailed, ForeignBlocks
from gateway.ipfs.index.blocks import BlockIndex, File, Inline, Known, Leaf
from gateway.seal import CHUNK

# What is known of a version (that it is public) is asked again after so long.
_KNOWN_SECONDS = 1.0
BLOCKS_MAX = 1_000_000  # that one request may touch
FETCHED_BYTES_MAX = 1 << 30  # that one request may have fetched
_CHUNKS = 3  # that are kept
_TURN_BLOCKS = 64  # after so many blocks others have their turn


class BlockReader:
    """What one request reads of the network's blocks, and with `foreign` of others'."""

    def __init__(
        self,
        index: BlockIndex,
        clock: Clock,
        blocks_max: int = BLOCKS_MAX,
        foreign: ForeignBlocks | None = None,
    ) -> None:
        self._index = index
        self._clock = clock
        self._left = blocks_max
        self._foreign = foreign
        self._left_bytes = FETCHED_BYTES_MAX
        self._known: Known = {}
        self._known_until = 0.0
        self._chunks: list[tuple[Leaf, bytes]] = []  # what was read, the newest first

    @property
    def index(self) -> BlockIndex:
        """The blocks of all requests."""
        return self._index

    def find(self, cid: Cid) -> File | Inline | Leaf | None:
        """What is held here of this name: a whole file where it is the root of one, else a block.

        Raises TakesTooLong, Denied.
        """
        self._left -= 1
        if self._left < 0:
            raise TakesTooLong("the request walks through too many blocks")
        now = self._clock.monotonic()
        if now >= self._known_until:
            self._known.clear()
            self._known_until = now + _KNOWN_SECONDS
        return self._index.find(cid, self._known)

    async def named(self, cid: Cid) -> File | Inline | Leaf:
        """What the CID names, held here or fetched.

        Raises NotFound, TakesTooLong, Denied.
        """
        found = self.find(cid)
        if found is not None:
            return found
        if self._foreign is None:
            raise NotFound(f"{cid} is not held by this network")
        try:
            block = await self._foreign.block(cid)
        except FetchFailed as error:
            raise NotFetched(f"{cid} is not held by this network: {error}") from None
        self._left_bytes -= len(block)
        if self._left_bytes < 0:
            raise TakesTooLong("the request needs too much of what this network does not hold")
        return Inline(cid, block)

    async def block(self, cid: Cid) -> bytes:
        """A block's bytes. Raises NotFound, TakesTooLong, Denied, StoreError."""
        return await self.bytes_of(await self.named(cid))

    async def bytes_of(self, found: File | Inline | Leaf) -> bytes:
        """The bytes of the block that was found, at most 2 MiB. Raises NotFound, StoreError."""
        if self._left % _TURN_BLOCKS == 0:
            await asyncio.sleep(0)
        place = found.block if isinstance(found, File) else found
        return place.data if isinstance(place, Inline) else await self._read(place)

    async def _read(self, leaf: Leaf) -> bytes:
        parts = []
        for number in range(leaf.start // CHUNK, -(-leaf.end // CHUNK)):
            chunk, at = await self._chunk(leaf, number), number * CHUNK
            parts.append(chunk[max(leaf.start - at, 0) : leaf.end - at])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _chunk(self, leaf: Leaf, number: int) -> bytes:
        start = number * CHUNK
        for kept, data in self._chunks:
            if kept.version is leaf.version and kept.start == start:
                return data
        chunk = Leaf(leaf.cid, leaf.version, start, min(start + CHUNK, leaf.version.size))
        data = await self._index.bytes_of(chunk)
        self._chunks = [(chunk, data), *self._chunks[: _CHUNKS - 1]]
        return data
