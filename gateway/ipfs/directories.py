"""IpfsDirectory: buckets and prefixes as UnixFS directories, made when somebody asks."""

import asyncio
from collections.abc import Iterator

from chain.cids import Cid
from chain.clock import Clock
from gateway.catalog.interface import Batch, Catalog, Change, Delete, Equals, Put, Reader, Space
from gateway.errors import NoSuchKey
from gateway.ipfs import directory, rows
from gateway.ipfs.dagpb import Link
from gateway.ipfs.errors import NotFound, NotSupported
from gateway.model import Bucket, ObjectVersion
from gateway.objects import ObjectService

OBJECTS_MAX = 100_000
ROOTS_MAX = 16  # remembered of each bucket
_BATCH = 256
_PAGE = 200
_MULTIHASH_BYTES = 34
_NAME_BYTES_MAX = 255


class _Folder:
    """A directory being gathered: files with links, folders below."""

    __slots__ = ("files", "folders")

    def __init__(self) -> None:
        self.files: dict[str, Link] = {}
        self.folders: dict[str, _Folder] = {}


class IpfsDirectory:
    """Directory CIDs of published buckets; their blocks are remembered and served."""

    def __init__(self, objects: ObjectService, catalog: Catalog, clock: Clock) -> None:
        self._objects = objects
        self._catalog = catalog
        self._clock = clock

    async def root(self, bucket: Bucket, prefix: str = "") -> Cid:
        """The CID of the directory of a bucket, or of what lies under `prefix`.

        Holds the objects that have a CID by now and whose keys are paths: no empty part, no `.` or
        `..`. A key that is also a folder of others is left out. Raises NotFound (the bucket does
        not publish), NotSupported (more than OBJECTS_MAX objects), StoreError.
        """
        if not bucket.publishes:
            raise NotFound("this bucket does not publish")
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        top = await self._gather(bucket, prefix)
        blocks: dict[Cid, bytes] = {}
        link = await asyncio.to_thread(_build, top, blocks)
        await self._remember(bucket, prefix, link.cid, blocks)
        return link.cid

    async def progress(self, bucket: Bucket) -> tuple[str, int, int]:
        """(root CID, objects with a CID, objects that wait for one); "" where nothing is public.

        A walk over the bucket's keys.
        """
        ready = waiting = 0
        start: bytes | None = b""
        while start is not None:
            page = self._objects.list_objects(bucket, start=start, limit=_PAGE)
            ready += sum(found.cid is not None for found in page.objects)
            if bucket.publishes:
                waiting += sum(self._waits(found) for found in page.objects)
            start = page.next_start
            await asyncio.sleep(0)  # others have their turn between pages
        if not bucket.publishes:
            return "", 0, 0
        return str(await self.root(bucket)), ready, waiting

    def _waits(self, found: ObjectVersion) -> bool:
        """Whether it has no CID and will get one."""
        if found.cid is not None:
            return False
        try:
            return not self._objects.head(found.bucket, found.key).attributes.hidden
        except NoSuchKey:
            return False

    async def _gather(self, bucket: Bucket, prefix: str) -> _Folder:
        top = _Folder()
        count = 0
        start: bytes | None = b""
        while start is not None:
            page = self._objects.list_objects(bucket, prefix=prefix, start=start, limit=_PAGE)
            count += len(page.objects)
            if count > OBJECTS_MAX:
                raise NotSupported(f"a directory holds at most {OBJECTS_MAX} objects here")
            for path, link in self._links(page.objects):
                _place(top, path[len(prefix) :], link)
            start = page.next_start
            await asyncio.sleep(0)  # others have their turn between pages
        return top

    def _links(self, versions: list[ObjectVersion]) -> Iterator[tuple[str, Link]]:
        """Key and link of those that have a CID by now."""
        with self._catalog.read() as reader:
            for version in versions:
                if version.cid is None:
                    continue
                value = reader.get(Space.BLOCKS, rows.version_key(version.uid))
                total = version.size if value is None else rows.published_version(value).total
                yield version.key, Link(Cid.parse(version.cid), "", total)

    async def _remember(
        self, bucket: Bucket, prefix: str, root: Cid, blocks: dict[Cid, bytes]
    ) -> None:
        """Commit the blocks, then the root; forget the oldest roots beyond the limit."""
        with self._catalog.read() as reader:
            known = list(_roots(reader, bucket.id))
        if any(record.root == root.raw and record.prefix == prefix for _, record in known):
            return
        puts: list[Change] = [
            Put(Space.BLOCKS, rows.directory_key(cid.multihash, bucket.id), rows.DIRECTORY + block)
            for cid, block in blocks.items()
        ]
        for at in range(0, len(puts), _BATCH):
            await self._catalog.commit(Batch(changes=puts[at : at + _BATCH]))
        multihashes = b"".join(cid.multihash for cid in blocks)
        record = rows.DirectoryRoot(bucket.name, prefix, root.raw, multihashes)
        key = rows.roots_prefix(bucket.id) + self._clock.now_ns().to_bytes(8, "big")
        await self._catalog.commit(Batch(changes=[Put(Space.BLOCKS, key, rows.pack(record))]))
        for number in range(len(known) + 1 - ROOTS_MAX):
            kept = [other for _, other in known[number + 1 :]] + [record]
            await self._forget(bucket.id, known[number], kept)

    async def _forget(
        self,
        bucket_id: bytes,
        old: tuple[bytes, rows.DirectoryRoot],
        kept: list[rows.DirectoryRoot],
    ) -> None:
        still = {multihash for record in kept for multihash in _multihashes(record)}
        gone: list[Change] = [
            Delete(Space.BLOCKS, rows.directory_key(multihash, bucket_id))
            for multihash in _multihashes(old[1])
            if multihash not in still
        ]
        gone.append(Delete(Space.BLOCKS, old[0]))
        for at in range(0, len(gone), 4096):
            await self._catalog.commit(Batch(changes=gone[at : at + 4096]))


