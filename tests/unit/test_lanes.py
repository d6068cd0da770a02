"""Work beside the event loop: order within a lane, lanes in parallel, one wake-up at the end."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.lanes import Countdown, Lane, call_on


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


async def test_jobs_of_a_lane_run_one_after_the_other_in_order(
    executor: ThreadPoolExecutor,
) -> None:
    lane, done = Lane(executor), asyncio.Event()
    loop = asyncio.get_running_loop()
    seen: list[int] = []
    inside = 0

    def job(number: int) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        seen.append(number)
        inside -= 1
        if number == 4999:
            call_on(loop, done.set)

    for number in range(5000):
        lane.push(lambda number=number: job(number))  # type: ignore[misc]
        if number % 1000 == 0:
            await asyncio.sleep(0)
    await done.wait()
    assert seen == list(range(5000))


async def test_lanes_run_beside_each_other(executor: ThreadPoolExecutor) -> None:
    meet = threading.Barrier(3)  # breaks unless all three are inside at once
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    countdown = Countdown(loop, 3, done.set)

    def job() -> None:
        meet.wait(timeout=20)
        countdown.hit()

    for _ in range(3):
        Lane(executor).push(job)
    async with asyncio.timeout(30):
        await done.wait()
    assert not meet.broken


async def test_an_abandoned_lane_forgets_what_has_not_begun_and_works_on(
    executor: ThreadPoolExecutor,
) -> None:
    lane, loop = Lane(executor), asyncio.get_running_loop()
    begun, go, end = threading.Event(), threading.Event(), asyncio.Event()
    seen: list[str] = []

    def first() -> None:
        begun.set()
        go.wait(20)
        seen.append("first")

    lane.push(first)
    for _ in range(10):
        lane.push(lambda: seen.append("forgotten"))
    begun.wait(20)
    lane.abandon()
    lane.push(lambda: call_on(loop, end.set))
    go.set()
    async with asyncio.timeout(30):
        await end.wait()
    assert seen == ["first"]


async def test_a_countdown_calls_once_on_the_event_loop(executor: ThreadPoolExecutor) -> None:
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    calls: list[int] = []
    done = asyncio.Event()

    def finished() -> None:
        calls.append(threading.get_ident())
        done.set()

    countdown = Countdown(loop, 100, finished)
    for _ in range(100):
        executor.submit(countdown.hit)
    async with asyncio.timeout(30):
        await done.wait()
    await asyncio.sleep(0)
    assert calls == [here]


def test_a_job_for_a_loop_that_has_ended_is_dropped() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    call_on(loop, lambda: None)
