"""A CAR of what a path leads to, as a stream (IPIP-402, IPIP-412). The frames are car.py's."""

from collections.abc import AsyncGenerator, AsyncIterator

from chain.cids import IDENTITY, RAW, Cid
from chain.net.transport import Buffer
from gateway.ipfs.codecs import car
from gateway.ipfs.codecs.links import links
from gateway.ipfs.codecs.unixfs import LEAF_BYTES
from gateway.ipfs.errors import NotFound
from gateway.ipfs.index.blocks import File, Inline, Leaf
from gateway.ipfs.web.request import CarOptions, Scope
from gateway.ipfs.web.stream import Part, checked, size_of
from gateway.ipfs.web.walk import Entity, FileNode, Folder, Resolved, Walker


class CarWriter:
    """The frames of one CAR."""

    def __init__(self, walker: Walker, options: CarOptions) -> None:
        self._walker = walker
        self._reader = walker.reader
        self._options = options
        self._written: set[bytes] = set()

    async def frames(self, resolved: Resolved) -> AsyncGenerator[Buffer, None]:
        """Header and sections. Raises NotFound, BlockError, StoreError when it cannot go on."""
        yield car.header([resolved.roots[-1]])
        for cid, block in resolved.passed:
            for part in self._section(cid, block):
                yield part
        scope = self._options.scope
        body = self._all if scope is Scope.ALL else self._entity
        async for part in body(resolved.entity):
            yield part

    def _section(self, cid: Cid, block: Buffer) -> tuple[Buffer, ...]:
        """A block as it is written: nothing when it is in its CID, or was written before."""
        if cid.hash_code == IDENTITY:
            return ()
        if not self._options.duplicates:
            if cid.raw in self._written:
                return ()
            self._written.add(cid.raw)
        return car.section_head(cid, len(block)), block

    async def _entity(self, entity: Entity) -> AsyncGenerator[Buffer, None]:
        """What is needed to read the file or to list the directory; or one block."""
        if self._options.scope is Scope.BLOCK:
            for part in self._section(entity.cid, await self._block(entity)):
                yield part
        elif isinstance(entity, Folder) and entity.shard is not None:
            async for cid, block, _ in self._walker.shards(entity):
                for part in self._section(cid, block):
                    yield part
        elif isinstance(entity, File | FileNode) and entity.cid.codec != RAW:
            first, last = _clip(self._options, size_of(entity))
            async for part in self._file(entity, first, last):
                yield part
        else:
            for part in self._section(entity.cid, await self._block(entity)):
                yield part

    async def _block(self, entity: Entity) -> bytes:
        if isinstance(entity, File | Inline | Leaf):
            return await self._reader.bytes_of(entity)
        return entity.block

    async def _all(self, entity: Entity) -> AsyncGenerator[Buffer, None]:
        """Everything below, depth first, whatever the links are called."""
        stack = [iter([entity.cid])]
        while stack:
            cid = next(stack[-1], None)
            if cid is None:
                stack.pop()
                continue
            if cid.raw in self._written and not self._options.duplicates:
                continue  # and so was all that is below
            found = await self._reader.named(cid)
            if isinstance(found, File) and cid.codec != RAW:
                async for part in self._file(found, 0, found.version.size):
                    yield part
                continue
            block = await self._reader.bytes_of(found)
            for part in self._section(cid, block):
                yield part
            if cid.codec != RAW:
                stack.append(iter(links(cid, block)))

    async def _file(
        self, entity: File | FileNode, first: int, last: int
    ) -> AsyncGenerator[Buffer, None]:
        """A file's blocks that touch [first, last), root first, depth first.

        Leaves come from one sequential read of the object where there is one.
        """
        size = size_of(entity)
        leaves = None
        if isinstance(entity, File):
            low = first // LEAF_BYTES * LEAF_BYTES
            high = min(-(-last // LEAF_BYTES) * LEAF_BYTES, size)
            if low < high:
                source = self._reader.index.read(entity.version, low, high)
                leaves = _Leaves(source)
        waiting = [Part(entity.cid, 0, size)]
        while waiting:
            part = waiting.pop()
            if not part.touches(first, last) and part.cid != entity.cid:
                continue
            if part.cid.codec == RAW and leaves is not None:
                block = await leaves.next(part.size)
            else:
                block = await self._reader.block(part.cid)
            # Below a node that was written already all leaves were too, but the reader of leaves
            # must pass them: so walk on, and write nothing.
            for piece in self._section(part.cid, block):
                yield piece
            if part.cid.codec != RAW:
                waiting += reversed(checked(part, block)[1])


class _Leaves:
    """Cuts a byte stream to leaves; holds at most one leaf and one buffer."""

    def __init__(self, source: AsyncIterator[Buffer]) -> None:
        self._source = source
        self._rest = memoryview(b"")

    async def next(self, length: int) -> bytes:
        """The next `length` bytes. Raises NotFound if the object ends before."""
        out = bytearray()
        while len(out) < length:
            if not self._rest:
                try:
                    self._rest = memoryview(await anext(self._source))
                except StopAsyncIteration:
                    raise NotFound("the object is shorter than its DAG") from None
                continue
            take = min(length - len(out), len(self._rest))
            out += self._rest[:take]
            self._rest = self._rest[take:]
        return bytes(out)


def _clip(options: CarOptions, size: int) -> tuple[int, int]:
    """entity-bytes as [first, last)."""
    first = options.first if options.first >= 0 else max(size + options.first, 0)
    last = size
    if options.last is not None:
        last = options.last + 1 if options.last >= 0 else size + options.last + 1
    return min(first, size), max(min(last, size), min(first, size))
