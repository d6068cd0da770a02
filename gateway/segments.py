"""A stream's way into sealed segments: chunk buffers, lanes, erasure code, storage pool.

    body -> 1 MiB chunk -> lanes: MD5 | SHA-256 | leaf | seal -> segment -> parity, ids -> pool

Bytes are read from the client's socket into chunks. A chunk is free again when its last lane is
through; a segment's buffer when the pool has stored it. Both come from budgets of the whole
process, so a client is read no faster than its bytes are stored.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from traceback import clear_frames
from typing import Protocol

from blake3 import blake3

from chain.clock import NEVER, Deadline
from chain.ids import FragmentId
from chain.net.transport import Buffer
from gateway.bodies import Intake
from gateway.buffers import Buffer as PoolBuffer
from gateway.buffers import BufferPool
from gateway.hashing.side_by_side import SideBySide
from gateway.lanes import Countdown, Feed, Lane, call_on
from gateway.seal import CHUNK, SEGMENT_CHUNKS_MAX, TAG, Sealer, SegmentSealer, sealed_size
from miner.erasure import code_for
from miner.records import Row
from miner.segments import Profile, Segment, shard_bytes
from miner.writing import FragmentReceipt

# What a fragment costs beside its bytes (a message, a commit, a receipt: 1-2 ms on a busy machine)
# asks for long ones, the memory that a stream holds for short ones: docs/adr/110-long-segments.md.
FRAGMENT_BYTES = 4 << 20
SEGMENT_CHUNKS_MIN = 8
# Streams take longer segments only while those of all streams together fit in this share of the
# frame budget: slow clients that hold one each must not use it up.
LONG_SHARE = 0.75
# One chunk fills while others are hashed and sealed.
RING_CHUNKS = 3
# Segments of one transfer that are being filled or stored.
WINDOW = 3


# A segment's name and its shards.
Encoded = tuple[Segment, list[memoryview]]


class Placed(Protocol):
    """What the storage pool answers (miner/pool.py)."""

    @property
    def rows(self) -> Sequence[Row]:
        """To be committed with the object."""
        ...

    @property
    def receipts(self) -> Sequence[FragmentReceipt]:
        """The miners' words."""
        ...

    @property
    def missing(self) -> Sequence[int]:
        """Fragments that were not stored in time; they are in the repair queue's rows."""
        ...

    @property
    def deadline(self) -> Deadline:
        """Until when the rows must be committed: then miners forget fragments."""
        ...


class SegmentSink(Protocol):
    """The storage pool's writing face."""

    async def write(self, segment: Segment, shards: Sequence[Buffer]) -> Placed:
        """Store all shards, durably on a quorum. Raises BelowQuorum."""
        ...


@dataclass(slots=True)
class Stored:
    """Segments of a finished stream and what came with them."""

    segments: list[Segment] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    receipts: list[FragmentReceipt] = field(default_factory=list)
    complete: bool = True
    deadline: Deadline = NEVER

    def add(self, segment: Segment, placed: Placed) -> None:
        """Count in one more segment."""
        self.segments.append(segment)
        self.rows.extend(placed.rows)
        self.receipts.extend(placed.receipts)
        self.complete = self.complete and not placed.missing
        self.deadline = self.deadline.or_before(placed.deadline)


@dataclass(frozen=True, slots=True)
class Engine:
    """What all transfers of a process share."""

    sink: SegmentSink
    executor: Executor
    hashing: SideBySide
    rings: BufferPool
    frames: BufferPool
    cutting: "Cutting"


