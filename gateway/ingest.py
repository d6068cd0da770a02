"""A request's body becomes a sealed stream: inline, one small segment, or a pipeline of them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from chain.clock import NEVER, Deadline
from chain.net.transport import Buffer
from gateway.bodies import Intake
from gateway.digests import CRCS, Running, digester, digests_of
from gateway.errors import SlowDown
from gateway.hashing.blocks import RECIPES
from gateway.lanes import Feed, Updates
from gateway.model import Algorithm, Digests
from gateway.seal import CHUNK, commitment, seal_small
from gateway.segments import Engine, Frame, SegmentWriter, Stored, seal_segment
from miner.records import Row
from miner.segments import Profile, Segment
from miner.writing import BelowQuorum, FragmentReceipt

# Up to this the hops to threads cost more than they bring (MD5, SHA-256 and sealing of 256 KiB take
# 0.6 ms): a PUT of 128 KiB takes 0.51 instead of 0.74 ms of a worker's CPU, of 256 KiB 2.1 instead
# of 2.6, with its connections and commits.
SMALL = 256 << 10
LEAF = CHUNK


class Wanted(msgspec.Struct, frozen=True):
    """What the caller wants to know of the bytes, and how they are to be kept."""

    profile: Profile
    algorithms: frozenset[Algorithm]
    inline_max: int
    leaves: bool = False
    length: int | None = None


class Ingested(msgspec.Struct, frozen=True):
    """A sealed, stored, not yet committed stream."""

    id: bytes
    key: bytes
    commitment: bytes
    digests: Digests
    body: bytes | None  # sealed bytes of an inline stream
    leaves: bytes  # SHA-256 of each MiB, packed
    segments: tuple[Segment, ...] = ()
    rows: tuple[Row, ...] = ()
    receipts: tuple[FragmentReceipt, ...] = ()
    complete: bool = True
    deadline: Deadline = NEVER  # of the commit
    segment_chunks: int = 1  # of each segment but the last

    def __repr__(self) -> str:
        return f"Ingested({self.id.hex()}, {self.size} bytes)"  # the key is nobody's to see

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
    """The digests of one body."""

    def __init__(self, wanted: Wanted, engine: Engine) -> None:
        self._feeds: list[Feed] = []
        self._running: dict[Algorithm, Running] = {}
        fast: list[Callable[[Buffer], None]] = []
        for algorithm in sorted(wanted.algorithms):
            if algorithm in RECIPES:
                self._running[algorithm] = stream = engine.hashing.begin(algorithm)
                self._feeds.append(stream)
                continue
            self._running[algorithm] = running = digester(algorithm)
            if algorithm in CRCS:
                fast.append(running.update)
            else:
                self._feeds.append(Updates(engine.executor, [running.update]))
        if fast:
            self._feeds.append(Updates(engine.executor, fast))
        self._leaves = Leaves() if wanted.leaves else None
        if self._leaves:
            self._feeds.append(Updates(engine.executor, [self._leaves.update]))

    def feeds(self) -> Sequence[Feed]:
        """One for each slow hash, one for all CRCs together, one for leaves; to be closed."""
        return self._feeds

    def digests(self, size: int) -> Digests:
        """The results."""
        return Digests(size, {a: running.digest() for a, running in self._running.items()})

    def leaves(self) -> bytes:
        """Packed leaf digests, empty if they were not wanted."""
        return self._leaves.packed() if self._leaves else b""


class Ingest:
    """Seals bodies. `key` is fresh for each call; so is `stream_id`, or it is given later."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def take(
        self, body: AsyncIterator[Buffer], wanted: Wanted, key: bytes, stream_id: bytes
    ) -> Ingested:
        """Read `body` to its end. Raises IncompleteBody, EntityTooLarge, SlowDown.

        Whatever happens, buffers go back; fragments without a commit are the miners' to sweep.
        """
        intake = Intake(body, wanted.length)
        head = memoryview(b"")
        if wanted.length is None or wanted.length <= SMALL:
            room = memoryview(bytearray(SMALL if wanted.length is None else wanted.length))
            head = room[: await intake.fill(room)]
            if intake.ended:
                return await self._small(head, wanted, key, stream_id)
        return await self._pipeline(head, intake, wanted, key, stream_id)

    async def _small(self, plain: Buffer, wanted: Wanted, key: bytes, stream_id: bytes) -> Ingested:
        leaves = hashlib.sha256(plain).digest() if wanted.leaves else b""
        if len(plain) <= wanted.inline_max or not plain:
            digests = digests_of(plain, wanted.algorithms)
            body = seal_small(key, plain)
            return Ingested(stream_id, key, commitment(key), digests, body, leaves)
        stored, frames = Stored(), self._engine.frames
        frame = await frames.take(Frame.size(len(plain), wanted.profile))
        later = self._engine.hashing.later(plain, wanted.algorithms)
        try:
            segment, shards = seal_segment(key, plain, wanted.profile, frame.view)
            stored.add(segment, await self._engine.sink.write(segment, shards))
            digests = later.digests()
        except BelowQuorum as error:
            raise _slow_down(error) from error
        finally:
            later.close()
            frames.give(frame)
        return _ingested(stream_id, key, digests, leaves, stored)

    async def _pipeline(
        self, head: Buffer, intake: Intake, wanted: Wanted, key: bytes, stream_id: bytes
    ) -> Ingested:
        meter = Meter(wanted, self._engine)
        writer: SegmentWriter | None = None
        try:
            async with asyncio.TaskGroup() as group:
                writer = SegmentWriter(
                    self._engine, group, key, wanted.profile, meter.feeds(), wanted.length
                )
                await writer.open()
                await writer.take(head, intake)
            stored, chunks = writer.stored(), writer.segment_chunks
            digests = meter.digests(intake.size)
            return _ingested(stream_id, key, digests, meter.leaves(), stored, chunks)
        except BaseExceptionGroup as group_error:
            raise _first(group_error) from None
        finally:
            if writer:
                writer.close()


def _ingested(
    stream_id: bytes,
    key: bytes,
    digests: Digests,
    leaves: bytes,
    stored: Stored,
    segment_chunks: int = 1,
) -> Ingested:
    return Ingested(
        stream_id,
        key,
        commitment(key),
        digests,
        None,
        leaves,
        tuple(stored.segments),
        tuple(stored.rows),
        tuple(stored.receipts),
        stored.complete,
        stored.deadline,
        segment_chunks,
    )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that began it: siblings only fail because they were cancelled."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, BelowQuorum):
        slow = _slow_down(error)
        slow.__cause__ = error
        return slow
    return error


def _slow_down(error: BelowQuorum) -> SlowDown:
    return SlowDown(f"Too few miners take objects now: {error}.")
