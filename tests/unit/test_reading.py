"""Ranges of a sealed stream: what is asked of its segments, and that it opens."""

import asyncio
import itertools
from collections.abc import Sequence
from random import Random

import pytest

from chain.net.transport import Buffer
from gateway.buffers import BufferPool
from gateway.reading import Sealed, SealedStream, StreamReader, plan
from gateway.seal import CHUNK, Opener, Sealer, SegmentSealer, commitment
from gateway.segments import Frame
from miner.segments import Arrived, Profile, Segment

PROFILE = Profile("two", 2, 1)
KEY = bytes(32)
SIZE = 5 * CHUNK + 77  # of two segments: three chunks, and two with a short third


class Segments:
    """Holds sealed segments; notes what is read of them."""

    def __init__(self, plain: bytes) -> None:
        self.sealed: dict[bytes, bytes] = {}
        self.segments: list[Segment] = []
        self.asked: list[list[tuple[int, int]]] = []
        self.late: asyncio.Event | None = None  # what else than the first and the last piece
        sealer = Sealer(KEY)
        for at in range(0, len(plain), 3 * CHUNK):
            part = memoryview(plain)[at : at + 3 * CHUNK]
            memory = memoryview(bytearray(Frame.size(len(part), PROFILE)))
            segment_sealer = SegmentSealer(sealer, memory)
            for start in range(0, len(part), CHUNK):
                last = at + start + CHUNK >= len(plain)
                segment_sealer.add(part[start : start + CHUNK], last=last)
            segment, shards = Frame(memory, PROFILE).encode(segment_sealer.finish())
            self.segments.append(segment)
            self.sealed[segment.id] = b"".join(shards[:2])

    async def read(
        self,
        segment: Segment,
        ranges: Sequence[tuple[int, int]],
        *,
        verify: bool = False,
        arrived: Arrived | None = None,
    ) -> list[Buffer]:
        assert not verify
        self.asked.append(list(ranges))
        pieces: list[Buffer] = [self.sealed[segment.id][start:end] for start, end in ranges]
        if self.late is not None and arrived is not None:
            for number in {0, len(pieces) - 1}:
                arrived(number, pieces[number])
            await self.late.wait()
        return pieces


@pytest.fixture(scope="module")
def plain() -> bytes:
    return Random(130).randbytes(SIZE)


@pytest.fixture(scope="module")
def source(plain: bytes) -> Segments:
    return Segments(plain)


async def read(source: Segments, start: int, end: int) -> bytes:
    source.asked.clear()
    stream = SealedStream(Opener(KEY, commitment(KEY), SIZE), SIZE, 3, source.segments)
    reader = StreamReader(source, BufferPool(64 << 20))
    groups = plan(stream, start, end)
    return b"".join([bytes(piece) async for piece in reader.read(groups)])


def test_every_range_of_chunks_opens(source: Segments, plain: bytes) -> None:
    edges = [0, CHUNK, 2 * CHUNK + 1, 4 * CHUNK, SIZE - 1, SIZE]
    for start in edges:
        for end in edges:
            if start < end:
                got = asyncio.run(read(source, start, end))
                assert got == plain[start:end], (start, end)


def test_what_ends_a_segment_is_one_run_and_touches_no_shard_twice(source: Segments) -> None:
    asyncio.run(read(source, 0, SIZE))
    for asked, segment in zip(source.asked, source.segments, strict=True):
        size = segment.shard_bytes
        assert asked[-1][1] == segment.length
        assert all(left[1] == right[0] for left, right in itertools.pairwise(asked))
        assert len({start // size for start, _ in asked}) == len(asked)


def test_the_first_byte_leaves_before_the_segment_is_there(source: Segments, plain: bytes) -> None:
    async def run() -> None:
        source.late = asyncio.Event()
        stream = SealedStream(Opener(KEY, commitment(KEY), SIZE), SIZE, 3, source.segments)
        pieces = StreamReader(source, BufferPool(64 << 20)).read(plan(stream, 0, 3 * CHUNK))
        async with asyncio.timeout(5):
            first = bytes(await anext(pieces))
        assert first == plain[:CHUNK]
        source.late.set()
        assert first + b"".join([bytes(piece) async for piece in pieces]) == plain[: 3 * CHUNK]

    try:
        asyncio.run(run())
    finally:
        source.late = None


def test_a_chunk_waits_for_its_own_pieces_and_its_tag_alone(source: Segments, plain: bytes) -> None:
    stream = SealedStream(Opener(KEY, commitment(KEY), SIZE), SIZE, 3, source.segments)
    [group] = plan(stream, 0, 3 * CHUNK)
    segment = source.segments[0]
    ranges = group.ranges(segment)
    assert len(ranges) == 2  # a shard each, the tags in the second
    sealed = Sealed(group, ranges)
    pieces = [source.sealed[segment.id][start:end] for start, end in ranges]
    sealed.arrived(1, pieces[1])
    assert [sealed.holds(number) for number in range(3)] == [False, False, True]
    sealed.arrived(0, pieces[0])
    out = memoryview(bytearray(CHUNK))
    for number in range(3):
        assert sealed.holds(number)
        sealed.open(number, out)
        assert out == plain[number * CHUNK : (number + 1) * CHUNK]
