"""File bytes and CARs as streams. A file is read through its object, not block by block."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator

from chain.cids import IDENTITY, RAW, Cid
from chain.net.transport import Buffer
from gateway.ipfs import car, dagpb, unixfs
from gateway.ipfs.blocks import BlockIndex, File, Inline, Leaf
from gateway.ipfs.errors import NotFound
from gateway.ipfs.request import CarOptions, Scope
from gateway.ipfs.unixfs import LEAF_BYTES
from gateway.ipfs.walk import Content, Entity, Folder, Node, Resolved, Subtree, Walker

_DEPTH_MAX = 1024  # of a DAG that is walked for a CAR


def size_of(entity: Content) -> int:
    """Bytes of the content."""
    match entity:
        case File(version=version):
            return version.size
        case Leaf(start=start, end=end):
            return end - start
        case Inline(data=data):
            return len(data)
        case Subtree(size=size):
            return size


async def content(
    index: BlockIndex, entity: Content, start: int, end: int
) -> AsyncGenerator[Buffer, None]:
    """Bytes [start, end) of the content. Raises NotFound, StoreError."""
    if start >= end:
        return
    match entity:
        case File(version=version):
            async for part in index.read(version, start, end):
                yield part
        case Leaf():
            async for part in index.read(entity.version, entity.start + start, entity.start + end):
                yield part
        case Inline(data=data):
            yield data[start:end]
        case Subtree():
            async for part in _subtree(index, entity, start, end):
                yield part


async def _subtree(
    index: BlockIndex, entity: Subtree, start: int, end: int
) -> AsyncGenerator[Buffer, None]:
    """A file by its blocks: children that do not touch the range are skipped unread."""
    waiting = [(entity.cid, 0, entity.size)]
    while waiting:
        cid, at, size = waiting.pop()
        if at >= end or at + size <= start:
            continue
        block = index.block(cid)
        if block is None:
            raise NotFound(f"block {cid} is not held by this network")
        if cid.codec == RAW:
            low, high = max(start - at, 0), min(end - at, size)
            yield memoryview(await index.bytes_of(block))[low:high]
            continue
        waiting += reversed(list(_children(await index.bytes_of(block), at)))


def _children(block: bytes, at: int) -> Iterable[tuple[Cid, int, int]]:
    """(CID, offset, length) of each child of a file's node."""
    node = dagpb.decode(block)
    sizes = unixfs.decode(node.data or b"").block_sizes
    for link, size in zip(node.links, sizes, strict=False):
        yield link.cid, at, size
        at += size


class CarWriter:
    """The frames of one CAR."""

    def __init__(self, index: BlockIndex, walker: Walker, options: CarOptions) -> None:
        self._index = index
        self._walker = walker
        self._options = options
        self._written: set[bytes] = set()

    async def frames(self, resolved: Resolved) -> AsyncGenerator[Buffer, None]:
        """Header and sections. Raises NotFound, StoreError when it cannot go on."""
        yield car.header([resolved.roots[-1]])
        for cid, block in resolved.passed:
            for part in self._section(cid, block):
                yield part
        async for part in self._entity(resolved.entity, self._options.scope):
            yield part

    def _is_new(self, cid: Cid) -> bool:
        """Whether to write this block (and walk below it)."""
        if cid.hash_code == IDENTITY:
            return False
        if self._options.duplicates:
            return True
        if cid.raw in self._written:
            return False
        self._written.add(cid.raw)
        return True

    def _section(self, cid: Cid, block: Buffer) -> list[Buffer]:
        return [car.section_head(cid, len(block)), block] if self._is_new(cid) else []

    async def _entity(self, entity: Entity, scope: Scope) -> AsyncGenerator[Buffer, None]:
        if isinstance(entity, Folder):
            async for part in self._folder(entity, scope):
                yield part
            return
        if scope is Scope.BLOCK or isinstance(entity, Inline | Leaf | Node):
            for part in self._section(entity.cid, await self._walker.block(entity.cid)):
                yield part
            return
        size = size_of(entity)
        first, last = _clip(self._options, size) if scope is Scope.ENTITY else (0, size)
        async for part in self._file(entity, size, first, last):
            yield part

    async def _folder(self, folder: Folder, scope: Scope) -> AsyncGenerator[Buffer, None]:
        """A directory, then (scope all) what is below it: depth first, without recursion."""
        async for part in self._own_blocks(folder, scope):
            yield part
        stack = [await self._below(folder)] if scope is Scope.ALL else []
        while stack:
            cid = next(stack[-1], None)
            if cid is None:
                stack.pop()
                continue
            if cid.raw in self._written and not self._options.duplicates:
                continue
            child = await self._walker.entity(cid)
            if isinstance(child, Folder):
                if len(stack) > _DEPTH_MAX:
                    raise NotFound("the directory is too deep")
                async for part in self._own_blocks(child, scope):
                    yield part
                stack.append(await self._below(child))
                continue
            async for part in self._entity(child, Scope.ALL):
                yield part

    async def _own_blocks(self, folder: Folder, scope: Scope) -> AsyncGenerator[Buffer, None]:
        if scope is Scope.BLOCK:
            for part in self._section(folder.cid, folder.block):
                yield part
            return
        async for cid, block in self._walker.shards(folder):
            for part in self._section(cid, block):
                yield part

    async def _below(self, folder: Folder) -> Iterator[Cid]:
        return iter([link.cid for link in await self._walker.entries(folder)])

    async def _file(
        self, entity: File | Subtree, size: int, first: int, last: int
    ) -> AsyncGenerator[Buffer, None]:
        """A file's blocks that touch [first, last), root first, depth first.

        Leaves come from one sequential read of the object where there is one.
        """
        low = first // LEAF_BYTES * LEAF_BYTES
        high = min(-(-last // LEAF_BYTES) * LEAF_BYTES, size)
        leaves = None
        if isinstance(entity, File) and low < high:
            leaves = _Leaves(self._index.read(entity.version, low, high), high - low)
        waiting = [(entity.cid, 0, size)]
        while waiting:
            cid, at, length = waiting.pop()
            touches = at < last and at + length > first
            if not touches and cid != entity.cid:
                continue
            if cid.codec == RAW and leaves is not None:
                block = await leaves.next(length)
            else:
                found = self._index.block(cid)
                if found is None:
                    raise NotFound(f"block {cid} is not held by this network")
                block = await self._index.bytes_of(found)
            # Below a node that was written already all leaves were too, but the reader of leaves
            # must pass them: so walk on, and write nothing.
            for part in self._section(cid, block):
                yield part
            if cid.codec != RAW:
                waiting += reversed(list(_children(block, at)))


class _Leaves:
    """Cuts a byte stream to leaves; holds at most one leaf and one buffer."""

    def __init__(self, parts: AsyncIterator[Buffer], size: int) -> None:
        self._parts = parts
        self._left = size
        self._rest = memoryview(b"")

    async def next(self, length: int) -> bytes:
        """The next `length` bytes. Raises NotFound if the object ends before."""
        out = bytearray()
        while len(out) < length:
            if not self._rest:
                try:
                    self._rest = memoryview(await anext(self._parts))
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
