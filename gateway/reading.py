"""Ranges of sealed streams, opened chunk by chunk, a little ahead of who reads them.

The first group is one chunk, so the first byte leaves before the first segment is there; later ones
are whole segments. A group is fetched in pieces that end where shards end: each piece is then the
very frame that a miner sent, and nothing is joined. Chunks are opened on the event loop, one when
the last one has left: 70 us of work, less than the two hops to a thread and back, and the socket
reads it while it is in the processor's cache.

Each reader may always hold one chunk and fetch one; more comes out of the process's budget, and
only while there is room: a slow client then reads chunk by chunk and takes nothing from others.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chain.net.transport import Buffer
from gateway.buffers import Buffer as PoolBuffer
from gateway.buffers import BufferPool
from gateway.errors import SlowDown, StoreError
from gateway.seal import CHUNK, SEGMENT_CHUNKS_MAX, TAG, Opener, SealBroken
from miner.segments import Segment, SegmentSource, SegmentUnavailable

# At most a whole segment: k asks of whole shards, and what was lost is restored by one set of k
# (measured: docs/adr/081-reading-without-joins.md, 110-long-segments.md).
GROUP_CHUNKS = SEGMENT_CHUNKS_MAX
READ_AHEAD = 1
# Smaller shards are joined by the pool: that costs less than to ask and cache them in pieces.
_CUT_FROM = 256 << 10


class DataDamaged(StoreError):
    """The stored bytes fail their seal although parity was asked for."""


@dataclass(frozen=True, slots=True)
class SealedStream:
    """A stream's segments and what opens them."""

    opener: Opener
    size: int
    segment_chunks: int
    segments: Sequence[Segment]


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive chunks of one segment, and which plaintext bytes of them are wanted."""

    stream: SealedStream
    segment: int
    first: int  # chunk number within the stream
    count: int
    skip: int  # plaintext bytes before the wanted ones
    take: int

    @property
    def plain(self) -> int:
        """Plaintext bytes of all chunks of the group."""
        start = self.first * CHUNK
        return min(start + self.count * CHUNK, self.stream.size) - start

    @property
    def sealed(self) -> int:
        """Bytes of the group as it is stored."""
        return self.plain + self.count * TAG

    def ranges(self, segment: Segment) -> list[tuple[int, int]]:
        """Where ciphertext and then tags stand in the segment, cut where its shards end.

        The group's tags are the last of these bytes. One that ends the segment takes all tags, to
        be one run: else the last shard is asked twice, and if others are lost a third time, for
        all of it.
        """
        start = (self.first - self.segment * self.stream.segment_chunks) * CHUNK
        chunks = -(-segment.length // (CHUNK + TAG))
        tags = segment.length - chunks * TAG
        if start + self.plain == tags:
            spans = [(start, segment.length)]
        else:
            tags += start // CHUNK * TAG
            spans = [(start, start + self.plain), (tags, tags + self.count * TAG)]
        size = segment.shard_bytes
        if size < _CUT_FROM:
            return spans
        return [cut for span in spans for cut in _cut(*span, size)]

    def alone(self) -> tuple["Group", "Group | None"]:
        """The first chunk, and the rest."""
        if self.count == 1:
            return self, None
        took = min(self.take, CHUNK - self.skip)
        first = replace(self, count=1, take=took)
        rest = replace(
            self, first=self.first + 1, count=self.count - 1, skip=0, take=self.take - took
        )
        return first, rest


def _cut(start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = min(end, (start // size + 1) * size)
        yield start, stop
        start = stop


def plan(stream: SealedStream, start: int, end: int, *, small_first: bool) -> Iterator[Group]:
    """The groups that hold plaintext [start, end), in order."""
    at = start
    while at < end:
        chunk = at // CHUNK
        segment = chunk // stream.segment_chunks
        room = (segment + 1) * stream.segment_chunks - chunk
        wanted = -(-end // CHUNK) - chunk
        count = min(1 if small_first else GROUP_CHUNKS, room, wanted)
        small_first = False
        stop = min(end, (chunk + count) * CHUNK)
        yield Group(stream, segment, chunk, count, at - chunk * CHUNK, stop - at)
        at = stop


class Sealed:
    """A fetched group: its pieces as one run of bytes, ciphertext and then tags."""

    def __init__(self, group: Group, pieces: Sequence[Buffer]) -> None:
        self._group = group
        self._pieces = deque(memoryview(piece) for piece in pieces)
        self._start = 0  # where the first piece that is left begins
        self._tags = sum(map(len, pieces)) - group.count * TAG

    def open(self, number: int, out: memoryview) -> None:
        """Open the group's chunk `number` into `out` (as long as it). Raises SealBroken.

        Chunks are opened in order; pieces that end before this one are let go.
        """
        group = self._group
        at, tag = number * CHUNK, self._tags + number * TAG
        while self._start + len(self._pieces[0]) <= at:
            self._start += len(self._pieces.popleft())
        cipher = self._run(at, min(at + CHUNK, group.plain))
        marks = self._run(tag, tag + TAG)
        opener = group.stream.opener
        opener.open_pieces(group.first + number, cipher, b"".join(marks), out)

    def _run(self, start: int, end: int) -> list[memoryview]:
        found: list[memoryview] = []
        at = self._start
        for piece in self._pieces:
            after = at + len(piece)
            if start < after and at < end:
                found.append(piece[max(0, start - at) : end - at])
            at = after
        return found


class _Ahead:
    """Groups on their way, in order; owns their tasks and their share of the budget."""

    def __init__(self, budget: BufferPool) -> None:
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Group, int, asyncio.Task[Sealed]]] = deque()
        self._reserved = 0  # for the group that is being opened

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, group: Group, reserved: int, work: Coroutine[Any, Any, Sealed]) -> None:
        """Begin to fetch a group, for which `reserved` bytes of the budget were taken."""
        self._waiting.append((group, reserved, self._loop.create_task(work)))

    async def next(self) -> tuple[Group, Sealed]:
        """The oldest group; the one before it is done with."""
        self._release()
        group, reserved, task = self._waiting[0]
        sealed = await task
        self._waiting.popleft()
        self._reserved = reserved
        return group, sealed

    async def close(self) -> None:
        """Stop what still runs and give the budget back."""
        self._release()
        for _, reserved, task in self._waiting:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen; the reader has gone
            self._budget.release(reserved)
        self._waiting.clear()

    def _release(self) -> None:
        self._budget.release(self._reserved)
        self._reserved = 0


class StreamReader:
    """Reads groups through a SegmentSource."""

    def __init__(self, source: SegmentSource, budget: BufferPool) -> None:
        self._source = source
        self._budget = budget

    async def read(self, groups: Iterator[Group]) -> AsyncIterator[Buffer]:
        """The wanted bytes, chunk by chunk; each is good until the next one is asked for.

        Raises SlowDown, DataDamaged. A generator may be closed from another task than the one that
        began it, which a TaskGroup does not survive; so the tasks are owned here, and none outlives
        the generator.
        """
        ahead = _Ahead(self._budget)
        lent: PoolBuffer | None = None
        try:
            rest = self._fill(ahead, groups, None)
            while len(ahead):
                group, sealed = await ahead.next()
                rest = self._fill(ahead, groups, rest)
                for number in range(group.count):
                    size = min(CHUNK, group.plain - number * CHUNK)
                    if lent:
                        self._budget.give(lent)
                    lent = self._budget.try_take(size)
                    out = lent.view if lent else memoryview(bytearray(size))
                    try:
                        sealed.open(number, out)
                    except SealBroken:
                        sealed = await self._again(group, number, out)
                    yield _wanted(group, number, out)
                    await asyncio.sleep(0)  # others' turn: a fast client never makes us wait
                del sealed
                if not len(ahead):
                    rest = self._fill(ahead, groups, rest)
        finally:
            if lent:
                self._budget.give(lent)
            await ahead.close()

    def _fill(self, ahead: _Ahead, groups: Iterator[Group], rest: Group | None) -> Group | None:
        """Start groups as far as budget and READ_AHEAD allow; the one that has to wait."""
        while len(ahead) < READ_AHEAD:
            group = rest or next(groups, None)
            rest = None
            if group is None:
                return None
            reserved = group.sealed
            if not self._budget.try_reserve(reserved):
                if len(ahead):
                    return group
                group, rest = group.alone()
                reserved = 0
            ahead.start(group, reserved, self._fetch(group, verify=False))
        return rest

    async def _again(self, group: Group, number: int, out: memoryview) -> Sealed:
        """The group with every shard checked, its chunk `number` opened."""
        sealed = await self._fetch(group, verify=True)
        try:
            sealed.open(number, out)
        except SealBroken as error:
            raise DataDamaged from error
        return sealed

    async def _fetch(self, group: Group, *, verify: bool) -> Sealed:
        segment = group.stream.segments[group.segment]
        try:
            pieces = await self._source.read(segment, group.ranges(segment), verify=verify)
        except SegmentUnavailable as error:
            raise SlowDown from error
        return Sealed(group, pieces)


def _wanted(group: Group, number: int, chunk: memoryview) -> memoryview:
    """What of an opened chunk lies in the group's wanted bytes."""
    start = group.skip - number * CHUNK
    return chunk[max(0, start) : start + group.take]
