"""From a path to what stands at its end, and through a directory's own blocks.

Only blocks of directories are read here, never a child's.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from chain.cids import DAG_PB, RAW, Cid
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.shards import Shard
from gateway.ipfs.codecs.traversal import follow
from gateway.ipfs.codecs.unixfs import Kind
from gateway.ipfs.errors import BlockError, NotAcceptable, NotFound
from gateway.ipfs.index.blocks import File, Inline, Leaf
from gateway.ipfs.index.reader import BlockReader

SHARDS_MAX = 50_000  # of one directory: 100,000 entries have 29,000
ENTRIES_MAX = 100_000

Time = tuple[int, int]  # seconds since 1970, nanoseconds


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory: its root block, parsed."""

    cid: Cid
    block: bytes
    links: Sequence[Link]  # entries; of a HAMT what its root block has
    shard: Shard | None = None


@dataclass(frozen=True, slots=True)
class FileNode:
    """A file by its blocks: a node of DAG-PB with bytes of its own, links to nodes, or both."""

    cid: Cid
    block: bytes
    size: int
    mtime: Time | None = None


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link. It is not followed."""

    cid: Cid
    block: bytes
    target: bytes
    mtime: Time | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A block of a codec that is neither raw nor DAG-PB, or DAG-PB that is no valid UnixFS."""

    cid: Cid
    block: bytes


Content = File | Leaf | Inline | FileNode  # what has bytes of a file
Entity = Content | Folder | Symlink | Node


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a path leads to."""

    entity: Entity
    roots: tuple[Cid, ...]  # the CID at each segment, the first one included
    path: tuple[str, ...]  # that was followed from the first root
    passed: tuple[tuple[Cid, bytes], ...]  # blocks that lead there, without the entity's own
    remainder: tuple[str, ...] = ()  # the end of the path that lies within a Node's block


class Walker:
    """Resolution over the blocks of one request."""

    def __init__(self, reader: BlockReader) -> None:
        self.reader = reader

    async def resolve(self, root: Cid, path: tuple[str, ...]) -> Resolved:
        """Follow `path` from `root`. Raises NotFound, NotAcceptable, StoreError."""
        roots, passed = [root], list[tuple[Cid, bytes]]()
        entity = await self.entity(root)
        at = 0
        deny = self.reader.index.deny
        while at < len(path):
            if deny is not None:
                deny.check_path(entity.cid, path[at:])
            if isinstance(entity, Node):
                link, used = follow(entity.cid, entity.block, path[at:])
                # Segments within a block stand for the block (X-Ipfs-Roots has one CID each).
                roots += [entity.cid] * (used if link is None else used - 1)
                if link is None:
                    return Resolved(entity, tuple(roots), path, tuple(passed), path[at:])
                passed.append((entity.cid, entity.block))
            else:
                link, used = await self._named(entity, path[at], passed), 1
            at += used
            roots.append(link)
            entity = await self.entity(link)
        return Resolved(entity, tuple(roots), path, tuple(passed))

    async def _named(self, entity: Entity, name: str, passed: list[tuple[Cid, bytes]]) -> Cid:
        """The CID of a directory's entry. Raises NotFound."""
        link = await self._child(entity, name, passed) if isinstance(entity, Folder) else None
        if link is None:
            raise NotFound(f"no link named {name[:80]!r} under {entity.cid}")
        return link.cid

    async def entity(self, cid: Cid) -> Entity:
        """What a CID is. Raises NotFound, NotAcceptable, StoreError."""
        found = await self.reader.named(cid)
        codec = cid.codec
        if codec == RAW or isinstance(found, File):
            return found
        block = await self.reader.bytes_of(found)
        if codec != DAG_PB:
            return Node(cid, block)
        try:
            return parse(cid, block)
        except BlockError:
            return Node(cid, block)  # a block like any other, but no file

    async def shards(self, folder: Folder) -> AsyncIterator[tuple[Cid, bytes, Shard]]:
        """All blocks of a HAMT, root first, depth first. Raises NotFound, NotAcceptable.

        A block that comes twice is refused: its entries would be in the wrong place at one of
        them, and a small DAG could be walked for ever.
        """
        assert folder.shard is not None
        yield folder.cid, folder.block, folder.shard
        waiting = list(reversed(folder.shard.below()))
        seen = {folder.cid.raw}
        while waiting:
            cid = waiting.pop().cid
            if cid.raw in seen or len(seen) == SHARDS_MAX:
                raise NotAcceptable(f"{folder.cid}: a HAMT with too many shards, or one twice")
            seen.add(cid.raw)
            block = await self.reader.block(cid)
            shard = _shard(cid, block)
            yield cid, block, shard
            waiting += reversed(shard.below())

    async def shard(self, cid: Cid) -> Shard:
        """A block of a HAMT. Raises NotFound, NotAcceptable, StoreError."""
        return _shard(cid, await self.reader.block(cid))

    async def entries(self, folder: Folder) -> Sequence[Link]:
        """The entries by name. Raises NotFound, NotAcceptable (more than ENTRIES_MAX)."""
        if folder.shard is None:
            return folder.links
        found: list[Link] = []
        async for _, _, shard in self.shards(folder):
            found += shard.entries()
            if len(found) > ENTRIES_MAX:
                raise NotAcceptable(f"{folder.cid} has more than {ENTRIES_MAX} entries")
        return sorted(found, key=lambda link: link.name)

    async def _child(
        self, folder: Folder, name: str, passed: list[tuple[Cid, bytes]]
    ) -> Link | None:
        """The entry of this name; notes the blocks that lead to it."""
        passed.append((folder.cid, folder.block))
        if folder.shard is None:
            return next((link for link in folder.links if link.name == name), None)
        shard, depth = folder.shard, 0
        while True:
            try:
                link, is_entry = shard.child(name, depth)
            except BlockError as error:
                raise NotAcceptable(f"{folder.cid}: {error}") from None
            if link is None or is_entry:
                return link
            block = await self.reader.block(link.cid)
            passed.append((link.cid, block))
            shard = _shard(link.cid, block)
            depth += 1


def parse(cid: Cid, block: bytes) -> Folder | FileNode | Symlink | Node:
    """What a DAG-PB block is. Raises BlockError."""
    node = dagpb.decode(block)
    if node.data is None:
        return Node(cid, block)
    data = unixfs.decode(node.data)
    match data.kind:
        case Kind.DIRECTORY:
            return Folder(cid, block, node.links)
        case Kind.SHARD:
            return Folder(cid, block, node.links, Shard.of(node, data))
        case Kind.SYMLINK:
            return Symlink(cid, block, data.data or b"", data.mtime)
        case Kind.FILE | Kind.RAW:
            return FileNode(cid, block, _file_size(node, data), data.mtime)
        case _:
            return Node(cid, block)


def _file_size(node: dagpb.Node, data: unixfs.Data) -> int:
    if len(node.links) != len(data.block_sizes):
        raise BlockError("a file does not say how large its parts are")
    size = len(data.data or b"") + sum(data.block_sizes)
    if data.size is not None and data.size != size:
        raise BlockError("a file is not as large as its parts")
    return size


def _shard(cid: Cid, block: bytes) -> Shard:
    try:
        folder = parse(cid, block) if cid.codec == DAG_PB else None
    except BlockError as error:
        raise NotAcceptable(f"{cid}: {error}") from None
    if not isinstance(folder, Folder) or folder.shard is None:
        raise NotAcceptable(f"{cid} is no shard of a directory")
    return folder.shard
