"""A request's body becomes a sealed stream: inline, one small segment, or a pipeline of them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from chain.net.transport import Buffer
from gateway.digests import CRCS, Digester, digester
from gateway.errors import EntityTooLarge, IncompleteBody, SlowDown
from gateway.model import Algorithm, Digests
from gateway.seal import CHUNK, commitment, seal_small
from gateway.segments import NEVER, Engine, SegmentWriter, Stored, seal_segment
from miner.records import Row
from miner.segments import Profile, Segment
from miner.writing import BelowQuorum, FragmentReceipt

# Up to this the hops to threads cost more than the work (MD5, SHA-256 and sealing of 128 KiB take
# 0.3 ms): a PUT of 128 KiB takes 0.51 instead of 0.74 ms of a worker's CPU, of 256 KiB the same.
SMALL = 128 << 10
STREAM_MAX = 5 << 30  # S3: of a PUT and of a part
LEAF = CHUNK


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller wants to know of the bytes, and how they are to be kept."""

    profile: Profile
    algorithms: frozenset[Algorithm]
    inline_max: int
    leaves: bool = False
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Ingested:
    """A sealed, stored, not yet committed stream."""

    id: bytes
    key: bytes = field(repr=False)
    commitment: bytes
    digests: Digests
    body: bytes | None  # sealed bytes of an inline stream
    leaves: bytes  # SHA-256 of each MiB, packed
    segments: tuple[Segment, ...] = ()
    rows: tuple[Row, ...] = ()
    receipts: tuple[FragmentReceipt, ...] = ()
    complete: bool = True
    deadline_ns: int = NEVER  # of the commit
    segment_chunks: int = 1  # of each segment but the last

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        return self.digests.size

    @property
    def charged(self) -> int:
        """Bytes that it takes of a lease: all fragments at the miners, or the sealed body."""
        if self.body is not None:
            return len(self.body)
        return sum(segment.stored_bytes for segment in self.segments)


class Leaves:
    """SHA-256 of each MiB; takes whole chunks, which are whole leaves."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []

    def update(self, chunk: Buffer) -> None:
        """One leaf. The empty stream's only chunk is a leaf too."""
        self._digests.append(hashlib.sha256(chunk).digest())

    def packed(self) -> bytes:
        """32 bytes for each leaf."""
        return b"".join(self._digests)


class Meter:
    """The digests of one body; groups them in lanes by what they cost."""

    def __init__(self, wanted: Wanted) -> None:
        self._digesters: dict[Algorithm, Digester] = {
            algorithm: digester(algorithm) for algorithm in sorted(wanted.algorithms)
        }
        self._leaves = Leaves() if wanted.leaves else None

    def lanes(self) -> list[list[Callable[[Buffer], None]]]:
        """A lane for each slow hash, one for all CRCs together, one for leaves."""
        lanes: list[list[Callable[[Buffer], None]]] = []
        fast: list[Callable[[Buffer], None]] = []
        for algorithm, running in self._digesters.items():
            if algorithm in CRCS:
                fast.append(running.update)
            else:
                lanes.append([running.update])
        if fast:
            lanes.append(fast)
        if self._leaves:
            lanes.append([self._leaves.update])
        return lanes

    def feed(self, data: Buffer) -> None:
        """Take a whole body of at most one chunk."""
        for running in self._digesters.values():
            running.update(data)
        if self._leaves:
            self._leaves.update(data)

    def digests(self, size: int) -> Digests:
        """The results."""
        return Digests(size, {a: d.digest() for a, d in self._digesters.items()})

    def leaves(self) -> bytes:
        """Packed leaf digests, empty if they were not wanted."""
        return self._leaves.packed() if self._leaves else b""


class Ingest:
    """Seals bodies. `key` and `stream_id` are fresh for each call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def take(
        self, body: AsyncIterator[Buffer], wanted: Wanted, key: bytes, stream_id: bytes
    ) -> Ingested:
        """Read `body` to its end. Raises IncompleteBody, EntityTooLarge, SlowDown.

        Whatever happens, buffers go back; fragments without a commit are the miners' to sweep.
        """
        if wanted.length is not None and wanted.length > STREAM_MAX:
            raise EntityTooLarge
        bounded = _bounded(body, wanted.length)
        head = bytearray()
        async for piece in bounded:
            head += piece
            if len(head) > SMALL:
                return await self._pipeline(bytes(head), bounded, wanted, key, stream_id)
        return await self._small(bytes(head), wanted, key, stream_id)

    async def _small(self, plain: bytes, wanted: Wanted, key: bytes, stream_id: bytes) -> Ingested:
        meter = Meter(wanted)
        meter.feed(plain)
        digests = meter.digests(len(plain))
        if len(plain) <= wanted.inline_max or not plain:
            body = seal_small(key, plain)
            return Ingested(stream_id, key, commitment(key), digests, body, meter.leaves())
        segment, shards = seal_segment(key, plain, wanted.profile)
        stored = Stored()
        try:
            stored.add(segment, await self._engine.sink.write(segment, shards))
        except BelowQuorum as error:
            raise SlowDown from error
        return _ingested(stream_id, key, digests, meter, stored)

    async def _pipeline(
        self,
        head: bytes,
        rest: AsyncIterator[Buffer],
        wanted: Wanted,
        key: bytes,
        stream_id: bytes,
    ) -> Ingested:
        meter = Meter(wanted)
        size = len(head)
        writer: SegmentWriter | None = None
        try:
            async with asyncio.TaskGroup() as group:
                writer = SegmentWriter(
                    self._engine, group, key, wanted.profile, meter.lanes(), wanted.length
                )
                await writer.open()
                await writer.write(head)
                async for piece in rest:
                    size += len(piece)
                    await writer.write(piece)
                await writer.finish()
            stored, chunks = writer.stored(), writer.segment_chunks
            return _ingested(stream_id, key, meter.digests(size), meter, stored, chunks)
        except BaseExceptionGroup as group_error:
            raise _first(group_error) from None
        finally:
            if writer:
                writer.close()


def _ingested(
    stream_id: bytes,
    key: bytes,
    digests: Digests,
    meter: Meter,
    stored: Stored,
    segment_chunks: int = 1,
) -> Ingested:
    return Ingested(
        stream_id,
        key,
        commitment(key),
        digests,
        None,
        meter.leaves(),
        tuple(stored.segments),
        tuple(stored.rows),
        tuple(stored.receipts),
        stored.complete,
        stored.deadline_ns,
        segment_chunks,
    )


async def _bounded(body: AsyncIterator[Buffer], length: int | None) -> AsyncIterator[Buffer]:
    """The body's bytes, neither more nor fewer than `length`."""
    size = 0
    async for piece in body:
        if not len(piece):
            continue
        size += len(piece)
        if size > (STREAM_MAX if length is None else length):
            if length is None:
                raise EntityTooLarge
            raise IncompleteBody("The body has more bytes than it was said to have")
        yield piece
    if length is not None and size < length:
        raise IncompleteBody


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that began it: siblings only fail because they were cancelled."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, BelowQuorum):
        slow = SlowDown()
        slow.__cause__ = error
        return slow
    return error
