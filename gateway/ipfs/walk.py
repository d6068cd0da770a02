"""From a path to what stands at its end, and through a directory's own blocks.

Only blocks of directories are read here, never a child's.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from chain.cids import DAG_PB, RAW, Cid
from gateway.ipfs import dagpb, directory, unixfs
from gateway.ipfs.blocks import BlockIndex, File, Inline, Leaf
from gateway.ipfs.dagpb import Link
from gateway.ipfs.errors import BlockError, NotAcceptable, NotFound
from gateway.ipfs.traversal import follow

SHARDS_MAX = 20_000  # of one directory
ENTRIES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory: its root block, parsed."""

    cid: Cid
    block: bytes
    is_shard: bool
    links: list[Link]


@dataclass(frozen=True, slots=True)
class Subtree:
    """An inner node of a file, or a file that is not an object of its own."""

    cid: Cid
    block: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Node:
    """A block of a codec that is neither raw nor DAG-PB, or DAG-PB that is no UnixFS."""

    cid: Cid
    block: bytes


Entity = File | Leaf | Inline | Folder | Subtree | Node
Content = File | Leaf | Inline | Subtree  # what has bytes of a file


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a path leads to."""

    entity: Entity
    roots: tuple[Cid, ...]  # the CID at each segment, the first one included
    path: tuple[str, ...]  # that was followed from the first root
    passed: tuple[tuple[Cid, bytes], ...]  # blocks that lead there, without the entity's own
    remainder: tuple[str, ...] = ()  # the end of the path that lies within a Node's block


class Walker:
    """Resolution over the network's own blocks."""

    def __init__(self, index: BlockIndex) -> None:
        self._index = index

    async def resolve(self, root: Cid, path: tuple[str, ...]) -> Resolved:
        """Follow `path` from `root`. Raises NotFound, NotAcceptable, StoreError."""
        roots, passed = [root], list[tuple[Cid, bytes]]()
        entity = await self.entity(root)
        at = 0
        while at < len(path):
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

    async def block(self, cid: Cid) -> bytes:
        """A block's bytes. Raises NotFound, StoreError."""
        found = self._index.block(cid)
        if found is None:
            raise NotFound(f"block {cid} is not held by this network")
        return await self._index.bytes_of(found)

    async def entity(self, cid: Cid) -> Entity:
        """What a CID is. Raises NotFound, NotAcceptable, StoreError."""
        file = self._index.file(cid)
        if file is not None:
            return file
        found = self._index.block(cid)
        if found is None:
            raise NotFound(f"{cid} is not held by this network")
        if cid.codec == RAW:
            return found
        block = await self._index.bytes_of(found)
        if cid.codec != DAG_PB:
            return Node(cid, block)
        try:
            return _parse(cid, block)
        except BlockError as error:
            raise NotAcceptable(f"{cid}: {error}") from None

    async def shards(self, folder: Folder) -> AsyncIterator[tuple[Cid, bytes]]:
        """All blocks of a directory itself, root first, depth first. Raises NotFound."""
        yield folder.cid, folder.block
        if not folder.is_shard:
            return
        waiting = _sub_shards(folder.links)
        count = 0
        while waiting:
            cid = waiting.pop()
            count += 1
            if count > SHARDS_MAX:
                raise NotFound("the directory has too many shards")
            block = await self.block(cid)
            yield cid, block
            waiting += _sub_shards(directory.entries(block)[1])

    async def entries(self, folder: Folder) -> list[Link]:
        """The entries by name, at most ENTRIES_MAX. Raises NotFound."""
        if not folder.is_shard:
            return folder.links
        found: list[Link] = []
        async for _, block in self.shards(folder):
            links = directory.entries(block)[1]
            found += [x._replace(name=x.name[2:]) for x in links if len(x.name) > 2]
            if len(found) > ENTRIES_MAX:
                break
        return sorted(found, key=lambda link: link.name)[:ENTRIES_MAX]

    async def _child(
        self, folder: Folder, name: str, passed: list[tuple[Cid, bytes]]
    ) -> Link | None:
        """The entry of this name; notes the blocks that lead to it."""
        passed.append((folder.cid, folder.block))
        if not folder.is_shard:
            return next((link for link in folder.links if link.name == name), None)
        links = folder.links
        for depth in range(directory.DEPTH_MAX):
            slot = directory.slot_name(name, depth)
            link = next((x for x in links if x.name[:2] == slot), None)
            if link is None or link.name == slot + name:
                return link
            if link.name != slot:
                return None
            block = await self.block(link.cid)
            passed.append((link.cid, block))
            links = directory.entries(block)[1]
        return None


def _sub_shards(links: list[Link]) -> list[Cid]:
    return [link.cid for link in reversed(links) if len(link.name) == 2]


def _parse(cid: Cid, block: bytes) -> Folder | Subtree:
    data = unixfs.decode(dagpb.decode(block).data or b"")
    if data.kind in {unixfs.Kind.DIRECTORY, unixfs.Kind.SHARD}:
        is_shard, links = directory.entries(block)
        return Folder(cid, block, is_shard, links)
    if data.kind is unixfs.Kind.FILE and data.size is not None:
        return Subtree(cid, block, data.size)
    raise BlockError("a UnixFS node of a kind that is not served")
