"""`files write`: bytes into a file of the tree; the file around them stays."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from chain.cids import DAG_PB, RAW, Cid
from chain.net.transport import Buffer
from gateway.ipfs.api.adding import metadata_of, profile_of
from gateway.ipfs.api.call import Call
from gateway.ipfs.api.errors import ApiError, BadCall
from gateway.ipfs.api.multipart import one_file
from gateway.ipfs.api.node import Node
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.importer import FileImporter, Metadata
from gateway.ipfs.codecs.unixfs import Child
from gateway.ipfs.index.mfs import NotThere, View, make_parents, there
from gateway.ipfs.web.stream import size_of
from gateway.ipfs.web.walk import Content
from gateway.model import Bucket

FILE_BYTES_MAX = 1 << 40
_ZEROS = bytes(1 << 20)

Path = tuple[str, ...]


class Writing:
    """One `files write`: the new file is stored first, then put in its place."""

    def __init__(self, node: Node, bucket: Bucket, call: Call, path: Path) -> None:
        self._node = node
        self._bucket = bucket
        self._call = call
        self._path = path
        self._offset = call.number("offset", "o")
        self._count = call.number("count", "n", default=FILE_BYTES_MAX)
        self._create, self._parents = call.flag("create", "e"), call.flag("parents", "p")
        self._truncate = call.flag("truncate", "t")
        if self._offset > FILE_BYTES_MAX:
            raise BadCall(f"a file has at most {FILE_BYTES_MAX} bytes here")
        self._profile, self._metadata = profile_of(call), metadata_of(call)

    async def run(self) -> None:
        """Store and put. Raises ApiError, NotThere, NotADirectory, StoreError."""
        view = self._node.mfs.view(self._bucket)
        before = await view.find(self._path)
        if before is None and not self._create:
            raise NotThere
        if before is None and not self._parents and len(self._path) > 1:
            await there(view, self._path[:-1])
        old = None if before is None else await self._node.entity(before.cid)
        if old is not None and not isinstance(old, Content):
            raise ApiError(f"/{'/'.join(self._path)} was not a file")
        file = FileImporter(self._profile, await self._kept(view, before))
        async with self._node.pins.hold(self._bucket):
            await self._node.packs.store_all(self._bucket, (), self._blocks(file, old))
            assert file.link is not None
            await self._put(before, file.link)

    async def _put(self, before: Link | None, link: Link) -> None:
        """Put the new file in its place. Raises ApiError: the old one is another now."""

        async def edit(view: View) -> None:
            now = await view.find(self._path)
            is_same = (now and now.cid) == (before and before.cid)
            if not is_same and not (self._truncate and self._offset == 0):
                raise ApiError("the file was changed meanwhile: write again")
            if self._parents:
                await make_parents(view, self._path[:-1])
            await view.put(self._path, link)

        await self._node.mfs.change(self._bucket, edit)

    async def _kept(self, view: View, before: Link | None) -> Metadata:
        """The attributes of the file: as given, else as they were."""
        mode, mtime = self._metadata.mode, self._metadata.mtime
        if before is not None and before.cid.codec == DAG_PB:
            data = unixfs.decode(dagpb.decode(await view.block(before.cid)).data or b"")
            mode = data.mode if mode is None else mode
            mtime = data.mtime if mtime is None else mtime
        return Metadata(mode, mtime)

    async def _blocks(
        self, file: FileImporter, old: Content | None
    ) -> AsyncIterator[tuple[Cid, bytes]]:
        """The new file's blocks; leaves of the old one that stay are neither read nor stored."""
        size = 0 if old is None or self._truncate else size_of(old)
        async with aclosing(self._parts(old, size)) as parts:
            async for part in parts:
                for block in file.keep(part) if isinstance(part, Child) else file.feed(part):
                    yield block
        for block in file.finish():
            yield block

    async def _parts(self, old: Content | None, size: int) -> AsyncGenerator[Child | Buffer, None]:
        """What the new file is made of: bytes, and leaves of the old one, of which `size` counts.

        A leaf follows what ends with a whole chunk, as the importer wants it.
        """
        chunk = self._profile.chunk_bytes
        leaves = [] if old is None or size <= chunk else await self._old_leaves(old, size)
        kept = min(self._offset, size) // chunk if leaves else 0
        for leaf in leaves[:kept]:
            yield leaf
        if old is not None and kept * chunk < size:
            async for part in self._node.content(old, kept * chunk, min(self._offset, size)):
                yield part
        for at in range(size, self._offset, len(_ZEROS)):
            yield _ZEROS[: self._offset - at]
        end = self._offset
        async for data in self._written():
            end += len(data)
            yield data
        stop = min(-(-end // chunk) * chunk, size) if leaves else size
        if old is not None and end < size:
            async for part in self._node.content(old, end, stop):
                yield part
            for leaf in leaves[stop // chunk :] if stop < size else ():
                yield leaf

    async def _old_leaves(self, old: Content, size: int) -> list[Child]:
        """The leaves of a file if they are as ours would be: raw, and each of a chunk's size."""
        chunk, leaves = self._profile.chunk_bytes, list[Child]()
        if not self._profile.raw_leaves:
            return []
        reader, waiting = self._node.reader(), [(old.cid, size)]
        while waiting:
            cid, length = waiting.pop()
            if cid.codec == RAW:
                if length != min(chunk, size - len(leaves) * chunk):
                    return []
                leaves.append(Child(cid, length, length))
                continue
            parsed = dagpb.decode(await reader.block(cid))
            data = unixfs.decode(parsed.data or b"")
            if data.data or len(data.block_sizes) != len(parsed.links):
                return []
            children = zip(parsed.links, data.block_sizes, strict=True)
            waiting += [(link.cid, part) for link, part in reversed(list(children))]
        return leaves

    async def _written(self) -> AsyncGenerator[bytes, None]:
        """The body, as far as it counts. Raises BadCall, ApiError."""
        left, room = self._count, FILE_BYTES_MAX - self._offset
        async with aclosing(one_file(self._call.content_type, self._call.body)) as parts:
            async for data in parts:
                piece = data[:left]
                left, room = left - len(piece), room - len(piece)
                if room < 0:
                    raise ApiError(f"a file has at most {FILE_BYTES_MAX} bytes here")
                if piece:
                    yield piece
