"""The bytes of files as streams. An object's file is read through the object, not by blocks."""

from collections.abc import AsyncGenerator
from typing import NamedTuple

from chain.cids import DAG_PB, RAW, Cid
from chain.net.transport import Buffer
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.errors import BlockError
from gateway.ipfs.index.blocks import File, Inline, Leaf
from gateway.ipfs.index.reader import BlockReader
from gateway.ipfs.web.walk import Content, FileNode, parse


def size_of(entity: Content) -> int:
    """Bytes of the content."""
    match entity:
        case File(version=version):
            return version.size
        case Leaf(start=start, end=end):
            return end - start
        case Inline(data=data):
            return len(data)
        case FileNode(size=size):
            return size


async def content(
    reader: BlockReader, entity: Content, start: int, end: int
) -> AsyncGenerator[Buffer, None]:
    """Bytes [start, end) of the content. Raises NotFound, BlockError, StoreError."""
    if start >= end:
        return
    match entity:
        case File(version=version):
            async for part in reader.index.read(version, start, end):
                yield part
        case Leaf(version=version, start=first):
            async for part in reader.index.read(version, first + start, first + end):
                yield part
        case Inline(data=data):
            yield data[start:end]
        case FileNode():
            async for part in _by_blocks(reader, entity, start, end):
                yield part


class Part(NamedTuple):
    """A node of a file's DAG: its bytes are [at, at + size) of the file."""

    cid: Cid
    at: int
    size: int

    def touches(self, start: int, end: int) -> bool:
        """Whether it has a byte of [start, end)."""
        return self.size > 0 and self.at < end and self.at + self.size > start


def parts(block: bytes, at: int) -> tuple[bytes, list[Part]]:
    """(own bytes, the parts behind them) of a file's DAG-PB node. Raises BlockError."""
    node = dagpb.decode(block)
    data = unixfs.decode(node.data or b"")
    own = data.data or b""
    if len(node.links) != len(data.block_sizes):
        raise BlockError("a file does not say how large its parts are")
    found = []
    at += len(own)
    for link, size in zip(node.links, data.block_sizes, strict=True):
        found.append(Part(link.cid, at, size))
        at += size
    return own, found


async def _by_blocks(
    reader: BlockReader, entity: FileNode, start: int, end: int
) -> AsyncGenerator[Buffer, None]:
    """Parts that do not touch the range are skipped unread."""
    waiting = [Part(entity.cid, 0, entity.size)]
    while waiting:
        part = waiting.pop()
        if not part.touches(start, end):
            continue
        is_root = part.cid == entity.cid and part.at == 0
        block = entity.block if is_root else await reader.block(part.cid)
        own, below = checked(part, block)
        low, high = max(start - part.at, 0), min(end - part.at, len(own))
        if low < high:
            yield memoryview(own)[low:high]
        waiting += reversed(below)


def checked(part: Part, block: bytes) -> tuple[bytes, list[Part]]:
    """The own bytes and the parts of a file's block, which is as large as it was said to be.

    Raises BlockError.
    """
    if part.cid.codec == RAW:
        if len(block) != part.size:
            raise BlockError(f"a part of a file is not as large as was said: {part.cid}")
        return block, []
    node = parse(part.cid, block) if part.cid.codec == DAG_PB else None
    if not isinstance(node, FileNode):
        raise BlockError(f"{part.cid} is no part of a file")
    if node.size != part.size:
        raise BlockError(f"a part of a file is not as large as was said: {part.cid}")
    return parts(block, part.at)
