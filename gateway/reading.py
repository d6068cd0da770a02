"""Ranges of sealed streams, opened chunk by chunk, a little ahead of who reads them.

What is wanted of a segment is fetched at once, in pieces that end where shards end: each piece is
then the very frame that a miner sent, and nothing is joined. A chunk is opened as soon as the
pieces that hold it and its tag are there, so the first byte leaves before the segment is complete.
Chunks are opened on the event loop, one when the last one has left: 70 us of work, less than the
two hops to a thread and back, and the socket reads it while it is in the processor's cache.

Each reader may always hold one chunk and fetch one; more comes out of the process's budget, and
only while there is room: a slow client then reads chunk by chunk and takes nothing from others.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

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


def plan(stream: SealedStream, start: int, end: int) -> Iterator[Group]:
    """The groups that hold plaintext [start, end), in order."""
    at = start
    while at < end:
        chunk = at // CHUNK
        segment = chunk // stream.segment_chunks
        room = (segment + 1) * stream.segment_chunks - chunk
        wanted = -(-end // CHUNK) - chunk
        count = min(GROUP_CHUNKS, room, wanted)
        stop = min(end, (chunk + count) * CHUNK)
        yield Group(stream, segment, chunk, count, at - chunk * CHUNK, stop - at)
        at = stop


class Sealed:
    """A group as it comes: its pieces are one run of bytes, ciphertext and then tags."""

    def __init__(self, group: Group, ranges: Sequence[tuple[int, int]]) -> None:
        self._group = group
        self._ends = list(accumulate(end - start for start, end in ranges))
        self._pieces: list[memoryview | None] = [None] * len(ranges)
        self._awaited = set(range(len(ranges)))
        self._tags = self._ends[-1] - group.count * TAG

    def arrived(self, number: int, piece: Buffer) -> None:
        """A piece is there; one that is there already is passed over."""
        if number in self._awaited:
            self._awaited.remove(number)
            self._pieces[number] = memoryview(piece)

    def holds(self, number: int) -> bool:
        """Whether all of the group's chunk `number`, and its tag, is there."""
        return not self._awaited or all(
            self._awaited.isdisjoint(self._touched(start, end))
            for start, end in self._places(number)
        )

    def open(self, number: int, out: memoryview) -> None:
        """Open the group's chunk `number` into `out` (as long as it). Raises SealBroken.

        Chunks are opened in order; pieces that end before this one are let go.
        """
        place, mark = self._places(number)
        for done in range(bisect_right(self._ends, place[0])):
            self._pieces[done] = None
        opener = self._group.stream.opener
        tag = b"".join(self._run(*mark))
        opener.open_pieces(self._group.first + number, self._run(*place), tag, out)

    def _places(self, number: int) -> tuple[tuple[int, int], tuple[int, int]]:
        at, tag = number * CHUNK, self._tags + number * TAG
        return (at, min(at + CHUNK, self._group.plain)), (tag, tag + TAG)

    def _touched(self, start: int, end: int) -> range:
        return range(bisect_right(self._ends, start), bisect_left(self._ends, end) + 1)

    def _run(self, start: int, end: int) -> list[memoryview]:
        found: list[memoryview] = []
        for number in self._touched(start, end):
            piece = self._pieces[number]
            assert piece is not None
            at = self._ends[number - 1] if number else 0
            found.append(piece[max(0, start - at) : end - at])
        return found


class _Coming:
    """A group on its way, and the task that fetches it."""

    def __init__(self, group: Group, source: SegmentSource, *, verify: bool = False) -> None:
        segment = group.stream.segments[group.segment]
        ranges = group.ranges(segment)
        self.group = group
        self.sealed = Sealed(group, ranges)
        self._news = asyncio.Event()
        work = self._fetch(source, segment, ranges, verify=verify)
        self._task = asyncio.get_running_loop().create_task(work)

    async def chunk(self, number: int) -> None:
        """Return when the chunk can be opened. Raises SlowDown."""
        while not self.sealed.holds(number):
            if self._task.done():
                self._task.result()
                raise RuntimeError("a source gave fewer ranges than it was asked for")
            self._news.clear()
            await self._news.wait()

    async def end(self) -> None:
        """Stop what still runs. Nothing is asked of it any more."""
        task = self._task
        del self._task  # it may hold an error, which holds us: no cycle may keep the frames
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen; the reader has gone, or has all it wants

    async def _fetch(
        self,
        source: SegmentSource,
        segment: Segment,
        ranges: Sequence[tuple[int, int]],
        *,
        verify: bool,
    ) -> None:
        try:
            pieces = await source.read(segment, ranges, verify=verify, arrived=self._arrived)
            for number, piece in enumerate(pieces):
                self._arrived(number, piece)
        except SegmentUnavailable as error:
            raise SlowDown from error
        finally:
            self._news.set()

    def _arrived(self, number: int, piece: Buffer) -> None:
        self.sealed.arrived(number, piece)
        self._news.set()


class _Ahead:
    """Groups on their way, in order; owns their tasks and their share of the budget."""

    def __init__(self, source: SegmentSource, budget: BufferPool) -> None:
        self._source = source
        self._budget = budget
        self._waiting: deque[tuple[_Coming, int]] = deque()
        self._opened: tuple[_Coming, int] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, group: Group, reserved: int) -> None:
        """Begin to fetch a group, for which `reserved` bytes of the budget were taken."""
        self._waiting.append((_Coming(group, self._source), reserved))

    async def next(self) -> _Coming:
        """The oldest group; the one before it is done with."""
        await self._release()
        self._opened = self._waiting.popleft()
        return self._opened[0]

    async def close(self) -> None:
        """Stop what still runs and give the budget back."""
        await self._release()
        while self._waiting:
            self._opened = self._waiting.popleft()
            await self._release()

    async def _release(self) -> None:
        if self._opened is not None:
            (coming, reserved), self._opened = self._opened, None
            self._budget.release(reserved)
            await coming.end()


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
        ahead = _Ahead(self._source, self._budget)
        lent: PoolBuffer | None = None
        try:
            rest = self._fill(ahead, groups, None)
            while len(ahead):
                coming = await ahead.next()
                group, sealed = coming.group, coming.sealed
                for number in range(group.count):
                    await coming.chunk(number)
                    rest = self._fill(ahead, groups, rest)
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
                del coming, sealed
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
            ahead.start(group, reserved)
        return rest

    async def _again(self, group: Group, number: int, out: memoryview) -> Sealed:
        """The group with every shard checked, its chunk `number` opened."""
        coming = _Coming(group, self._source, verify=True)
        try:
            for each in range(group.count):
                await coming.chunk(each)
        finally:
            await coming.end()
        try:
            coming.sealed.open(number, out)
        except SealBroken as error:
            raise DataDamaged from error
        return coming.sealed


def _wanted(group: Group, number: int, chunk: memoryview) -> memoryview:
    """What of an opened chunk lies in the group's wanted bytes."""
    start = group.skip - number * CHUNK
    return chunk[max(0, start) : start + group.take]