class Frame:
    """One segment's memory: k data shards (the sealed bytes, zero-filled) and m parity shards.

    Data shards are hashed as they fill, while the processor's cache has them: 0.05 CPU s/GiB less,
    and less to do when the segment ends.
    """

    def __init__(self, memory: memoryview, profile: Profile, length: int = 0) -> None:
        """`length`: the sealed bytes that are to come, where that is known."""
        self.memory = memory
        self._profile = profile
        self._shard = shard_bytes(length, profile.k)
        self._hashed = 0
        self._hashes = [blake3() for _ in range(profile.k)]

    @staticmethod
    def size(plain: int, profile: Profile) -> int:
        """Bytes of memory for a segment of up to `plain` bytes."""
        chunks = max(1, -(-plain // CHUNK))
        return shard_bytes(plain + TAG * chunks, profile.k) * profile.n + TAG

    def filled(self, end: int) -> None:
        """All up to `end` is in its place; only where `length` was given."""
        while self._hashed < end:
            index = self._hashed // self._shard
            stop = min(end, (index + 1) * self._shard)
            self._hashes[index].update(self.memory[self._hashed : stop])
            self._hashed = stop

    def encode(self, length: int) -> Encoded:
        """Cut `length` sealed bytes in shards, add parity, name all: heavy, releases the GIL."""
        k, size = self._profile.k, shard_bytes(length, self._profile.k)
        if size != self._shard:
            self._shard, self._hashed = size, 0
            self._hashes = [blake3() for _ in range(k)]
        self.memory[length : k * size] = bytes(k * size - length)
        self.filled(k * size)
        shards = [self.memory[i * size : (i + 1) * size] for i in range(self._profile.n)]
        code_for(self._profile).encode(shards[:k], shards[k:])
        hashes = (*self._hashes, *(blake3(shard) for shard in shards[k:]))
        ids = tuple(FragmentId(running.digest()) for running in hashes)
        return Segment(self._profile, length, ids), shards


class Cutting:
    """How long the segments of each stream are, by how much memory the running streams hold."""

    def __init__(self, budget: int, fixed: int | None = None) -> None:
        """`budget`: bytes of all frames. `fixed`: this many chunks whatever there is."""
        self._budget = int(budget * LONG_SHARE)
        self._fixed = fixed
        self._held = 0

    def begin(self, profile: Profile, length: int | None) -> tuple[int, int]:
        """(chunks of each segment but the last, what to give `end`) for a new stream."""
        chunks = self._fixed or longest_segment(profile)
        while True:
            plain = chunks * CHUNK if length is None else min(chunks * CHUNK, length)
            held = Frame.size(plain, profile)
            fits = self._held + held <= self._budget
            if fits or self._fixed or chunks <= SEGMENT_CHUNKS_MIN:
                self._held += held
                return chunks, held
            chunks = max(SEGMENT_CHUNKS_MIN, chunks // 2)

    def end(self, held: int) -> None:
        """The stream has ended."""
        self._held -= held


def longest_segment(profile: Profile) -> int:
    """Chunks of a segment whose fragments have FRAGMENT_BYTES, within the format's bounds."""
    return max(SEGMENT_CHUNKS_MIN, min(SEGMENT_CHUNKS_MAX, FRAGMENT_BYTES * profile.k // CHUNK))


def seal_segment(key: bytes, plain: Buffer, profile: Profile, memory: memoryview) -> Encoded:
    """A whole small stream (at most one chunk) as one segment in a frame, without any hop."""
    sealer = SegmentSealer(Sealer(key), memory)
    sealer.add(plain, last=True)
    return Frame(memory, profile).encode(sealer.finish())


class Chunk:
    """A piece of the ring."""

    __slots__ = ("fill", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.fill = 0


class SegmentWriter:
    """One stream on its way in. `open`, `take` all of it, then `stored`; always `close`."""

    def __init__(
        self,
        engine: Engine,
        group: asyncio.TaskGroup,
        key: bytes,
        profile: Profile,
        hashes: Sequence[Feed],
        length: int | None,
    ) -> None:
        """`hashes` take every chunk.

        `length`, where known, only keeps a short stream from taking long buffers.
        """
        self._engine = engine
        self._group = group
        self._profile = profile
        self._sealer = Sealer(key)
        self._loop = asyncio.get_running_loop()
        self._hashes = hashes
        self._seal_lane = Lane(engine.executor)
        self._left = length
        self.segment_chunks, self._held = engine.cutting.begin(profile, length)
        self._free: asyncio.Queue[Chunk] = asyncio.Queue()
        self._ring: PoolBuffer | None = None
        self._chunks: list[Chunk] = []
        self._window = asyncio.Semaphore(WINDOW)
        self._segment: _OpenSegment | None = None
        self._frames: set[PoolBuffer] = set()
        self._stored: dict[int, tuple[Segment, Placed]] = {}
        self._count = 0
        self._failure: Exception | None = None

    async def open(self) -> None:
        """Take the ring of chunk buffers."""
        longest = self.segment_chunks * CHUNK if self._left is None else self._left
        size = max(1, min(CHUNK, longest))
        count = 1 if longest <= CHUNK else RING_CHUNKS
        self._ring = await self._engine.rings.take(size * count)
        for at in range(0, size * count, size):
            self._chunks.append(Chunk(self._ring.view[at : at + size]))
            self._free.put_nowait(self._chunks[-1])

    async def take(self, head: Buffer, intake: Intake) -> None:
        """Take the stream to its end: `head`, then what `intake` brings.

        Returns when every lane is through; the group waits for what is stored. Raises what the
        intake does.
        """
        try:
            while not intake.ended:
                chunk = await self._free.get()
                chunk.fill = len(head)
                chunk.view[: chunk.fill] = head
                chunk.fill += await intake.fill(chunk.view[chunk.fill :])
                head = b""
                await self._dispatch(chunk, last=intake.ended)
            for _ in self._chunks:
                await self._free.get()
        except BaseException as error:
            # Who keeps the error keeps its frames, and those look at chunks.
            clear_frames(error.__traceback__)
            raise

    def stored(self) -> Stored:
        """After the group ended: the segments in order."""
        stored = Stored()
        for number in range(self._count):
            stored.add(*self._stored[number])
        return stored

    def close(self) -> None:
        """Give all buffers back, whatever happened."""
        for feed in self._hashes:
            feed.close()
        self._seal_lane.abandon()
        self._segment = None
        for chunk in self._chunks:
            chunk.view = memoryview(b"")
        for frame in self._frames:
            self._engine.frames.give(frame)
        self._frames.clear()
        if self._ring:
            self._engine.rings.give(self._ring)
            self._ring = None
        self._engine.cutting.end(self._held)
        self._held = 0

    async def _dispatch(self, chunk: Chunk, *, last: bool) -> None:
        segment = self._segment or await self._open_segment()
        segment.chunks += 1
        ends = last or segment.chunks == self.segment_chunks
        self._segment = None if ends else segment
        if ends:
            self._group.create_task(self._store(segment))
        plain = chunk.view[: chunk.fill]
        done = Countdown(self._loop, 1 + len(self._hashes), lambda: self._reuse(chunk))
        self._seal_lane.push(lambda: self._seal(segment, plain, done, last=last, ends=ends))
        hurry = last or len(self._chunks) == 1
        for feed in self._hashes:
            feed.push(plain, done.hit, hurry=hurry)

    def _reuse(self, chunk: Chunk) -> None:
        if self._ring:  # else the transfer was given up meanwhile
            self._free.put_nowait(chunk)

    async def _open_segment(self) -> "_OpenSegment":
        await self._window.acquire()
        whole = self.segment_chunks * CHUNK
        plain = whole if self._left is None else min(whole, self._left)
        if self._left is not None:
            self._left -= plain
        frame = await self._engine.frames.take(Frame.size(plain, self._profile))
        self._frames.add(frame)
        self._count += 1
        return _OpenSegment(
            self._count - 1,
            frame,
            SegmentSealer(self._sealer, frame.view),
            Frame(frame.view, self._profile, sealed_size(plain)),
            self._loop.create_future(),
        )

    def _seal(
        self, segment: "_OpenSegment", plain: memoryview, done: Countdown, *, last: bool, ends: bool
    ) -> None:
        """In the seal lane's thread."""
        try:
            end = segment.sealer.add(plain, last=last)
            segment.frame.filled(end)
        except Exception as error:  # noqa: BLE001 - carried to the transfer, which raises it
            self._failure = error
        done.hit()
        if ends:
            self._engine.executor.submit(self._encode, segment)

    def _encode(self, segment: "_OpenSegment") -> None:
        """In a thread of its own, beside the next segment's sealing."""
        try:
            if self._failure:
                raise self._failure
            encoded = segment.frame.encode(segment.sealer.finish())
        except Exception as error:  # noqa: BLE001 - carried to the transfer, which raises it
            call_on(self._loop, partial(_fail, segment.ready, error))
        else:
            call_on(self._loop, partial(_answer, segment.ready, encoded))

    async def _store(self, segment: "_OpenSegment") -> None:
        shards: list[memoryview] = []
        try:
            sealed, shards = await segment.ready
            placed = await self._engine.sink.write(sealed, shards)
            self._stored[segment.number] = (sealed, placed)
        finally:
            shards.clear()
            if segment.memory in self._frames:
                self._frames.remove(segment.memory)
                self._engine.frames.give(segment.memory)
            self._window.release()


@dataclass(slots=True, eq=False)
class _OpenSegment:
    number: int
    memory: PoolBuffer
    sealer: SegmentSealer
    frame: Frame
    ready: asyncio.Future[Encoded]
    chunks: int = 0


def _answer(ready: asyncio.Future[Encoded], encoded: Encoded) -> None:
    if not ready.done():  # else the transfer was given up meanwhile
        ready.set_result(encoded)


def _fail(ready: asyncio.Future[Encoded], error: Exception) -> None:
    if not ready.done():
        ready.set_exception(error)
