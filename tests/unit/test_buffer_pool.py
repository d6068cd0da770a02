import asyncio
import gc

import pytest

from chain.net.simulation import simulate
from gateway.buffers import IDLE_SECONDS, BufferPool

MIB = 1 << 20


async def test_buffers_are_handed_out_again_and_never_beyond_the_budget() -> None:
    pool = BufferPool(4 * MIB)
    first = await pool.take(2 * MIB)
    first.view[:3] = b"abc"
    pool.give(first)
    again = await pool.take(2 * MIB)
    assert bytes(again.view[:3]) == b"abc"  # the same memory
    other = pool.try_take(2 * MIB)
    assert other is not None
    assert pool.try_take(1) is None
    assert pool.in_use == 4 * MIB


async def test_memory_that_someone_looks_at_is_not_handed_out() -> None:
    pool = BufferPool(2 * MIB)
    buffer = await pool.take(MIB)
    seen = buffer.view[:10]
    seen[:5] = b"hello"
    pool.give(buffer)
    fresh = await pool.take(MIB)
    fresh.view[:5] = b"other"
    assert bytes(seen[:5]) == b"hello"


async def test_reserved_bytes_leave_less_for_buffers_and_come_back() -> None:
    pool = BufferPool(4 * MIB)
    assert pool.try_reserve(3 * MIB)
    assert not pool.try_reserve(2 * MIB)
    assert pool.try_take(2 * MIB) is None
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(pool.take(2 * MIB))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert not pool.try_reserve(1)  # who waits comes first
        pool.release(3 * MIB)
    assert len(waiting.result().view) == 2 * MIB
    assert pool.in_use == 2 * MIB


async def test_reserving_takes_the_place_of_buffers_that_are_only_kept() -> None:
    pool = BufferPool(4 * MIB)
    buffer = await pool.take(4 * MIB)
    pool.give(buffer)
    assert pool.try_reserve(4 * MIB)
    assert pool.in_use == 4 * MIB
    pool.release(4 * MIB)
    assert pool.in_use == 0


def test_a_pool_that_rests_keeps_nothing() -> None:
    async def run() -> None:
        pool = BufferPool(64 * MIB)
        held = [await pool.take(8 * MIB) for _ in range(4)]
        for buffer in held:
            pool.give(buffer)
        gc.collect()
        assert pool.kept == 32 * MIB
        for _ in range(3):  # in use every few seconds: kept
            await asyncio.sleep(IDLE_SECONDS * 0.6)
            pool.give(await pool.take(8 * MIB))
            assert pool.kept == 32 * MIB
        await asyncio.sleep(IDLE_SECONDS * 2.1)
        assert pool.kept == 0
        assert pool.in_use == 0
        pool.give(await pool.take(8 * MIB))
        await asyncio.sleep(IDLE_SECONDS * 2.1)
        assert pool.kept == 0

    simulate(run())


def test_a_buffer_larger_than_the_budget_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        asyncio.run(BufferPool(MIB).take(2 * MIB))
