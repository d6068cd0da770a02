"""Healthy miners that are merely slow, or just away, never make an object unavailable."""

import asyncio
import gc
import weakref

import pytest

from chain.ids import AccountId
from chain.net.memory import Faults, MemoryTransport
from chain.net.simulation import simulate
from miner import range_read
from miner.client import Health
from miner.fragment import fragment_key
from miner.hedging import ReadSettings
from miner.placement import Placement
from miner.pool import BelowQuorum, PoolSettings
from miner.segments import Segment, SegmentUnavailable
from miner.service import MinerService
from tests.simulation.miner_grid import Grid
from tests.simulation.test_storage_pool import holder, sealed, stored


def open_breaker(grid: Grid, miner: AccountId, seconds: float = 1e6) -> Health:
    health = grid.peers.health(miner)
    health.open_until = grid.clock.monotonic() + seconds
    return health


async def made(
    miners: int = 6, settings: PoolSettings | None = None
) -> tuple[Grid, bytes, Segment, Placement]:
    grid = Grid(settings=settings)
    await grid.add_miners(miners)
    return grid, *await stored(grid)


def test_a_read_asks_miners_that_are_left_alone_when_too_few_others_are_there() -> None:
    async def run() -> None:
        grid, data, segment, placement = await made()
        for left_alone in range(6):
            open_breaker(grid, holder(placement, left_alone))
            (got,) = await grid.pool.read(segment, [(0, len(data))])
            assert bytes(got) == data
        assert grid.reported == []

    simulate(run())


def test_a_read_prefers_parity_to_a_miner_that_is_left_alone() -> None:
    async def run() -> None:
        grid, data, segment, placement = await made()
        avoided = holder(placement, 0)
        open_breaker(grid, avoided)
        grid.silence(avoided)
        start = grid.clock.monotonic()
        (got,) = await grid.pool.read(segment, [(0, len(data))])
        assert bytes(got) == data
        assert grid.clock.monotonic() - start < 0.01

    simulate(run())


def test_reads_wait_for_miners_that_take_seconds() -> None:
    async def run() -> None:
        grid, data, segment, _ = await made()
        grid.network.faults = Faults(delay=(0.5, 6.0))
        for _ in range(10):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(grid.pool.read(segment, [(0, len(data))])) for _ in range(16)
                ]
            assert all(bytes(task.result()[0]) == data for task in tasks)

    simulate(run())


def test_bursts_of_slowness_open_no_breaker() -> None:
    async def run() -> None:
        grid, _, segment, placement = await made()
        for low, high in ((0.0, 0.001), (0.1, 0.4)) * 20:
            grid.network.faults = Faults(delay=(low, high))
            for _ in range(10):
                await grid.pool.read(segment, [(0, 50_000)])
                now = grid.clock.monotonic()
                assert not any(
                    grid.peers.health(holder(placement, index)).is_open(now) for index in range(6)
                )

    simulate(run())


def test_a_stalled_holder_costs_a_bounded_wait_when_hedges_are_used_up() -> None:
    async def run() -> None:
        settings = PoolSettings(read=ReadSettings(hedge_share=0.0))
        grid, data, segment, placement = await made(settings=settings)
        grid.silence(holder(placement, 0))
        start = grid.clock.monotonic()
        (got,) = await grid.pool.read(segment, [(0, len(data))])
        assert bytes(got) == data
        assert grid.clock.monotonic() - start <= settings.read.overdue + 0.1

    simulate(run())


def test_only_reads_under_way_wait_for_a_miner_that_stalls() -> None:
    async def run() -> None:
        grid, data, segment, placement = await made()
        for _ in range(20):  # estimates
            await grid.pool.read(segment, [(0, len(data))])
        grid.silence(holder(placement, 0))
        waits = []
        for _ in range(200):
            start = grid.clock.monotonic()
            (got,) = await grid.pool.read(segment, [(0, len(data))])
            assert bytes(got) == data
            waits.append(grid.clock.monotonic() - start)
            await grid.clock.sleep(0.05)
        waits.sort()
        assert waits[-1] < 0.1
        assert waits[-2] < 0.01, "one read found it silent; the others need not find out"
        counts = grid.pool.read_counts
        # Two each: the last data shard's window is shorter, so it is no source for the first one.
        assert (counts.hedges, counts.parity) == (2, 2 * 199)

    simulate(run())


def test_a_miner_that_wakes_is_read_from_again_at_once() -> None:
    async def run() -> None:
        grid, data, segment, placement = await made()
        stalled = grid.directory.get(holder(placement, 0))
        assert stalled is not None
        await grid.pool.read(segment, [(0, len(data))])
        grid.silence(stalled.id)
        await grid.pool.read(segment, [(0, len(data))])
        await grid.clock.sleep(60)
        assert grid.peers.is_silent(stalled)
        grid.network.unsilence(stalled.domain)
        await grid.clock.sleep(4)  # a probe that was lost, and a pause
        assert not grid.peers.is_silent(stalled)
        before = grid.pool.read_counts.parity
        await grid.pool.read(segment, [(0, len(data))])
        assert grid.pool.read_counts.parity == before

    simulate(run())


