"""Claims about cdn/segments.py: what is kept, shared, replaced, and what a miss costs."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cdn.segments import BadRange, EdgeCache
from cdn.shelf import DiskShelf
from chain.clock import SystemClock
from miner.segments import SegmentSource, SegmentUnavailable
from tests.conformance.segment_source_suite import (
    SEGMENTS,
    MemorySource,
    SegmentSourceSuite,
    make_segment,
)

MIB = 1 << 20


@asynccontextmanager
async def with_disk(
    directory: Path, behind: SegmentSource, ram: int, disk: int
) -> AsyncIterator[EdgeCache]:
    shelf = DiskShelf(directory, disk, SystemClock())
    cache = EdgeCache(behind, ram_bytes=ram, disk=shelf)
    try:
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(cache.write_behind())
            yield cache
            await cache.flush()
            writer.cancel()
    finally:
        shelf.close()


class TestMemorySource(SegmentSourceSuite):
    @pytest.fixture
    def source(self) -> SegmentSource:
        return MemorySource(SEGMENTS)


class TestEdgeCacheInRam(SegmentSourceSuite):
    @pytest.fixture
    def source(self) -> SegmentSource:
        return EdgeCache(MemorySource(SEGMENTS), ram_bytes=64 * MIB)


class TestEdgeCacheWithoutRoom(SegmentSourceSuite):
    @pytest.fixture
    def source(self) -> SegmentSource:
        return EdgeCache(MemorySource(SEGMENTS), ram_bytes=2 * MIB)


class TestEdgeCacheWithDisk(SegmentSourceSuite):
    @pytest.fixture
    async def source(self, tmp_path: Path) -> AsyncIterator[SegmentSource]:
        async with with_disk(tmp_path, MemorySource(SEGMENTS), 2 * MIB, 64 * MIB) as cache:
            yield cache


async def test_bytes_are_kept_at_the_second_request_and_served_without_a_copy() -> None:
    segment, data = SEGMENTS[2]
    behind = MemorySource(SEGMENTS)
    cache = EdgeCache(behind, ram_bytes=64 * MIB)
    got = [(await cache.read(segment, [(0, 8 * MIB)]))[0] for _ in range(4)]
    assert len(behind.asked) == 2
    assert isinstance(got[2], memoryview)
    assert isinstance(got[3], memoryview)
    assert got[2].obj is got[3].obj is data


async def test_a_small_range_pulls_its_slice_and_no_more() -> None:
    segment, _ = SEGMENTS[2]
    behind = MemorySource(SEGMENTS)
    cache = EdgeCache(behind, ram_bytes=64 * MIB)
    for _ in range(3):
        await cache.read(segment, [(5 * MIB + 17, 5 * MIB + 117)])
    assert behind.bytes_asked() == 100 + MIB
    await cache.read(segment, [(5 * MIB, 6 * MIB)])
    assert len(behind.asked) == 2


async def test_ranges_that_meet_within_a_slice_are_new_when_they_are_first_asked_for() -> None:
    segment, data = SEGMENTS[2]
    behind = MemorySource(SEGMENTS)
    cache = EdgeCache(behind, ram_bytes=64 * MIB)
    cuts = [0, 2 * MIB + 32, 4 * MIB + 64, len(data)]
    ranges = list(itertools.pairwise(cuts))
    for asked in (1, 2, 2):
        got = await cache.read(segment, ranges)
        assert [bytes(each) for each in got] == [data[a:b] for a, b in ranges]
        assert len(behind.asked) == asked
        assert cache.ram.used == (0 if asked == 1 else len(data))
    assert behind.bytes_asked() == 2 * len(data)


async def test_a_disk_gets_whole_slices_of_ranges_that_meet_within_one(tmp_path: Path) -> None:
    segment, data = SEGMENTS[2]
    behind = MemorySource(SEGMENTS)
    ranges = [(0, 2 * MIB + 32), (2 * MIB + 32, 4 * MIB + 64), (4 * MIB + 64, len(data))]
    async with with_disk(tmp_path, behind, 64 * MIB, 64 * MIB) as cache:
        for _ in range(3):
            got = await cache.read(segment, ranges)
            assert [bytes(each) for each in got] == [data[a:b] for a, b in ranges]
        await cache.flush()
        assert cache.counters.slices_written == -(-len(data) // MIB)
    assert behind.bytes_asked() == 2 * len(data)


async def test_concurrent_readers_of_one_range_share_one_fetch() -> None:
    segment, data = SEGMENTS[1]
    behind = MemorySource(SEGMENTS)
    behind.gate = asyncio.Event()
    cache = EdgeCache(behind, ram_bytes=64 * MIB)
    got = []

    async def one(start: int) -> None:
        got.append((start, bytes((await cache.read(segment, [(start, 90_000)]))[0])))

    async with asyncio.TaskGroup() as group:
        for start in range(50):
            group.create_task(one(start))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        behind.gate.set()
    assert len(behind.asked) == 1
    assert len(got) == 50
    assert all(view == data[start:90_000] for start, view in got)


async def test_all_who_read_a_range_hear_of_it_before_the_rest_is_there() -> None:
    segment, data = SEGMENTS[1]
    behind = MemorySource(SEGMENTS)
    behind.gate, behind.early = asyncio.Event(), True
    cache = EdgeCache(behind, ram_bytes=64 * MIB)
    told: list[tuple[str, int, bytes]] = []

    async def read(name: str, ranges: list[tuple[int, int]]) -> None:
        got = await cache.read(
            segment, ranges, arrived=lambda number, piece: told.append((name, number, bytes(piece)))
        )
        assert [bytes(each) for each in got] == [data[start:end] for start, end in ranges]

    async with asyncio.TaskGroup() as group:
        group.create_task(read("leader", [(500, 1000), (2000, 3000)]))
        await asyncio.sleep(0)
        group.create_task(read("other", [(2000, 3000), (600, 700)]))
        for _ in range(5):
            await asyncio.sleep(0)
        # The other joins what is on its way, and asks for what has landed but is not kept.
        assert told == [("leader", 0, data[500:1000]), ("other", 1, data[600:700])]
        behind.gate.set()
    assert sorted(told) == [
        ("leader", 0, data[500:1000]),
        ("leader", 1, data[2000:3000]),
        ("other", 0, data[2000:3000]),
        ("other", 1, data[600:700]),
    ]


async def test_a_cancelled_reader_does_not_fail_those_who_wait_with_it() -> None:
    segment, data = SEGMENTS[1]
    behind = MemorySource(SEGMENTS)
    behind.gate = asyncio.Event()
    cache = EdgeCache(behind, ram_bytes=64 * MIB)
    async with asyncio.TaskGroup() as group:
        leader = group.create_task(cache.read(segment, [(0, 500)]))
        await asyncio.sleep(0)
        follower = group.create_task(cache.read(segment, [(0, 500)]))
        await asyncio.sleep(0)
        leader.cancel()
        await asyncio.sleep(0)
        behind.gate.set()
    assert bytes(follower.result()[0]) == data[:500]
    assert leader.cancelled()


async def test_all_waiting_readers_hear_that_a_segment_is_unavailable() -> None:
    stranger, _ = make_segment(7, 4000)
    behind = MemorySource([])
    behind.gate = asyncio.Event()
    cache = EdgeCache(behind, ram_bytes=MIB)
    async with asyncio.TaskGroup() as group:

        async def one() -> None:
            with pytest.raises(SegmentUnavailable):
                await cache.read(stranger, [(0, 4000)])

        for _ in range(5):
            group.create_task(one())
        await asyncio.sleep(0)
        behind.gate.set()
    assert len(behind.asked) == 1


async def test_a_complaint_replaces_wrong_bytes_in_ram_and_on_disk(tmp_path: Path) -> None:
    segment, data = SEGMENTS[1]
    behind = MemorySource(SEGMENTS)
    behind.wrong[segment.id] = b"\0" * len(data)
    async with with_disk(tmp_path, behind, 8 * MIB, 8 * MIB) as cache:
        for _ in range(3):
            [got] = await cache.read(segment, [(0, 1000)])
            assert bytes(got) == b"\0" * 1000
        await cache.flush()
        assert segment.id in cache.disk  # type: ignore[operator]
        [right] = await cache.read(segment, [(0, 1000)], verify=True)
        assert bytes(right) == data[:1000]
        assert segment.id not in cache.disk  # type: ignore[operator]
        before = len(behind.asked)
        [kept] = await cache.read(segment, [(0, 1000)])
        assert bytes(kept) == data[:1000]
        assert len(behind.asked) == before


async def test_what_was_fetched_before_a_complaint_and_came_after_it_is_not_kept() -> None:
    segment, data = SEGMENTS[1]
    behind = MemorySource(SEGMENTS)
    cache = EdgeCache(behind, ram_bytes=8 * MIB)
    await cache.read(segment, [(0, 1000)])
    behind.wrong[segment.id] = b"\0" * len(data)
    behind.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(cache.read(segment, [(0, 1000)]))  # would be kept
        await asyncio.sleep(0)
        group.create_task(cache.read(segment, [(0, 1000)], verify=True))
        await asyncio.sleep(0)
        behind.gate.set()
    del behind.wrong[segment.id]
    [got] = await cache.read(segment, [(0, 1000)])
    assert bytes(got) == data[:1000]


async def test_a_scan_does_not_flush_what_is_hot() -> None:
    hot, cold = make_segment(50, 3 * MIB), make_segment(51, 60 * MIB // 2)
    behind = MemorySource([hot, cold])
    cache = EdgeCache(behind, ram_bytes=8 * MIB)
    for _ in range(2):
        await cache.read(hot[0], [(0, 3 * MIB)])
    before = cache.ram.used
    for start in range(0, 30 * MIB, MIB):
        await cache.read(cold[0], [(start, start + MIB)])
    assert cache.ram.used == before
    asked = len(behind.asked)
    await cache.read(hot[0], [(0, 3 * MIB)])
    assert len(behind.asked) == asked


async def test_ram_in_use_never_passes_its_budget() -> None:
    segments = [make_segment(seed, 900_000) for seed in range(20)]
    cache = EdgeCache(MemorySource(segments), ram_bytes=4 * MIB)
    for turn in range(200):
        segment, _ = segments[turn * turn % 20]
        await cache.read(segment, [(turn * 1000, turn * 1000 + 5000)])
        assert cache.ram.used <= 4 * MIB
    assert cache.counters.ram_hits > 0


async def test_a_range_outside_the_segment_is_refused() -> None:
    segment, _ = SEGMENTS[1]
    cache = EdgeCache(MemorySource(SEGMENTS), ram_bytes=MIB)
    for wrong in ((-1, 5), (5, 4), (0, segment.length + 1)):
        with pytest.raises(BadRange):
            await cache.read(segment, [wrong])
