"""Ranges of a sealed stream: what is asked of its segments, and that it opens."""

import asyncio
import itertools
from collections.abc import Sequence
from random import Random

import pytest

from chain.net.transport import Buffer
from gateway.buffers import BufferPool
from gateway.reading import SealedStream, StreamReader, plan
from gateway.seal import CHUNK, Opener, Sealer, SegmentSealer, commitment
from gateway.segments import Frame
from miner.segments import Profile, Segment

PROFILE = Profile("two", 2, 1)
KEY = bytes(32)
SIZE = 5 * CHUNK + 77  # of two segments: three chunks, and two with a short third


class Segments:
    """Holds sealed segments; notes what is read of them."""

    def __init__(self, plain: bytes) -> None:
        self.sealed: dict[bytes, bytes] = {}
        self.segments: list[Segment] = []
        self.asked: list[list[tuple[int, int]]] = []
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
        self, segment: Segment, ranges: Sequence[tuple[int, int]], *, verify: bool = False
    ) -> list[Buffer]:
        assert not verify
        self.asked.append(list(ranges))
        return [self.sealed[segment.id][start:end] for start, end in ranges]


@pytest.fixture(scope="module")
def plain() -> bytes:
    return Random(130).randbytes(SIZE)


@pytest.fixture(scope="module")
def source(plain: bytes) -> Segments:
    return Segments(plain)


async def read(source: Segments, start: int, end: int, *, small_first: bool) -> bytes:
    source.asked.clear()
    stream = SealedStream(Opener(KEY, commitment(KEY), SIZE), SIZE, 3, source.segments)
    reader = StreamReader(source, BufferPool(64 << 20))
    groups = plan(stream, start, end, small_first=small_first)
    return b"".join([bytes(piece) async for piece in reader.read(groups)])


@pytest.mark.parametrize("small_first", [False, True])
def test_every_range_of_chunks_opens(source: Segments, plain: bytes, small_first: bool) -> None:
    edges = [0, CHUNK, 2 * CHUNK + 1, 4 * CHUNK, SIZE - 1, SIZE]
    for start in edges:
        for end in edges:
            if start < end:
                got = asyncio.run(read(source, start, end, small_first=small_first))
                assert got == plain[start:end], (start, end)


def test_what_ends_a_segment_is_one_run_and_touches_no_shard_twice(source: Segments) -> None:
    asyncio.run(read(source, 0, SIZE, small_first=True))
    _first, rest, second = source.asked
    for asked, segment in ((rest, source.segments[0]), (second, source.segments[1])):
        size = segment.shard_bytes
        assert asked[-1][1] == segment.length
        assert all(left[1] == right[0] for left, right in itertools.pairwise(asked))
        assert len({start // size for start, _ in asked}) == len(asked)
