"""MFS: a bucket's own directory tree that is changed in place, as Kubo's `files` commands do.

The tree is UnixFS; a row (docs/specs/unixfs-index.md) says what its root is. A change
makes the directories on its path anew, stores them as a pack, and commits the new root on the
condition that the old one still stands; else it is worked out again on the new one. So no change is
lost, whoever makes another one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from chain.cids import DAG_PB, Cid
from gateway.catalog.interface import (
    Batch,
    Catalog,
    CatalogUnavailable,
    Conflict,
    Equals,
    Put,
    Space,
)
from gateway.errors import SlowDown
from gateway.ipfs.codecs import dagpb, directory, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.directory import Form
from gateway.ipfs.errors import BlockError
from gateway.ipfs.index import rows
from gateway.ipfs.index.packs import Packs
from gateway.ipfs.index.pins import Pins
from gateway.model import Bucket
from gateway.transaction import unavailable

_ATTEMPTS = 64
_LOAD_SECONDS = 60.0
EMPTY = directory.build(())

Load = Callable[[Cid], Awaitable[bytes]]
T = TypeVar("T")


class NotThere(Exception):
    """Nothing has this path."""


class NotADirectory(Exception):
    """A file lies on the path."""


class Mfs:
    """The trees of buckets. `load` reads a block of the network."""

    def __init__(self, catalog: Catalog, packs: Packs, pins: Pins, load: Load) -> None:
        self._catalog = catalog
        self._packs = packs
        self._pins = pins
        self._load = load

    def view(self, bucket: Bucket) -> "View":
        """The tree as it is now; what is changed of it is not kept."""
        return View(self._root(bucket)[1], self._load)

    async def change(self, bucket: Bucket, edit: Callable[["View"], Awaitable[T]]) -> T:
        """Keep what `edit` makes of the tree; it may be called more than once.

        What it raises gets out, and nothing is changed. Raises StoreError.
        """
        for _ in range(_ATTEMPTS):
            before, root = self._root(bucket)
            view = View(root, self._load)
            answer = await edit(view)
            if view.root == root:
                return answer
            async with self._pins.hold(bucket):
                await self._packs.store_all(bucket, (view.root,), view.new_blocks())
                if await self._commit(bucket, before, view.root):
                    return answer
        raise SlowDown

    async def _commit(self, bucket: Bucket, before: bytes | None, root: Cid) -> bool:
        """False if it was overtaken."""
        key, switch = rows.mfs_key(bucket.id), bucket.name.encode()
        with self._catalog.read() as reader:
            bucket_row = reader.get(Space.BUCKETS, switch)
        conditions = [
            Equals(Space.BLOCKS, key, before),
            Equals(Space.BUCKETS, switch, bucket_row),
        ]
        put = Put(Space.BLOCKS, key, rows.FORMAT + root.raw)
        try:
            await self._catalog.commit(Batch(conditions, [put]))
        except Conflict:
            return False
        except CatalogUnavailable as error:
            raise unavailable(error) from error
        return True

    def _root(self, bucket: Bucket) -> tuple[bytes | None, Cid]:
        with self._catalog.read() as reader:
            value = reader.get(Space.BLOCKS, rows.mfs_key(bucket.id))
        return value, EMPTY.root if value is None else rows.mfs_root(value)


class View:
    """A tree under change: blocks that are new are here, others are loaded."""

    def __init__(self, root: Cid, load: Load) -> None:
        self.root = root
        self._load = load
        self._new: dict[Cid, bytes] = dict(EMPTY.blocks)

    async def new_blocks(self) -> AsyncIterator[tuple[Cid, bytes]]:
        """Those of the new blocks that the tree has; others were only on the way."""
        waiting, seen = [self.root], set[Cid]()
        while waiting:
            cid = waiting.pop()
            if cid in seen or cid not in self._new:
                continue
            seen.add(cid)
            yield cid, self._new[cid]
            waiting += [link.cid for link in dagpb.decode(self._new[cid]).links]

    async def block(self, cid: Cid) -> bytes:
        """A block of the tree. Raises NotFound, StoreError."""
        new = self._new.get(cid)
        return await self._load(cid) if new is None else new

    def add(self, cid: Cid, block: bytes) -> None:
        """Keep a new block that is not a directory's of `put`."""
        self._new[cid] = block

    async def find(self, path: Sequence[str]) -> Link | None:
        """What has this path; None if nothing. Raises NotADirectory, NotFound, StoreError."""
        link: Link | None = await self.link_to(self.root)
        for name in path:
            if link is None:
                return None
            link = await self._child(link.cid, name)
        return link

    async def link_to(self, cid: Cid) -> Link:
        """A link to a DAG-PB or raw block, with the size of all below it."""
        block = await self.block(cid)
        size = len(block)
        if cid.codec == DAG_PB:
            size += sum(link.size for link in dagpb.decode(block).links)
        return Link(cid, "", size)

    async def put(self, path: Sequence[str], link: Link | None) -> None:
        """Have the path stand for something else, or (None) for nothing.

        The root's path is (). Raises NotThere (the directory is missing), NotADirectory, NotFound,
        StoreError.
        """
        if not path:
            assert link is not None
            self.root = link.cid
            return
        folders = [self.root]
        for name in path[:-1]:
            child = await self._child(folders[-1], name)
            if child is None:
                raise NotThere("/" + "/".join(path[:-1]))
            folders.append(child.cid)
        for folder, name in zip(reversed(folders), reversed(path), strict=True):
            made = await self._updated(folder, name, link)
            self._new.update(made.blocks)
            link = Link(made.root, "", made.total)
        assert link is not None
        self.root = link.cid

    async def is_directory(self, cid: Cid) -> bool:
        """Whether it is a directory. Raises NotFound, StoreError."""
        if cid.codec != DAG_PB:
            return False
        try:
            directory.entries(await self.block(cid))
        except BlockError:
            return False
        return True

    async def _child(self, folder: Cid, name: str) -> Link | None:
        if not await self.is_directory(folder):
            raise NotADirectory(name)
        return await self._beside(lambda load: directory.find(folder, name, load))

    async def _updated(self, folder: Cid, name: str, link: Link | None) -> directory.Update:
        if not await self.is_directory(folder):
            raise NotADirectory(name)
        data = unixfs.decode(dagpb.decode(await self.block(folder)).data or b"")
        form = Form(mode=data.mode, mtime=data.mtime)
        changes = {name: link}
        return await self._beside(lambda load: directory.update(folder, changes, load, form=form))

    async def _beside(self, work: Callable[[Callable[[Cid], bytes]], T]) -> T:
        """Do pure work that reads blocks on its way in a thread; the loop reads them for it."""
        loop = asyncio.get_running_loop()

        def load(cid: Cid) -> bytes:
            new = self._new.get(cid)
            if new is not None:
                return new
            return asyncio.run_coroutine_threadsafe(self._loaded(cid), loop).result(_LOAD_SECONDS)

        return await asyncio.to_thread(work, load)

    async def _loaded(self, cid: Cid) -> bytes:
        return await self._load(cid)


async def there(view: View, path: Sequence[str]) -> Link:
    """What has this path. Raises NotThere, and what `find` raises."""
    found = await view.find(path)
    if found is None:
        raise NotThere("/" + "/".join(path))
    return found


async def make_parents(view: View, path: Sequence[str]) -> None:
    """Have directories on the whole path."""
    for depth in range(1, len(path) + 1):
        if await view.find(path[:depth]) is None:
            await view.put(path[:depth], await view.link_to(EMPTY.root))
