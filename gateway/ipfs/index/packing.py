"""PackBody: reads a CAR on its way into the store, and tells the rows that its blocks need.

docs/specs/unixfs-index.md. No I/O of its own but the body that it passes on.
"""

from collections.abc import AsyncIterator, Iterator

from chain.cids import IDENTITY, Cid
from chain.net.transport import Buffer
from gateway.catalog.interface import Append, Change, Put, Space
from gateway.errors import InvalidCar
from gateway.ipfs.codecs.car import CarReader
from gateway.ipfs.errors import BlockError
from gateway.ipfs.index import rows
from gateway.model import Bucket
from gateway.records import PublishJob, encode
from gateway.versions import PUBLISH_JOBS

# Rows of one commit; a pack of more blocks gets them by a job. 16,384 take 1.4 MiB.
BLOCKS_MAX = 16_384


class PackBody:
    """The PackBody of gateway/store.py; keeps where up to BLOCKS_MAX blocks are, by multihash."""

    def __init__(self, body: AsyncIterator[Buffer]) -> None:
        self._body = body
        self._reader = CarReader()
        self._root: Cid | None = None
        self._places: dict[bytes, tuple[int, int]] = {}
        self._is_large = False

    def __aiter__(self) -> "PackBody":
        return self

    async def __anext__(self) -> Buffer:
        try:
            data = await anext(self._body)
        except StopAsyncIteration:
            self._finish()
            raise
        for multihash, place in self._blocks(data):
            if self._is_large:
                continue
            self._places[multihash] = place
            if len(self._places) > BLOCKS_MAX:
                self._places.clear()
                self._is_large = True
        return data

    def rows(self, bucket: Bucket, key: str, uid: bytes, size: int) -> tuple[str, list[Change]]:
        """See gateway/store.py."""
        if self._is_large:
            job = PublishJob(bucket.name, bucket.id, key, uid)
            return self.cid, [Append(Space.JOBS, PUBLISH_JOBS, encode(job))]
        total = sum(length for _, length in self._places.values())
        changes = list[Change](pack_rows(uid, self._places, 0))
        return self.cid, [*changes, pack_row(bucket, key, uid, size, total)]

    async def steps(self) -> AsyncIterator[dict[bytes, tuple[int, int]]]:
        """Read the body to its end: places of up to BLOCKS_MAX blocks at a time. Raises InvalidCar.

        A block that comes again may be in a later step too.
        """
        places: dict[bytes, tuple[int, int]] = {}
        async for data in self._body:
            for multihash, place in self._blocks(data):
                places[multihash] = place
                if len(places) == BLOCKS_MAX:
                    yield places
                    places = {}
        self._finish()
        if places:
            yield places

    @property
    def cid(self) -> str:
        """The root, once the body was read to its end."""
        assert self._root is not None
        return str(self._root)

    def _blocks(self, data: Buffer) -> Iterator[tuple[bytes, tuple[int, int]]]:
        """(multihash, (offset, length)) of each block that `data` completes."""
        reader = self._reader
        try:
            for cid, block in reader.feed(data):
                if self._root is None:
                    self._root = reader.roots[0] if reader.roots else cid
                if cid.hash_code != IDENTITY:
                    yield cid.multihash, (reader.at, len(block))
        except BlockError as error:
            raise InvalidCar(f"The body is not a CAR: {error}.") from None

    def _finish(self) -> None:
        try:
            self._reader.finish()
        except BlockError as error:
            raise InvalidCar(f"The body is not a CAR: {error}.") from None
        if self._root is None:
            if not self._reader.roots:
                raise InvalidCar("The CAR has neither roots nor blocks.")
            self._root = self._reader.roots[0]


def pack_rows(uid: bytes, places: dict[bytes, tuple[int, int]], first: int) -> Iterator[Put]:
    """The rows of a pack's blocks behind their lists, which are numbered from `first` on.

    Lists come first: what a crash leaves of them is found by them.
    """
    names = list(places)
    for at in range(0, len(names), rows.LISTED_MAX):
        some = b"".join(names[at : at + rows.LISTED_MAX])
        yield Put(Space.BLOCKS, rows.list_key(uid, first + at // rows.LISTED_MAX), some)
    for number, (multihash, (offset, length)) in enumerate(places.items(), first * rows.LISTED_MAX):
        key = rows.packed_key(multihash, uid)
        yield Put(Space.BLOCKS, key, rows.packed(offset, length, number))


def pack_row(bucket: Bucket, key: str, uid: bytes, size: int, total: int) -> Put:
    """The row that makes a pack's blocks public."""
    record = rows.PublishedVersion(bucket.name, bucket.id, key, size, b"", total)
    return Put(Space.BLOCKS, rows.version_key(uid), rows.pack(record))
