"""Couriers on virtual time: all arrives, in order for each object, whatever the target does."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from chain.net.simulation import SimClock, simulate
from gateway.catalog.memory import MemoryCatalog
from gateway.events import queues
from gateway.events.courier import REFUSALS_MAX, Courier, Pace
from gateway.events.queues import Figures, Queue
from gateway.events.target import TargetRefused, TargetUnavailable
from gateway.records import EventRow, encode
from gateway.transaction import Transaction
from tests.unit.object_parts import MemoryPool

DAY = 86400.0


class Receiver:
    """Takes rows when it is up; `fails` of its answers are lost or refused."""

    def __init__(self, rng: random.Random, clock: SimClock) -> None:
        self.rng = rng
        self.clock = clock
        self.fails = 0.0
        self.up = True
        self.taken: list[EventRow] = []
        self.poison: set[int] = set()  # sequences that are refused
        self.refused: list[float] = []  # when
        self.faults: set[int] = set()
        self.at_once = 0
        self.most_at_once = 0
        self.calls: list[float] = []

    async def deliver(self, rows: Sequence[EventRow]) -> None:
        self.calls.append(self.clock.monotonic())
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await self.clock.sleep(self.rng.random())
            if not self.up or self.rng.random() < self.fails:
                raise TargetUnavailable("down")
            if any(row.sequence in self.poison for row in rows):
                self.refused += [self.clock.monotonic()] * (len(rows) == 1)
                raise TargetRefused("status 400")
            if any(row.sequence in self.faults for row in rows):
                raise KeyError("a bug")
            self.taken += rows
            if self.rng.random() < self.fails:
                raise TargetUnavailable("the answer was lost")
        finally:
            self.at_once -= 1


class Network:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = SimClock()
        self.catalog = MemoryCatalog()
        self.receiver = Receiver(self.rng, self.clock)
        self.queue = Queue(self.catalog, queues.NOTIFICATIONS, "hook", EventRow)

    def courier(self, **pace: float) -> Courier[EventRow]:
        return Courier(
            self.queue,
            self.receiver.deliver,
            self.clock,
            Pace(**pace),  # type: ignore[arg-type]
        )

    async def add(self, key: str, sequence: int) -> None:
        row = EventRow("s3:ObjectCreated:Put", "b", key, self.clock.now_ns(), sequence=sequence)
        with self.catalog.read() as reader:
            transaction = Transaction(reader, MemoryPool())
            queues.append(transaction, queues.NOTIFICATIONS, "hook", encode(row), 10_000)
        await self.catalog.commit(transaction.batch())

    @asynccontextmanager
    async def running(self, *couriers: Courier[EventRow]) -> AsyncIterator[None]:
        """They run until the block ends, and are stopped wherever they are."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(courier.run()) for courier in couriers]
            yield
            for task in tasks:
                task.cancel()

    async def until_empty(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while self.queue.page(1):
                await self.clock.sleep(1)

    def figures(self) -> Figures:
        with self.catalog.read() as reader:
            return queues.figures(reader)["notify", "hook"]

    def in_order(self) -> None:
        """The first arrivals of each key are in order; what came twice came again later."""
        firsts: dict[str, list[int]] = {}
        for row in self.receiver.taken:
            seen = firsts.setdefault(row.key, [])
            if row.sequence not in seen:
                seen.append(row.sequence)
        assert all(seen == sorted(seen) for seen in firsts.values()), firsts


@pytest.mark.parametrize("seed", range(5))
def test_all_arrive_in_order_through_failures_and_restarts(seed: int) -> None:
    async def main() -> None:
        network = Network(seed)
        network.receiver.fails = 0.2
        sent = []
        for number in range(200):
            key = f"k{network.rng.randrange(7)}"
            await network.add(key, number)
            sent.append((key, number))
        for _ in range(4):  # ended in the middle of deliveries, and started again
            async with network.running(network.courier(batch=3)):
                await network.clock.sleep(network.rng.uniform(0.1, 20))
        async with network.running(network.courier(batch=3)):
            await network.until_empty(DAY)
        assert {(row.key, row.sequence) for row in network.receiver.taken} == set(sent)
        network.in_order()
        assert network.receiver.most_at_once <= 4
        assert network.figures() == Figures(waiting=0, done=200, dropped=0)

    print(f"seed {seed}")
    simulate(main())


def test_a_target_that_is_down_is_asked_ever_less_often_and_keeps_its_place() -> None:
    async def main() -> None:
        network = Network(1)
        network.receiver.up = False
        await network.add("k", 1)
        async with network.running(network.courier()):
            await network.clock.sleep(3600)
            pauses = [b - a for a, b in pairwise(network.receiver.calls)]
            assert pauses[0] < 3
            assert 59 < pauses[-1] < 63
            assert len(pauses) < 70
            network.receiver.up = True
            await network.until_empty(120)
        assert [row.sequence for row in network.receiver.taken] == [1]

    simulate(main())


def test_a_document_that_is_refused_again_and_again_stops_no_other_object() -> None:
    async def main() -> None:
        network = Network(2)
        network.receiver.poison = {5}
        for number in range(12):
            await network.add("bad" if number in {4, 5, 6} else "good", number)
        async with network.running(network.courier(lanes=1, batch=4)):
            await network.clock.sleep(15)
            taken = [row.sequence for row in network.receiver.taken]
            assert sorted(taken) == [number for number in range(12) if number not in {5, 6}]
            await network.until_empty(600)
        bad = [row.sequence for row in network.receiver.taken if row.key == "bad"]
        assert bad == [4, 6], "in order, and without what nobody takes"
        assert network.figures() == Figures(waiting=0, done=11, dropped=1)
        assert len(network.receiver.refused) == REFUSALS_MAX
        assert all(b - a > 1 for a, b in pairwise(network.receiver.refused))

    simulate(main())


def test_a_fault_of_our_own_stops_no_other_object_and_loses_nothing() -> None:
    async def main() -> None:
        network = Network(5)
        network.receiver.faults = {5}
        for number in range(12):
            await network.add("bad" if number in {4, 5, 6} else "good", number)
        async with network.running(network.courier(lanes=1, batch=4)):
            await network.clock.sleep(600)
            assert len(network.receiver.taken) == 10
            network.receiver.faults = set()
            await network.until_empty(600)
        network.in_order()
        assert network.figures() == Figures(waiting=0, done=12, dropped=0)

    simulate(main())


def test_what_is_too_old_is_dropped_and_counted() -> None:
    async def main() -> None:
        network = Network(3)
        network.receiver.up = False
        await network.add("k", 1)
        async with network.running(network.courier(keep_seconds=DAY)):
            await network.clock.sleep(DAY / 2)
            await network.add("k", 2)
            await network.clock.sleep(DAY / 2 + 120)
            assert [row.row.sequence for row in network.queue.page(10)] == [2]
            network.receiver.up = True
            await network.until_empty(120)
        assert network.figures() == Figures(waiting=0, done=1, dropped=1)

    simulate(main())


def test_two_couriers_of_one_queue_take_a_row_out_once() -> None:
    async def main() -> None:
        network = Network(4)
        for number in range(50):
            await network.add("k", number)
        async with network.running(network.courier(), network.courier()):
            await network.until_empty(600)
        assert network.figures() == Figures(waiting=0, done=50, dropped=0)

    simulate(main())
