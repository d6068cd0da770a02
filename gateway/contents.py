"""The bytes of stored versions: which streams hold a range, what opens them."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from chain.net.transport import Buffer
from gateway.catalog.interface import Reader, Space
from gateway.errors import NoSuchKey
from gateway.finding import find
from gateway.keys import unwrap
from gateway.model import ObjectVersion
from gateway.protection import CustomerKey, unwrap_version_key
from gateway.reading import DataDamaged, Group, SealedStream, StreamReader, plan
from gateway.records import StreamRef, StreamRow, VersionRow, decode
from gateway.seal import Opener, SealBroken, open_small
from gateway.store import Store
from gateway.transaction import segment_of
from gateway.versions import version_row
from miner.segments import Segment

# Unwrapping costs 3 µs; so many hot objects need it once.
_CACHED_KEYS = 4096


class LazySegments(Sequence[Segment]):
    """A stream's segments, each built when it is looked at: a range of 5 GiB needs one."""

    def __init__(self, row: StreamRow, count: int) -> None:
        self._row = row
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return segment_of(self._row, index)


@dataclass(frozen=True, slots=True)
class Piece:
    """The part [start, end) of one stream that a range touches."""

    stream: StreamRef
    start: int
    end: int


def pieces(streams: Sequence[StreamRef], start: int, end: int) -> Iterator[Piece]:
    """Cut an object's range [start, end) along its streams."""
    offset = 0
    for stream in streams:
        first, last = max(start - offset, 0), min(end - offset, stream.size)
        if first < last:
            yield Piece(stream, first, last)
        offset += stream.size
        if offset >= end:
            return


class Contents:
    """Reads versions."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reader = StreamReader(store.source, store.reads)
        self._cached: OrderedDict[bytes, bytes] = OrderedDict()

    async def read(
        self, version: ObjectVersion, start: int, end: int, customer: CustomerKey | None = None
    ) -> AsyncIterator[Buffer]:
        """The bytes [start, end).

        Raises NoSuchKey, SlowDown, DataDamaged, and what `version_key` raises.
        """
        with self._store.catalog.read() as reader:
            if not version.record:
                version = find(reader, version.bucket, version.key, version.version_id)
            row = version_row(version)
            key = self.version_key(reader, version, row, customer)
        for piece in pieces(row.streams, start, end):
            stream_key = self._stream_key(piece.stream, key, keep=customer is None)
            if piece.stream.inline:
                yield self._inline(piece, stream_key)
            else:
                groups = self._groups(piece, stream_key)
                async for data in self._reader.read(groups):
                    yield data

    def version_key(
        self,
        reader: Reader,
        version: ObjectVersion,
        row: VersionRow,
        customer: CustomerKey | None = None,
    ) -> bytes:
        """The unwrapped version key. Raises what `unwrap_version_key` raises."""
        return unwrap_version_key(self._store, reader, version.bucket, row, customer)

    def inline_body(self, reader: Reader, stream: StreamRef) -> bytes:
        """The sealed bytes of an inline stream. Raises NoSuchKey when it was deleted meanwhile."""
        body = reader.get(Space.BODIES, stream.id)
        if body is None:
            raise NoSuchKey
        return body

    def _stream_key(self, stream: StreamRef, version_key: bytes, *, keep: bool) -> bytes:
        # By wrapped key, which is another one for every version that shares the stream.
        if not keep:
            return unwrap(stream.key, version_key)
        key = self._cached.get(stream.key)
        if key is None:
            key = unwrap(stream.key, version_key)
            self._cached[stream.key] = key
            if len(self._cached) > _CACHED_KEYS:
                self._cached.popitem(last=False)
        return key

    def _inline(self, piece: Piece, key: bytes) -> Buffer:
        with self._store.catalog.read() as reader:
            body = self.inline_body(reader, piece.stream)
        try:
            plain = open_small(key, piece.stream.commitment, body)
        except SealBroken as error:
            raise DataDamaged from error
        if len(plain) != piece.stream.size:
            raise DataDamaged
        return plain if piece.end - piece.start == len(plain) else plain[piece.start : piece.end]

    def _groups(self, piece: Piece, key: bytes) -> Iterator[Group]:
        with self._store.catalog.read() as reader:
            raw = reader.get(Space.STREAMS, piece.stream.id)
        if raw is None:
            raise NoSuchKey
        row = decode(StreamRow, raw)
        width = 32 * (row.k + row.m)
        try:
            opener = Opener(key, piece.stream.commitment, row.size)
        except SealBroken as error:
            raise DataDamaged from error
        stream = SealedStream(
            opener,
            row.size,
            row.segment_chunks,
            LazySegments(row, len(row.fragments) // width),
        )
        return plan(stream, piece.start, piece.end)