def test_writes_do_not_leave_out_a_miner_for_one_late_answer() -> None:
    async def run() -> None:
        grid, data, segment, placement = await made()
        await grid.pool.read(segment, [(0, len(data))])
        stalled = grid.directory.get(holder(placement, 0))
        assert stalled is not None
        grid.silence(stalled.id)
        await grid.pool.read(segment, [(0, len(data))])
        assert grid.peers.is_silent(stalled)
        assert grid.peers.is_up(stalled)
        grid.network.unsilence(stalled.domain)
        _, _, written = await stored(grid)
        assert written.missing == []

    simulate(run())


def test_a_read_outlives_a_restart_of_its_miners() -> None:
    async def run() -> None:
        grid, data, segment, _ = await made()
        names = [miner.domain for miner in grid.directory.all()]
        for name in names:
            grid.network.leave(name)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(grid.pool.read(segment, [(0, len(data))]))
            await grid.clock.sleep(2.5)
            assert not reading.done()
            for miner, store in grid.stores.items():
                name = grid.name(miner)
                service = MinerService(store, grid.identities[miner])
                transport = MemoryTransport(grid.network, name=name)
                await transport.serve(f"memory://{name}", service.handlers())
        assert bytes(reading.result()[0]) == data

    simulate(run())


@pytest.mark.parametrize("harm", ["silent", "dropped", "gone"])
def test_a_read_leaves_nothing_for_the_collector_to_free(harm: str) -> None:
    async def run() -> None:
        grid, data, segment, placement = await made()
        miner = holder(placement, 1)
        if harm == "silent":
            grid.silence(miner)  # hedged, restored, cancelled
        elif harm == "dropped":
            await grid.stores[miner].drop([fragment_key(segment.id, 1)])  # an error, restored
        else:
            grid.network.leave(grid.name(miner))
        reads: list[weakref.ref[object]] = []
        kept = range_read.RangeRead.__init__

        def noting(self: object, *args: object, **options: object) -> None:
            reads.append(weakref.ref(self))
            kept(self, *args, **options)  # type: ignore[arg-type]

        range_read.RangeRead.__init__ = noting  # type: ignore[method-assign]
        gc.disable()
        try:
            assert bytes((await grid.pool.read(segment, [(0, len(data))]))[0]) == data
            await grid.clock.sleep(1)
            assert [ref() for ref in reads] == [None]
        finally:
            gc.enable()
            range_read.RangeRead.__init__ = kept  # type: ignore[method-assign]

    simulate(run())


def test_a_segment_whose_miners_are_gone_is_refused_soon() -> None:
    async def run() -> None:
        grid, data, segment, _ = await made()
        for miner in grid.directory.all()[:3]:
            grid.network.leave(miner.domain)
        start = grid.clock.monotonic()
        with pytest.raises(SegmentUnavailable):
            await grid.pool.read(segment, [(0, len(data))])
        assert grid.clock.monotonic() - start < 6

    simulate(run())


def test_a_write_asks_miners_that_are_left_alone_before_it_gives_up() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        for miner in list(grid.stores):
            open_breaker(grid, miner)
        _, _, placement = await stored(grid)
        assert placement.missing == []

    simulate(run())


def test_a_miner_that_is_left_alone_stands_in_only_to_reach_quorum() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        first, second, third = list(grid.stores)[:3]
        open_breaker(grid, first)
        _, _, placement = await stored(grid, seed=1)
        assert len(placement.missing) == 1  # five are enough: the sixth stays alone
        await grid.stores[second].close()  # refuses
        _, _, placement = await stored(grid, seed=2)
        assert first in {each.miner for each in placement.holders}
        await grid.stores[third].close()
        _, segment, shards = sealed(3, 1000, "small")
        with pytest.raises(BelowQuorum):
            await grid.pool.write(segment, shards)

    simulate(run())


def test_a_write_waits_for_miners_that_take_seconds() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        grid.network.faults = Faults(delay=(0.5, 6.0))
        for seed in range(5):
            await stored(grid, seed=seed)  # raises below quorum
        for seed in range(5, 10):
            async with asyncio.TaskGroup() as group:
                for turn in range(4):
                    group.create_task(stored(grid, seed=100 * seed + turn))

    simulate(run())


def test_a_write_outlives_a_restart_of_its_miners() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, segment, shards = sealed(1, 1000, "small")
        names = [miner.domain for miner in grid.directory.all()]
        for name in names:
            grid.network.leave(name)
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(grid.pool.write(segment, shards))
            await grid.clock.sleep(2.5)
            for miner, store in grid.stores.items():
                name = grid.name(miner)
                service = MinerService(store, grid.identities[miner])
                transport = MemoryTransport(grid.network, name=name)
                await transport.serve(f"memory://{name}", service.handlers())
        assert len(writing.result().missing) <= 1

    simulate(run())
