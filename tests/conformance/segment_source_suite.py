"""What every SegmentSource must do, whatever it is made of.

Inherit `SegmentSourceSuite` and override the fixture `source`: a SegmentSource that holds the
segments of `SEGMENTS`.
"""

import asyncio
import random
from collections.abc import Sequence

import pytest
from blake3 import blake3

from chain.ids import FragmentId
from chain.net.transport import Buffer
from miner.segments import (
    PROFILES,
    Arrived,
    Segment,
    SegmentSource,
    SegmentUnavailable,
    shard_bytes,
)


def make_segment(seed: int, length: int, profile: str = "small") -> tuple[Segment, bytes]:
    """A segment of `length` seeded bytes; its data shards have true ids, parity made-up ones."""
    data = random.Random(seed).randbytes(length)
    code = PROFILES[profile]
    size = shard_bytes(length, code.k)
    padded = data.ljust(size * code.k, b"\0")
    shards = [padded[i * size : (i + 1) * size] for i in range(code.k)]
    shards += [b"parity %d %d" % (seed, i) for i in range(code.m)]
    ids = tuple(FragmentId(blake3(shard).digest()) for shard in shards)
    return Segment(code, length, ids), data


SEGMENTS = [make_segment(1, 1), make_segment(2, 100_003), make_segment(3, (10 << 20) + 7)]


class MemorySource:
    """Segments in a dictionary; counts what it is asked for."""

    def __init__(self, segments: list[tuple[Segment, bytes]]) -> None:
        self.data = {segment.id: data for segment, data in segments}
        self.wrong: dict[bytes, bytes] = {}  # what unverified reads get instead
        self.asked: list[tuple[Segment, tuple[tuple[int, int], ...], bool]] = []
        self.gate: asyncio.Event | None = None
        self.early = False  # whether the first range comes before the gate

    async def read(
        self,
        segment: Segment,
        ranges: Sequence[tuple[int, int]],
        *,
        verify: bool = False,
        arrived: Arrived | None = None,
    ) -> list[Buffer]:
        self.asked.append((segment, tuple(ranges), verify))
        data = self.data.get(segment.id)
        if not verify:
            data = self.wrong.get(segment.id, data)
        if arrived is not None and self.early and data is not None:
            start, end = ranges[0]
            arrived(0, memoryview(data)[start:end])
        if self.gate is not None:
            await self.gate.wait()
        if data is None:
            raise SegmentUnavailable(segment.id.hex())
        return [memoryview(data)[start:end] for start, end in ranges]

    def bytes_asked(self) -> int:
        return sum(end - start for _, ranges, _ in self.asked for start, end in ranges)


class SegmentSourceSuite:
    """Inherit, and override `source`."""

    @pytest.fixture
    def source(self) -> SegmentSource:
        raise RuntimeError("override this fixture")

    @pytest.mark.parametrize(("segment", "data"), SEGMENTS)
    async def test_what_comes_early_is_told_once_and_is_what_comes_in_the_end(
        self, source: SegmentSource, segment: Segment, data: bytes
    ) -> None:
        size = len(data)
        ranges = [(0, size // 3), (size // 3, size), (0, size)]
        for _ in range(3):  # caches keep from the second time on
            told: dict[int, bytes] = {}

            def arrived(number: int, piece: Buffer, told: dict[int, bytes] = told) -> None:
                assert number not in told
                told[number] = bytes(piece)

            got = await source.read(segment, ranges, arrived=arrived)
            assert [bytes(each) for each in got] == [data[start:end] for start, end in ranges]
            assert all(told[number] == bytes(got[number]) for number in told)

    @pytest.mark.parametrize(("segment", "data"), SEGMENTS)
    async def test_any_ranges_come_back_in_order_however_often_they_are_asked_for(
        self, source: SegmentSource, segment: Segment, data: bytes
    ) -> None:
        rng = random.Random(segment.length)
        for _ in range(12):
            ranges = []
            for _ in range(rng.randint(1, 4)):
                start = rng.randint(0, segment.length)
                ranges.append((start, rng.randint(start, segment.length)))
            for verify in (False, False, rng.random() < 0.2):
                got = await source.read(segment, ranges, verify=verify)
                assert [bytes(b) for b in got] == [data[s:e] for s, e in ranges]

    async def test_the_whole_segment_is_one_range(self, source: SegmentSource) -> None:
        segment, data = SEGMENTS[2]
        for _ in range(3):
            [whole] = await source.read(segment, [(0, segment.length)])
            assert bytes(whole) == data

    async def test_an_empty_range_is_empty(self, source: SegmentSource) -> None:
        segment, data = SEGMENTS[1]
        got = await source.read(segment, [(5, 5), (0, 3), (segment.length, segment.length)])
        assert [bytes(b) for b in got] == [b"", data[:3], b""]

    async def test_an_unknown_segment_is_unavailable(self, source: SegmentSource) -> None:
        stranger, _ = make_segment(99, 1000)
        for verify in (False, True, False):
            with pytest.raises(SegmentUnavailable):
                await source.read(stranger, [(0, 10)], verify=verify)

    async def test_many_readers_at_once_all_get_their_bytes(self, source: SegmentSource) -> None:
        segment, data = SEGMENTS[2]

        async def one(start: int) -> None:
            for _ in range(3):
                [got] = await source.read(segment, [(start, start + 70_000)])
                assert bytes(got) == data[start : start + 70_000]

        async with asyncio.TaskGroup() as group:
            for start in range(0, 10 << 20, 600_000):
                group.create_task(one(start))
