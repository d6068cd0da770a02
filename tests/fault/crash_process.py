"""A catalog, its outbox and a ledger in one process that dies where it is told to."""

import asyncio
from itertools import count
from pathlib import Path
from random import Random
from unittest import mock

import chain.node
from chain.client import LedgerClient
from chain.clock import SystemClock
from chain.config import ChainConfig
from chain.genesis import GIB
from chain.keys.identity import Identity
from chain.ledger.execution import OPERATOR_LEASE
from chain.ledger.transactions.leases import AuthoriseGateway, ReserveLease
from chain.ledger.transactions.miners import RegisterMiner
from chain.ledger.transactions.nodes import RegisterGateway
from chain.net.memory import MemoryNetwork, MemoryTransport
from gateway.catalog.compaction import CompactionSettings, Compactor
from gateway.catalog.interface import Batch, Delete, Put, Space
from gateway.catalog.local import LocalCatalog
from gateway.catalog.store import StoreSettings
from gateway.outbox import Outbox
from gateway.records import OutboxRow, encode
from tests.fault.crash_points import PointDisk, Points, point_fsync, point_ledger

SETTINGS = StoreSettings(file_bytes=4096, map_bytes=1 << 28)
EAGER = CompactionSettings(live_fraction=0.9, step_rows=3)
OPERATOR, GATEWAY, MINER = (Identity(bytes([n]) * 32) for n in (7, 8, 9))
GOAL, KEPT = 14, 4


def key_of(number: int) -> bytes:
    return number.to_bytes(8, "big")


def size_of(number: int) -> int:
    """Bytes that commit `number` charges: a sum of them says which were counted, and how often."""
    return 1 << number


def batch_of(number: int) -> Batch:
    """An object whose body lies in the log, told to the ledger; an old body goes."""
    key = key_of(number)
    told = OutboxRow(
        "put", key, key * 2, bytes(32), OPERATOR_LEASE, size_of(number), number, ()
    )  # fmt: skip
    return Batch(
        changes=[
            Put(Space.BODIES, key, key * 60),
            Put(Space.LIVE, key, key),
            Put(Space.OUTBOX, key, encode(told)),
            Delete(Space.BODIES, key_of(max(0, number - KEPT))),
        ]
    )


def acknowledge(directory: Path, what: str) -> None:
    """What was promised to somebody, in a file that outlives the process."""
    with (directory / "acknowledged").open("a") as file:
        file.write(what + "\n")


async def enter(ledger: LedgerClient) -> None:
    """Everybody on the ledger who is not there yet."""
    if await ledger.miner(MINER.id) is None:
        miner = RegisterMiner(
            owner=MINER.id, address="m", domain="d", pledged_bytes=GIB, min_price=1
        )
        await ledger.submit(MINER, miner)
    if await ledger.gateway(GATEWAY.id) is None:
        await ledger.submit(GATEWAY, RegisterGateway(address="g"))
    held = await ledger.authorisation(OPERATOR_LEASE, GATEWAY.id)
    if held is None:
        grant = AuthoriseGateway(lease=OPERATOR_LEASE, gateway=GATEWAY.id, cap=GIB // 2)
        await ledger.submit(OPERATOR, grant)
    if held is None or not held.reserved:
        await ledger.submit(GATEWAY, ReserveLease(lease=OPERATOR_LEASE, size=GIB // 2))


async def work(directory: Path, points: Points) -> None:
    """From what is there up to commit GOAL, the ledger told of everything."""
    config = ChainConfig(directory, "memory://chain", OPERATOR.id, block_seconds=0)
    network, clock, entropy = MemoryNetwork(), SystemClock(), Random(5).randbytes
    asking = MemoryTransport(network)
    with chain.node.opened(config, lambda _: MemoryTransport(network), clock, entropy) as node:
        stop, ready = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(node.run(stop, ready))
            await ready.wait()
            try:
                ledger = LedgerClient(asking.connect("memory://chain"))
                await enter(ledger)
                await fill(directory, points, ledger)
            finally:
                stop.set()


async def fill(directory: Path, points: Points, ledger: LedgerClient) -> None:
    disk = PointDisk(points)
    catalog = LocalCatalog.open(
        directory / "catalog", disk=disk, settings=SETTINGS, entropy=Random(6).randbytes
    )
    compactor, outbox = Compactor(catalog, EAGER), Outbox(catalog, ledger, GATEWAY)
    with catalog.read() as reader:
        newest = reader.scan(Space.LIVE, b"\x00", None, 1, reverse=True)
    for number in count(int.from_bytes(newest[0][0], "big") + 1 if newest else 1):
        if number > GOAL:
            break
        await catalog.commit(batch_of(number))
        acknowledge(directory, f"commit {number}")
        if number % 5 == 0:
            while await outbox.step():
                acknowledge(directory, "sent")
        if number % 6 == 0:
            await compactor.work(force=True)
    while await outbox.step():
        acknowledge(directory, "sent")
    await catalog.close()


def run(name: str, occurrence: int, directory: str) -> dict[str, int]:
    """Work on a directory, and die at a pass of a point (an empty name: nowhere); all passes."""
    points = Points(name, occurrence)
    ledger = mock.patch("chain.node.LmdbStore", point_ledger(points))
    with ledger, mock.patch("os.fsync", point_fsync(points)):
        asyncio.run(work(Path(directory), points))
    return dict(points.passes)
