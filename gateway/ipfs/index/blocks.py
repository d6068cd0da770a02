"""What this network serves of IPFS: blocks and files of published versions, and directories.

A block is a row; whether it may be seen is asked at every look-up (rows.py, unixfs-index.md).
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from chain.cids import IDENTITY, Cid
from chain.net.transport import Buffer
from gateway.catalog.interface import Catalog, Space
from gateway.errors import NoSuchBucket, NoSuchKey
from gateway.ipfs.codecs.unixfs import LEAF_BYTES
from gateway.ipfs.index import rows
from gateway.ipfs.index.deny_files import DenyFiles
from gateway.model import ObjectVersion
from gateway.objects import ObjectService
from gateway.versions import version_uid

_PAGE = 32
# Holders of one block that are looked at: private or dying ones may come first.
_HOLDERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Inline:
    """A block whose bytes are here: from the catalog, its CID, or another network."""

    cid: Cid
    data: bytes


@dataclass(frozen=True, slots=True)
class Leaf:
    """A block of any codec: bytes [start, end) of an object version."""

    cid: Cid
    version: ObjectVersion
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class File:
    """A whole file: an object version whose root this CID is."""

    cid: Cid
    version: ObjectVersion
    total: int  # Tsize of a link to it
    block: Inline | Leaf  # its root


Published = tuple[rows.PublishedVersion, ObjectVersion]
Known = dict[bytes, Published | None]  # by the version's uid


class BlockIndex:
    """Look-ups over one catalog. Every answer is public now."""

    def __init__(
        self, objects: ObjectService, catalog: Catalog, deny: DenyFiles | None = None
    ) -> None:
        """With `deny`, look-ups raise Denied for what it blocks."""
        self._objects = objects
        self._catalog = catalog
        self.deny = deny

    def find(self, cid: Cid, known: Known | None = None) -> File | Inline | Leaf | None:
        """What the CID names: a whole file where it is the root of one, else a block.

        `known` keeps what was found of versions, for whoever looks up many blocks of few.
        """
        if self.deny is not None:
            self.deny.check_block(cid)
        if cid.hash_code == IDENTITY:
            return Inline(cid, cid.digest)
        block: Inline | Leaf | None = None
        for number, (holder, place, value) in enumerate(self._holders(cid)):
            if place == rows.DIRECTORY_PLACE:
                if block is None and self._directory_is_public(holder):
                    block = Inline(cid, value[1:])
                continue
            found = self._published(holder, known)
            if found is None:
                continue
            record, version = found
            if block is None or record.root == cid.raw:
                block = _placed(cid, place, value, found)
            if record.root == cid.raw:
                return File(cid, version, record.total, block)
            if number >= _PAGE:
                break  # of a block that so many hold, any will do
        return block

    def file(self, cid: Cid) -> File | None:
        """The object version of which this is the root, if there is one in the open."""
        found = self.find(cid)
        return found if isinstance(found, File) else None

    def block(self, cid: Cid, known: Known | None = None) -> Inline | Leaf | None:
        """Where the block's bytes are, if they may be seen."""
        if self.deny is not None:
            self.deny.check_block(cid)
        if cid.hash_code == IDENTITY:
            return Inline(cid, cid.digest)
        for holder, place, value in self._holders(cid):
            if place == rows.DIRECTORY_PLACE:
                if self._directory_is_public(holder):
                    return Inline(cid, value[1:])
                continue
            found = self._published(holder, known)
            if found is not None:
                return _placed(cid, place, value, found)
        return None

    def read(self, version: ObjectVersion, start: int, end: int) -> AsyncIterator[Buffer]:
        """Bytes [start, end) of an object version. Raises StoreError."""
        return self._objects.read(version, start, end)

    async def bytes_of(self, block: Inline | Leaf) -> bytes:
        """A block's bytes, at most 2 MiB. Raises StoreError."""
        if isinstance(block, Inline):
            return block.data
        if block.start >= block.end:
            return b""
        parts = [bytes(part) async for part in self.read(block.version, block.start, block.end)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def is_packed(self, cid: Cid, bucket_id: bytes) -> bool:
        """Whether a pack of this bucket holds the block, or its CID itself does."""
        if cid.hash_code == IDENTITY:
            return True
        for holder, place, _ in self._holders(cid):
            if place == rows.PACK_PLACE:
                found = self._published(holder)
                if found is not None and found[0].bucket_id == bucket_id:
                    return True
        return False

    def is_known(self, multihash: bytes) -> bool:
        """Whether any row, public or not, tells of the block."""
        with self._catalog.read() as reader:
            return bool(reader.scan(Space.BLOCKS, multihash, rows.after(multihash), 1))

    def packs_of(self, cid: Cid) -> Iterator[tuple[bytes, int]]:
        """(uid, place in its lists) of each pack of the block, oldest first, public or not."""
        for holder, place, value in self._holders(cid):
            if place == rows.PACK_PLACE:
                yield holder, rows.packed_number(value)

    def _holders(self, cid: Cid) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(uid or bucket id, place, value) of each row of the block, in short snapshots."""
        multihash = cid.multihash
        start, end = multihash, rows.after(multihash)
        for _ in range(_HOLDERS_MAX // _PAGE):
            with self._catalog.read() as reader:
                page = reader.scan(Space.BLOCKS, start, end, _PAGE)
            last = b""
            for key, value in page:
                if len(key) - len(multihash) not in rows.SUFFIXES:
                    continue
                holder, place = rows.place_of(key, multihash)
                if holder != last:
                    yield holder, place, value
                last = holder
            if len(page) < _PAGE:
                return
            # One object may hold the same leaf many times: go on behind all of them.
            start = multihash + last + b"\xff" * (4 + rows.FOLDER_BYTES)

    def _published(self, uid: bytes, known: Known | None = None) -> Published | None:
        """The version of this name, if it is still there and public."""
        if known is None:
            return self._asked(uid)
        if uid not in known:
            known[uid] = self._asked(uid)
        return known[uid]

    def _asked(self, uid: bytes) -> Published | None:
        with self._catalog.read() as reader:
            value = reader.get(Space.BLOCKS, rows.version_key(uid))
        if value is None:
            return None
        record = rows.published_version(value)
        try:
            bucket = self._objects.bucket(record.bucket)
            if bucket.id != record.bucket_id:
                return None
            version = self._objects.head(bucket, record.key)
        except (NoSuchBucket, NoSuchKey):
            return None
        public = version_uid(version) == uid and version.attributes.published(bucket)
        return (record, version) if public else None

    def _directory_is_public(self, bucket_id: bytes) -> bool:
        with self._catalog.read() as reader:
            value = reader.get(Space.BLOCKS, rows.tree_key(bucket_id))
        if value is None:
            return False
        try:
            bucket = self._objects.bucket(rows.tree_row(value).bucket)
        except NoSuchBucket:
            return False
        return bucket.id == bucket_id and bucket.publishes


def _placed(cid: Cid, place: bytes, value: bytes, found: Published) -> Inline | Leaf:
    """A block by its row, which a published version holds."""
    record, version = found
    if place == rows.NODE_PLACE:
        return Inline(cid, value[1:])
    if place == rows.PACK_PLACE:
        return Leaf(cid, version, *rows.packed_range(value))
    start = int.from_bytes(place, "big") * LEAF_BYTES
    return Leaf(cid, version, start, min(start + LEAF_BYTES, record.size))
