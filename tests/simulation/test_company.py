"""Which small writes begin together, and how long one waits for the others."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from chain.gathering import GATHER_SECONDS, TOGETHER_MAX
from chain.net.simulation import simulate
from miner.company import Company

WRITE = 0.008


class Clients:
    """Each writes again and again, `pause` seconds after its last answer."""

    def __init__(self, *, seconds: float = WRITE) -> None:
        self.company = Company()
        self.seconds = seconds
        self.begun: list[float] = []
        self.waited: list[float] = []

    async def write(self) -> None:
        now = asyncio.get_running_loop().time
        came = now()
        async with self.company:
            self.begun.append(now())
            self.waited.append(now() - came)
            await asyncio.sleep(self.seconds)

    async def run(self, writes: int, pause: float) -> None:
        for _ in range(writes):
            await asyncio.sleep(pause)
            await self.write()


def simulated(claim: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        simulate(claim())

    test.__name__ = claim.__name__
    return test


@simulated
async def test_a_lone_writer_waits_for_nobody() -> None:
    clients = Clients()
    await clients.run(5, pause=0.001)
    assert clients.waited == [0.0] * 5


@simulated
async def test_writers_that_came_one_after_the_other_begin_together_from_then_on() -> None:
    clients = Clients()
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(clients.run(20, pause=0.001 * (number + 1)))
    assert max(clients.waited) <= WRITE + 1e-6
    times = [round(time, 6) for time in clients.begun]
    assert sorted(Counter(times).values())[-15:] == [4] * 15


@simulated
async def test_who_left_is_waited_for_a_moment_and_then_no_more() -> None:
    clients = Clients(seconds=1)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(clients.write())
    clients.waited.clear()
    await clients.run(4, pause=0.001)
    first, *_, last = clients.waited
    assert 0 < first <= GATHER_SECONDS + 1e-6
    assert last == 0.0


@simulated
async def test_nobody_waits_longer_than_the_last_write_took() -> None:
    clients = Clients(seconds=0.001)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(clients.write())
    clients.waited.clear()
    await clients.write()
    assert 0 < clients.waited[0] <= 0.001 + 1e-6


@simulated
async def test_a_crowd_does_not_wait_until_all_are_here() -> None:
    clients = Clients(seconds=1)
    async with asyncio.TaskGroup() as group:
        for _ in range(3 * TOGETHER_MAX):
            group.create_task(clients.write())
    clients.waited.clear()
    async with asyncio.TaskGroup() as group:
        for _ in range(TOGETHER_MAX):
            group.create_task(clients.write())
    assert clients.waited == [0.0] * TOGETHER_MAX


@simulated
async def test_a_writer_that_gives_up_while_it_waits_is_not_waited_for() -> None:
    clients = Clients()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(clients.write())
    waiting = asyncio.create_task(clients.write())  # noqa: TID251
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(1)
    clients.waited.clear()
    await clients.run(3, pause=1)
    assert clients.waited[-1] == 0.0
    assert len(clients.begun) == 5
