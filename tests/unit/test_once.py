"""A message is worked on once, however often and whenever it comes."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chain.net.memory import Faults, MemoryNetwork, MemoryTransport
from gateway.catalog.client import CatalogClient
from gateway.catalog.interface import Add, Batch, CommitUncertain
from gateway.catalog.local import LocalCatalog
from gateway.catalog.once import CLIENTS_MAX, WINDOW, NotBegun, Once, Repeated
from gateway.catalog.service import CatalogService
from gateway.catalog.store import StoreSettings

SESSION = b"session"
COUNTER = b"counter"


class Work:
    """Counts how often it was done."""

    def __init__(self) -> None:
        self.done = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> int:
        self.done += 1
        number = self.done
        await self.may_end.wait()
        return number


async def test_a_copy_gets_the_answer_of_the_first_also_while_that_is_worked_on() -> None:
    once, work = Once[int](SESSION), Work()
    work.may_end.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(once.answer(SESSION, b"c", 0, work))
        copy = group.create_task(once.answer(SESSION, b"c", 0, work))
        await asyncio.sleep(0)
        work.may_end.set()
    assert (first.result(), copy.result(), work.done) == (1, 1, 1)
    assert await once.answer(SESSION, b"c", 0, work) == 1


async def test_messages_may_overtake_each_other_and_old_copies_are_refused() -> None:
    once, work = Once[int](SESSION), Work()
    for number in (0, 3, 1, 2, WINDOW + 1):
        await once.answer(SESSION, b"c", number, work)
    assert work.done == 5
    for number in (0, 1):
        with pytest.raises(Repeated):
            await once.answer(SESSION, b"c", number, work)
    assert await once.answer(SESSION, b"c", 2, work) == 4, "still remembered"
    assert work.done == 5


async def test_who_is_not_known_begins_anew() -> None:
    once, work = Once[int](SESSION), Work()
    for session, number in ((b"another", 0), (SESSION, 1)):
        with pytest.raises(NotBegun):
            await once.answer(session, b"c", number, work)
    assert work.done == 0
    for client in range(CLIENTS_MAX + 1):
        await once.answer(SESSION, b"%d" % client, 0, work)
    with pytest.raises(NotBegun):
        await once.answer(SESSION, b"0", 1, work)


async def test_a_failure_is_the_answer_to_copies_too() -> None:
    once = Once[int](SESSION)

    async def fail() -> int:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            await once.answer(SESSION, b"c", 0, fail)


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalCatalog]:
    catalog = LocalCatalog.open(tmp_path, settings=StoreSettings(1 << 20, 1 << 28))
    yield catalog
    await catalog.close()


@pytest.mark.parametrize("seed", range(3))
async def test_over_a_line_that_loses_doubles_and_delays_each_commit_is_made_once(
    local: LocalCatalog, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters have no condition that would stop a second one."""

    monkeypatch.setattr("gateway.catalog.client.COMMIT_SECONDS", 0.3)
    network = MemoryNetwork(random.Random(seed))
    network.faults = Faults(delay=(0.0, 0.02), loss=0.03, duplication=0.4)
    transport = MemoryTransport(network)
    await transport.serve("memory://c", CatalogService(local).handlers())
    client = CatalogClient(tmp_path, transport.connect("memory://c"), index=local.store.index)
    sure = unsure = 0

    async def count(number: int) -> None:
        nonlocal sure, unsure
        await asyncio.sleep(number / 2000)
        try:
            await client.commit(Batch(changes=[Add(COUNTER, 1)]))
            sure += 1
        except CommitUncertain:
            unsure += 1

    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(count(number))
    with local.read() as reader:
        counted = reader.counter(COUNTER)
    assert sure <= counted <= sure + unsure
    assert sure > 100
    await client.close()
    await transport.close()


async def test_a_client_goes_on_with_a_writer_that_was_started_anew(
    local: LocalCatalog, tmp_path: Path
) -> None:
    transport = MemoryTransport(MemoryNetwork())
    client = CatalogClient(tmp_path, transport.connect("memory://c"), index=local.store.index)
    for expected in (3, 6):
        server = await transport.serve("memory://c", CatalogService(local).handlers())
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(client.commit(Batch(changes=[Add(COUNTER, 1)])))
        with local.read() as reader:
            assert reader.counter(COUNTER) == expected
        await server.close()
    await client.close()
    await transport.close()
