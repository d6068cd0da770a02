"""Ranges of sealed streams, opened chunk by chunk, a little ahead of who reads them.

The first group is one chunk, so the first byte leaves before the first segment is there; later ones
are up to 4 MiB. Each reader may always hold one small group; more (read-ahead) comes out of the
process's budget, and only while there is room: a slow client then reads without it and takes
nothing away from others.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from chain.net.transport import Buffer
from gateway.buffers import Buffer as PoolBuffer
from gateway.buffers import BufferPool
from gateway.errors import SlowDown, StoreError
from gateway.seal import CHUNK, TAG, Opener, SealBroken
from miner.segments import Segment, SegmentSource, SegmentUnavailable

GROUP_CHUNKS = 4
READ_AHEAD = 2
# Opening a chunk takes 70 µs, as much as two hops: one chunk is opened on the spot.
_INLINE_CHUNKS = 1


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

    def ranges(self) -> list[tuple[int, int]]:
        """Where ciphertext and tags stand in the segment: one range if they touch."""
        stream = self.stream
        before = self.segment * stream.segment_chunks
        start = (self.first - before) * CHUNK
        length = stream.segments[self.segment].length
        chunks = -(-length // (CHUNK + TAG))
        tags = length - chunks * TAG + (self.first - before) * TAG
        if start + self.plain == tags:
            return [(start, tags + self.count * TAG)]
        return [(start, start + self.plain), (tags, tags + self.count * TAG)]


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


class _Ahead:
    """Groups on their way, in order; owns their tasks and buffers."""

    def __init__(self, budget: BufferPool) -> None:
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Group, PoolBuffer | None, asyncio.Task[memoryview]]] = deque()
        self._lent: PoolBuffer | None = None  # the reader looks at it until it asks again

    def __len__(self) -> int:
        return len(self._waiting)

    def start(
        self, group: Group, buffer: PoolBuffer | None, work: Coroutine[Any, Any, memoryview]
    ) -> None:
        """Begin to fetch a group."""
        self._waiting.append((group, buffer, self._loop.create_task(work)))

    async def next(self) -> memoryview:
        """The wanted bytes of the oldest group, good until the next call."""
        self._return()
        group, buffer, task = self._waiting[0]
        plain = await task
        self._waiting.popleft()
        self._lent = buffer
        return plain[group.skip : group.skip + group.take]

    async def close(self) -> None:
        """Stop what still runs and give all buffers back."""
        self._return()
        for _, buffer, task in self._waiting:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen; the reader has gone
            if buffer:
                self._budget.give(buffer)
        self._waiting.clear()

    def _return(self) -> None:
        if self._lent:
            self._budget.give(self._lent)
            self._lent = None


class StreamReader:
    """Reads groups through a SegmentSource."""

    def __init__(self, source: SegmentSource, executor: Executor, budget: BufferPool) -> None:
        self._source = source
        self._executor = executor
        self._budget = budget

    async def read(self, groups: Iterator[Group]) -> AsyncIterator[Buffer]:
        """The wanted bytes of each group. Raises SlowDown, DataDamaged.

        A generator may be closed from another task than the one that began it, which a TaskGroup
        does not survive; so the tasks are owned here, and none outlives the generator.
        """
        ahead = _Ahead(self._budget)
        try:
            for group in groups:
                buffer = self._budget.try_take(group.plain)
                while buffer is None and len(ahead):  # no budget: one group at a time
                    yield await ahead.next()
                ahead.start(group, buffer, self._fetch(group, buffer))
                while len(ahead) > (READ_AHEAD if buffer else 0):
                    yield await ahead.next()
            while len(ahead):
                yield await ahead.next()
        finally:
            await ahead.close()

    async def _fetch(self, group: Group, buffer: PoolBuffer | None) -> memoryview:
        out = buffer.view if buffer else memoryview(bytearray(group.plain))
        try:
            for verify in (False, True):
                cipher, tags = await self._sealed(group, verify=verify)
                try:
                    if group.count <= _INLINE_CHUNKS:
                        group.stream.opener.open_run(group.first, cipher, tags, out)
                    else:
                        await asyncio.get_running_loop().run_in_executor(
                            self._executor,
                            group.stream.opener.open_run,
                            group.first,
                            cipher,
                            tags,
                            out,
                        )
                    return out
                except SealBroken:
                    continue
        except SegmentUnavailable as error:
            raise SlowDown from error
        raise DataDamaged

    async def _sealed(self, group: Group, *, verify: bool) -> tuple[Buffer, Buffer]:
        segment = group.stream.segments[group.segment]
        pieces = await self._source.read(segment, group.ranges(), verify=verify)
        if len(pieces) == 2:
            return pieces[0], pieces[1]
        whole = memoryview(pieces[0])
        return whole[: group.plain], whole[group.plain :]