def sweep_directories(reader: Reader, bucket_id: bytes) -> Batch | None:
    """A batch that removes one remembered directory of a bucket; None when there is none left."""
    for key, record in _roots(reader, bucket_id):
        changes: list[Change] = [
            Delete(Space.BLOCKS, rows.directory_key(multihash, bucket_id))
            for multihash in _multihashes(record)
        ]
        changes.append(Delete(Space.BLOCKS, key))
        value = reader.get(Space.BLOCKS, key)
        return Batch([Equals(Space.BLOCKS, key, value)], changes)
    return None


def _roots(reader: Reader, bucket_id: bytes) -> Iterator[tuple[bytes, rows.DirectoryRoot]]:
    prefix = rows.roots_prefix(bucket_id)
    for key, value in reader.scan(Space.BLOCKS, prefix, rows.after(prefix), 4 * ROOTS_MAX):
        yield key, rows.directory_root(value)


def _multihashes(record: rows.DirectoryRoot) -> Iterator[bytes]:
    packed = record.multihashes
    for at in range(0, len(packed), _MULTIHASH_BYTES):
        yield packed[at : at + _MULTIHASH_BYTES]


def _place(top: _Folder, path: str, link: Link) -> None:
    parts = path.split("/")
    if any(
        part in {"", ".", ".."} or len(part.encode("utf-8", "surrogateescape")) > _NAME_BYTES_MAX
        for part in parts
    ):
        return
    folder = top
    for part in parts[:-1]:
        folder = folder.folders.setdefault(part, _Folder())
    folder.files[parts[-1]] = link._replace(name=parts[-1])


def _build(top: _Folder, blocks: dict[Cid, bytes]) -> Link:
    """Build all folders, deepest first, without recursion: keys may be 512 folders deep."""
    order = [("", top)]
    done: dict[int, Link] = {}
    for _, folder in order:
        order.extend(folder.folders.items())
    for name, folder in reversed(order):
        entries = [link for file, link in folder.files.items() if file not in folder.folders]
        entries += [done[id(child)] for child in folder.folders.values()]
        built = directory.build(entries)
        blocks.update(built.blocks)
        done[id(folder)] = Link(built.root, name, built.total)
    return done[id(top)]
