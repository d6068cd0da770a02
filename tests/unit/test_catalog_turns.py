"""A worker's reads: one snapshot a turn of the event loop, never one too old."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chain.gathering import Gathering
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.transport import Caller
from gateway.catalog.client import MESSAGES_MAX, CatalogClient
from gateway.catalog.interface import BadBatch, Batch, Conflict, Equals, Put, Space
from gateway.catalog.local import LocalCatalog
from gateway.catalog.protocol import Commit, Committed
from gateway.catalog.service import CatalogService
from gateway.catalog.store import StoreSettings

LIVE = Space.LIVE


def put(key: bytes, value: bytes) -> Batch:
    return Batch(changes=[Put(LIVE, key, value)])


class Counting(CatalogService):
    """Counts the messages and the batches in them."""

    def __init__(self, catalog: LocalCatalog) -> None:
        super().__init__(catalog)
        self.batches: list[int] = []

    async def commit(self, message: Commit, caller: Caller) -> Committed:
        self.batches.append(len(message.batches))
        return await super().commit(message, caller)


World = tuple[CatalogClient, LocalCatalog, Counting]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    local = LocalCatalog.open(tmp_path / "c", settings=StoreSettings(1 << 20, 1 << 28))
    transport = MemoryTransport(MemoryNetwork())
    service = Counting(local)
    await transport.serve("memory://c", service.handlers())
    client = CatalogClient(tmp_path / "c", transport.connect("memory://c"), index=local.store.index)
    await client.commit(Batch())  # so that it is known to the service
    service.batches.clear()
    yield client, local, service
    await client.close()
    await local.close()
    await transport.close()


async def test_reads_of_one_turn_see_one_snapshot_and_the_next_turn_a_new_one(world: World) -> None:
    client, local, _ = world
    await client.commit(put(b"a", b"1"))
    with client.read() as reader:
        assert reader.get(LIVE, b"a") == b"1"
    local.store.commit([put(b"a", b"2")])  # another process, in the middle of our turn
    with client.read() as reader:
        assert reader.get(LIVE, b"a") == b"1"
    await asyncio.sleep(0)
    with client.read() as reader:
        assert reader.get(LIVE, b"a") == b"2"


async def test_whoever_was_told_of_a_commit_reads_it(world: World) -> None:
    client, _, _ = world

    async def write_and_read(number: int) -> None:
        key = b"%d" % number
        for value in (b"1", b"2", b"3"):
            await client.commit(put(key, value))
            with client.read() as reader:
                assert reader.get(LIVE, key) == value

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(write_and_read(number))


async def test_commits_of_one_turn_share_a_message_and_fail_alone(world: World) -> None:
    client, _, service = world
    taken = Batch([Equals(LIVE, b"3", b"other")], [Put(LIVE, b"3", b"x")])
    batches = [put(b"%d" % number, b"v") for number in range(40)]
    batches[3], batches[5] = taken, put(b"", b"a key of no bytes")
    outcomes = await asyncio.gather(  # noqa: TID251 - exceptions are what is looked at
        *(client.commit(batch) for batch in batches), return_exceptions=True
    )
    assert isinstance(outcomes[3], Conflict)
    assert outcomes[3].failed is taken.conditions[0]
    assert isinstance(outcomes[5], BadBatch)
    made = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(made) == 38
    assert made == sorted(made)
    assert sum(service.batches) == 40
    assert len(service.batches) <= MESSAGES_MAX


async def test_commits_wait_a_moment_for_those_that_had_company(world: World) -> None:
    client, _, service = world

    async def write(number: int) -> None:
        for count in range(12):
            for _ in range(number):  # each comes some turns of the loop behind the one before
                await asyncio.sleep(0)
            await client.commit(put(b"%d" % number, b"%d" % count))

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(write(number))
    assert sum(service.batches) == 48
    assert service.batches[-8:].count(4) >= 7  # (a round's patience may end early)


async def test_a_lone_commit_waits_for_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _, service = world

    def patience(_: Gathering) -> float:
        raise AssertionError("it waits")

    monkeypatch.setattr(Gathering, "patience", property(patience))
    for count in range(5):
        await client.commit(put(b"k", b"%d" % count))
    assert service.batches == [1] * 5


async def test_a_cancelled_commit_leaves_the_others_of_its_message_alone(world: World) -> None:
    client, _, _ = world
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.commit(put(b"%d" % n, b"v"))) for n in range(8)]
        await asyncio.sleep(0)
        tasks[0].cancel()
    assert [task.cancelled() for task in tasks] == [True] + [False] * 7
