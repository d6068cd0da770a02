"""The budget of reusable buffers."""

import asyncio
import gc
import random

import pytest

from chain.net.simulation import simulate
from gateway.buffers import IDLE_SECONDS, BufferPool

KIB = 1 << 10
MIB = 1 << 20


async def test_a_buffer_is_as_long_as_asked_for_and_comes_again() -> None:
    pool = BufferPool(MIB)
    buffer = await pool.take(70_000)
    assert len(buffer.view) == 70_000
    assert (buffer.capacity, pool.in_use) == (72 * KIB, 72 * KIB)
    buffer.view[:4] = b"mark"
    pool.give(buffer)
    assert pool.in_use == 0
    again = await pool.take(72_000)
    assert bytes(again.view[:4]) == b"mark"
    pool.give(again)


async def test_waiting_is_first_come_first_served_and_ends_when_room_comes() -> None:
    pool = BufferPool(256 * KIB)
    held = [await pool.take(128 * KIB) for _ in range(2)]
    order: list[str] = []

    async def want(name: str, size: int) -> None:
        buffer = await pool.take(size)
        order.append(name)
        pool.give(buffer)

    async with asyncio.TaskGroup() as group:
        group.create_task(want("large", 256 * KIB))
        await asyncio.sleep(0)
        group.create_task(want("small", 64 * KIB))
        await asyncio.sleep(0)
        assert pool.try_take(64 * KIB) is None  # nobody passes those who wait
        pool.give(held.pop())
        await asyncio.sleep(0)
        assert order == []  # there is room for the small one, but it is not its turn
        pool.give(held.pop())
    assert order == ["large", "small"]
    assert pool.in_use == 0


async def test_one_who_gives_up_waiting_leaves_no_trace() -> None:
    pool = BufferPool(128 * KIB)
    held = await pool.take(128 * KIB)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(pool.take(128 * KIB))
        second = group.create_task(pool.take(64 * KIB))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        pool.give(held)
        assert len((await second).view) == 64 * KIB
        # The first one's turn had come and it was cancelled in the same moment.
        third = group.create_task(pool.take(128 * KIB))
        await asyncio.sleep(0)
        pool.give(second.result())
        third.cancel()
    assert pool.in_use == 0
    assert pool.try_take(128 * KIB) is not None


async def test_memory_that_someone_looks_at_is_never_handed_out_again() -> None:
    pool = BufferPool(256 * KIB)
    buffer = await pool.take(128 * KIB)
    slice_of_it = buffer.view[:5]
    slice_of_it[:] = b"mine!"
    pool.give(buffer)
    assert pool.in_use == 128 * KIB
    other = await pool.take(128 * KIB)
    other.view[:5] = b"other"
    assert bytes(slice_of_it) == b"mine!"
    del slice_of_it
    assert pool.in_use == 128 * KIB
    pool.give(other)
    assert pool.in_use == 0


async def test_one_who_waits_gets_room_though_a_slow_client_still_looks() -> None:
    pool = BufferPool(128 * KIB)
    buffer = await pool.take(128 * KIB)
    looked_at = buffer.view[:1]
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(pool.take(128 * KIB))
        await asyncio.sleep(0)
        pool.give(buffer)
    waiting.result().view[:1] = b"x"
    assert bytes(looked_at) == b"\x00"


@pytest.mark.parametrize("seed", range(5))
async def test_the_budget_holds_whatever_is_taken_given_and_cancelled(seed: int) -> None:
    chance, limit = random.Random(seed), 8 * MIB
    pool = BufferPool(limit)
    looks: list[memoryview] = []
    running = 0

    async def work() -> None:
        nonlocal running
        for _ in range(20):
            buffer = await pool.take(chance.randrange(1, 3 * MIB))
            running += buffer.capacity
            assert running <= limit
            assert pool.in_use <= limit
            try:
                if chance.random() < 0.2:
                    looks.append(buffer.view[: chance.randrange(1, 9)])
                await asyncio.sleep(0)
            finally:
                running -= buffer.capacity
                pool.give(buffer)
            if looks and chance.random() < 0.3:
                looks.pop(chance.randrange(len(looks)))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for _ in range(12)]
        for task in tasks[:6]:
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            task.cancel()
    looks.clear()
    assert running == 0
    assert pool.in_use == 0
    assert pool.try_take(6 * MIB) is not None


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
        await asyncio.sleep(IDLE_SECONDS * 1.01)
        assert pool.kept == 0
        assert pool.in_use == 0
        pool.give(await pool.take(8 * MIB))
        await asyncio.sleep(IDLE_SECONDS * 1.01)
        assert pool.kept == 0

    simulate(run())


def test_a_buffer_larger_than_the_budget_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        asyncio.run(BufferPool(MIB).take(2 * MIB))
