"""Blocks of DAGs that this network does not hold, from trustless gateways, every one verified.

First one CAR of all of it, in a stream; then what that lacked, block by block. Only blocks that the
DAG links to are taken, so a gateway can send nothing that was not asked for.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from chain.cids import IDENTITY, Cid
from chain.net.transport import Buffer
from gateway.ipfs.codecs.car import CarReader
from gateway.ipfs.codecs.links import links
from gateway.ipfs.errors import BlockError
from gateway.ipfs.foreign.blocks import FetchFailed, Source, verified_block
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.packing import BLOCKS_MAX
from gateway.ipfs.index.packs import PACK_BYTES, Packs
from gateway.model import Bucket

BYTES_MAX = 64 << 30  # of one request
COUNT_MAX = 4_000_000
Blocks = AsyncGenerator[tuple[Cid, bytes], None]
AT_ONCE = 8  # blocks that are asked for one by one


class TooLarge(Exception):
    """The DAG is larger than what is fetched for one request."""


class Foreign:
    """Brings DAGs into a bucket."""

    def __init__(self, index: BlockIndex, packs: Packs, sources: Sequence[Source]) -> None:
        self._index = index
        self._packs = packs
        self._sources = sources

    @property
    def has_sources(self) -> bool:
        """Whether there is anything to fetch from."""
        return bool(self._sources)

    async def fetch(self, bucket: Bucket, root: Cid) -> None:
        """Store what is not here of all that the root reaches, as packs; what is stored stays so.

        Raises FetchFailed with the last gateway's reason, TooLarge, StoreError.
        """
        fetching = _Fetching(self._index, self._sources)
        await self._store(bucket, fetching.by_car(root))
        await self._store(bucket, fetching.one_by_one(root))

    async def _store(self, bucket: Bucket, blocks: Blocks) -> None:
        """In packs as they fill: an error behind some of them leaves those."""
        some: list[tuple[Cid, bytes]] = []
        size = 0
        async with aclosing(blocks):
            async for block in blocks:
                some.append(block)
                size += len(block[1])
                if len(some) == BLOCKS_MAX or size >= PACK_BYTES // 8:
                    await self._packs.store(bucket, (), _each(some))
                    some, size = [], 0
        if some:
            await self._packs.store(bucket, (), _each(some))


class _Fetching:
    """One DAG."""

    def __init__(self, index: BlockIndex, sources: Sequence[Source]) -> None:
        self._index = index
        self._sources = sources
        self._left_bytes, self._left = BYTES_MAX, COUNT_MAX

    async def by_car(self, root: Cid) -> Blocks:
        """The blocks that a CAR has, of the first that sends any; none if the root is here.

        What does not belong to the DAG, or comes before what links to it, is passed over.
        """
        if self._index.block(root) is not None:
            return
        for source in self._sources:
            wanted, sent = {root.multihash}, False
            try:
                async with aclosing(_blocks(source.car(root))) as blocks:
                    async for cid, block in blocks:
                        if cid.multihash not in wanted:
                            continue
                        wanted.discard(cid.multihash)
                        wanted.update(link.multihash for link in links(cid, block))
                        sent = True
                        yield cid, self._counted(block)
            except (FetchFailed, BlockError):
                pass  # the rest comes one by one
            if sent:
                return

    async def one_by_one(self, root: Cid) -> Blocks:
        """The blocks that are still not here. Raises FetchFailed, TooLarge."""
        seen: set[bytes] = set()
        waiting = [root]
        while waiting:
            some: list[Cid] = []
            while waiting and len(some) < AT_ONCE:
                cid = waiting.pop()
                if cid.multihash in seen:
                    continue
                seen.add(cid.multihash)
                found = self._index.block(cid)
                if found is None:
                    some.append(cid)
                else:
                    waiting += reversed(_links(cid, await self._index.bytes_of(found)))
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(self._asked(cid)) for cid in some]
            for cid, task in zip(some, asked, strict=True):
                block = task.result()
                if isinstance(block, FetchFailed):
                    raise block
                yield cid, self._counted(block)
                waiting += reversed(_links(cid, block))

    async def _asked(self, cid: Cid) -> bytes | FetchFailed:
        try:
            return await verified_block(self._sources, cid)
        except FetchFailed as error:
            return error  # one that raises would end its neighbours

    def _counted(self, block: bytes) -> bytes:
        self._left_bytes -= len(block)
        self._left -= 1
        if self._left_bytes < 0 or self._left < 0:
            raise TooLarge("the DAG is larger than what is fetched for one request")
        return block


def _links(cid: Cid, block: bytes) -> list[Cid]:
    """Raises FetchFailed where the block is not what its codec says."""
    try:
        return links(cid, block)
    except BlockError as error:
        raise FetchFailed(f"block {cid} cannot be read: {error}") from None


async def _blocks(body: AsyncGenerator[Buffer, None]) -> Blocks:
    """Raises FetchFailed, BlockError."""
    reader = CarReader()
    async with aclosing(body):
        async for data in body:
            for cid, block in reader.feed(data):
                if cid.hash_code != IDENTITY:
                    yield cid, block
    reader.finish()


async def _each(blocks: list[tuple[Cid, bytes]]) -> AsyncIterator[tuple[Cid, bytes]]:
    for block in blocks:
        yield block
