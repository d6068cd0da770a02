"""The catalog process's watch: registered, reserved, and in the picture about miners."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from chain.client import LedgerClient
from chain.config import ChainConfig
from chain.genesis import GIB, MIB, TOKEN, single_operator
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.ledger.execution import OPERATOR_LEASE
from chain.ledger.store import MemoryStore
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.leases import TransferLease
from chain.ledger.transactions.miners import RegisterMiner, UpdateMiner
from chain.net.memory import MemoryTransport
from chain.net.simulation import simulate
from chain.net.transport import Unreachable
from chain.node import ChainNode
from gateway.catalog.memory import MemoryCatalog
from gateway.ledger import NetworkWatch
from gateway.store import Lease
from gateway.view import CatalogLeases, CatalogMiners
from miner.placement import MinerInfo
from miner.protocol import SpaceFigures, SpaceReport
from miner.service import MinerService
from miner.store.memory import MemoryStore as FragmentStore
from tests.simulation.miner_grid import Grid

VALIDATOR, OPERATOR, GATEWAY, STRANGER = (Identity(bytes([n]) * 32) for n in (1, 2, 3, 4))


class Watched:
    """Miners, a ledger, and a watch that keeps a catalog informed."""

    def __init__(self, owner: Identity) -> None:
        self.grid, self.catalog, self.owner = Grid(), MemoryCatalog(), owner
        self.miners, self.leases = CatalogMiners(self.catalog), CatalogLeases(self.catalog)
        self.ledger: LedgerClient
        self.node: ChainNode

    def watch(self, address: str = "memory://catalog") -> NetworkWatch:
        return NetworkWatch(
            self.catalog, self.ledger, self.grid.peers, self.grid.clock,
            operator=self.owner, gateway=GATEWAY, address=address,
        )  # fmt: skip

    async def add_miner(self, pledge: int = GIB) -> Identity:
        await self.grid.add_miners(1, pledge)
        miner = list(self.grid.identities.values())[-1]
        await self.register(miner, f"memory://{self.grid.name(miner.id)}", pledge)
        return miner

    async def register(self, miner: Identity, address: str, pledge: int = GIB) -> None:
        body = RegisterMiner(
            owner=miner.id, address=address, domain=address, pledged_bytes=pledge, min_price=1
        )
        await self.ledger.submit(miner, body)

    async def wait(self, seconds: float = 5) -> None:
        await self.grid.clock.sleep(seconds)

    def free(self) -> dict[AccountId, int]:
        return {miner.id: miner.free_bytes for miner in self.miners.all() if not miner.lost}

    def away(self) -> set[AccountId]:
        return {miner.id for miner in self.miners.all() if miner.away}

    def lease(self) -> Lease | None:
        return self.leases.lease("ann")

    @property
    def height(self) -> int:
        return self.node.driver.application.info().height


@asynccontextmanager
async def watching(owner: Identity = OPERATOR) -> AsyncIterator[Watched]:
    watched = Watched(owner)
    network, clock = watched.grid.network, watched.grid.clock
    genesis = single_operator("sim", clock.now_ns(), VALIDATOR.id, OPERATOR.id, 30 * 86400)
    config = ChainConfig(Path("unused"), "memory://chain", block_seconds=0.01)
    transport = MemoryTransport(network, name="chain")
    watched.node = ChainNode(config, transport, clock, MemoryStore(), genesis, VALIDATOR)
    stop = asyncio.Event()
    user = MemoryTransport(network, name="catalog")
    async with asyncio.TaskGroup() as group:
        group.create_task(watched.node.run(stop))
        await asyncio.sleep(0)
        watched.ledger = LedgerClient(user.connect("memory://chain"), genesis)
        watch = group.create_task(watched.watch().run())
        yield watched
        watch.cancel()
        await user.close()
        stop.set()


def test_the_network_lease_is_reserved_and_follows_the_miners() -> None:
    async def run() -> None:
        async with watching() as watched:
            await watched.wait()
            assert watched.lease() is None
            await watched.add_miner()
            await watched.wait()
            assert watched.lease() == Lease(OPERATOR_LEASE, GIB * 900 // 1000)
            await watched.add_miner()
            await watched.wait()
            assert watched.lease() == Lease(OPERATOR_LEASE, 2 * GIB * 900 // 1000)
            gateway = await watched.ledger.gateway(GATEWAY.id)
            assert gateway is not None
            assert gateway.address == "memory://catalog"
            height = watched.height
            await watched.wait(60)
            assert watched.height == height, "a watch that sees nothing new sends nothing"

    simulate(run())


def test_a_gateway_that_moved_says_so_once() -> None:
    async def run() -> None:
        async with watching() as watched:
            await watched.wait()
            async with asyncio.TaskGroup() as group:
                moved = group.create_task(watched.watch("memory://elsewhere").run())
                await watched.wait()
                gateway = await watched.ledger.gateway(GATEWAY.id)
                assert gateway is not None
                assert (gateway.address, gateway.batches) == ("memory://elsewhere", 1)
                moved.cancel()

    simulate(run())


def test_the_catalog_hears_of_space_drain_and_return() -> None:
    async def run() -> None:
        async with watching() as watched:
            miner = await watched.add_miner()
            await watched.wait()
            assert watched.free() == {miner.id: GIB}
            body = UpdateMiner(
                address=f"memory://{watched.grid.name(miner.id)}", domain="d",
                pledged_bytes=GIB // 2, min_price=1, state="draining",
            )  # fmt: skip
            await watched.ledger.submit(miner, body)
            await watched.wait()
            assert watched.free() == {miner.id: 0}
            await watched.ledger.submit(
                miner, UpdateMiner(**{**body.to_fields(), "state": "active"})
            )
            await watched.wait()
            assert watched.free() == {miner.id: GIB // 2}

    simulate(run())


def test_a_silent_miner_keeps_its_figures_and_is_not_lost() -> None:
    async def run() -> None:
        async with watching() as watched:
            miner = await watched.add_miner()
            await watched.wait()
            watched.grid.silence(miner.id)
            await watched.wait(120)
            assert watched.free() == {miner.id: GIB}

    simulate(run())


def test_an_emptied_miner_is_declared_lost_once() -> None:
    async def run() -> None:
        async with watching() as watched:
            miner = await watched.add_miner()
            await watched.wait()
            await replace_miner(watched, miner)
            await watched.wait(10)
            (record,) = await watched.ledger.miners()
            assert record.state == "lost"
            assert watched.free() == {}

    simulate(run())


def test_a_miner_silent_for_longer_than_the_grace_is_away_until_it_answers() -> None:
    async def run() -> None:
        async with watching() as watched:
            miners = [await watched.add_miner() for _ in range(2)]
            await watched.wait()
            watched.grid.silence(miners[0].id)
            await watched.wait(590)
            assert watched.away() == set()
            await watched.wait(60)
            assert watched.away() == {miners[0].id}
            # A watch that starts anew still knows it, and is not the miner's second grace.
            async with asyncio.TaskGroup() as group:
                other = group.create_task(watched.watch().run())
                await watched.wait(60)
                assert watched.away() == {miners[0].id}
                other.cancel()
            watched.grid.network.unsilence(watched.grid.name(miners[0].id))
            await watched.wait(60)
            assert watched.away() == set()

    simulate(run())


def test_a_silent_miner_whose_port_another_has_is_away_and_lost_only_past_the_grace() -> None:
    async def run() -> None:
        async with watching() as watched:
            first, second = [await watched.add_miner() for _ in range(2)]
            prove_identities(watched)
            await watched.wait()
            name, place = watched.grid.name(first.id), f"memory://{watched.grid.name(second.id)}"
            watched.grid.silence(first.id)  # a restart that takes long; its port is the other's now
            body = UpdateMiner(address=place, domain="d", pledged_bytes=GIB, min_price=1)
            await watched.ledger.submit(first, body)
            await watched.wait(500)
            assert watched.away() == {first.id}, "what it holds is rebuilt"
            assert set(watched.free()) == {first.id, second.id}
            # It is intact, and serves again, at a port of its own.
            watched.grid.network.unsilence(name)
            moved = UpdateMiner(**{**body.to_fields(), "address": f"memory://{name}"})
            await watched.ledger.submit(first, moved)
            await watched.wait(60)
            assert watched.away() == set()
            assert {record.state for record in await watched.ledger.miners()} == {"active"}
            await watched.ledger.submit(first, body)
            watched.grid.silence(first.id)
            await watched.wait(660)
            assert set(watched.free()) == {second.id}
            states = {record.id: record.state for record in await watched.ledger.miners()}
            assert states == {first.id: "lost", second.id: "active"}

    simulate(run())


def test_while_nobody_answers_it_is_we_who_are_cut_off() -> None:
    async def run() -> None:
        async with watching() as watched:
            miners = [await watched.add_miner() for _ in range(3)]
            await watched.wait()
            for miner in miners:
                watched.grid.silence(miner.id)
            await watched.wait(2000)
            assert watched.away() == set()
            for miner in miners[:2]:
                watched.grid.network.unsilence(watched.grid.name(miner.id))
            await watched.wait(500)
            assert watched.away() == set(), "its grace begins when others are heard again"
            await watched.wait(200)
            assert watched.away() == {miners[2].id}

    simulate(run())


def prove_identities(watched: Watched) -> None:
    """From now on, as over CURVE: whoever is not the miner that is asked for stays silent."""
    ask = watched.grid.peers.ask

    async def ask_the_right(miner: MinerInfo, message: SpaceReport, **how: Any) -> SpaceFigures:
        space = await ask(miner, message, **how)
        if space.miner != miner.id:
            raise Unreachable("somebody else")
        return space

    watched.grid.peers.ask = ask_the_right  # type: ignore[method-assign,assignment]


async def replace_miner(watched: Watched, miner: Identity) -> None:
    """Another identity answers at the miner's address, as after its directory was wiped."""
    name = watched.grid.name(miner.id)
    transport = MemoryTransport(watched.grid.network, name=f"{name}-anew")
    store = FragmentStore(watched.grid.clock, GIB)
    service = MinerService(store, STRANGER)
    await transport.serve(f"memory://{name}-anew", service.handlers())
    await watched.ledger.submit(
        miner,
        UpdateMiner(address=f"memory://{name}-anew", domain="d", pledged_bytes=GIB, min_price=1),
    )


def test_a_loss_that_the_ledger_does_not_take_from_us_is_not_told_for_ever() -> None:
    async def run() -> None:
        async with watching(owner=STRANGER) as watched:
            miner = await watched.add_miner()
            await watched.wait()
            await replace_miner(watched, miner)
            await watched.wait(10)
            assert watched.free() == {}, "the catalog knows it"
            (record,) = await watched.ledger.miners()
            assert record.state == "active"
            height = watched.height
            await watched.wait(60)
            assert watched.height == height

    simulate(run())


def test_nonsense_that_strangers_register_disturbs_nobody() -> None:
    async def run() -> None:
        async with watching() as watched:
            for number, address in enumerate(("memory://", "memory://nobody", "x", "ipc:///x")):
                await watched.register(Identity(bytes([50 + number]) * 32), address, 0)
            miner = await watched.add_miner()
            await watched.wait(20)
            assert watched.free()[miner.id] == GIB
            assert watched.lease() is not None
            assert all(m.address.startswith("memory://") for m in watched.miners.all())

    simulate(run())


def test_an_owner_without_a_network_draws_on_leases_that_it_bought() -> None:
    async def run() -> None:
        async with watching(owner=STRANGER) as watched:
            await watched.add_miner(pledge=10 * GIB)
            await watched.wait()
            assert watched.lease() is None
            await watched.ledger.submit(OPERATOR, Transfer(to=STRANGER.id, amount=100 * TOKEN))
            first = await watched.ledger.buy_lease(STRANGER, size=64 * MIB)
            await watched.wait()
            assert watched.lease() == Lease(first, 64 * MIB)
            second = await watched.ledger.buy_lease(STRANGER, size=128 * MIB)
            await watched.wait()
            assert watched.lease() == Lease(first, 64 * MIB), "the present one while it has room"
            give = TransferLease(lease=first, to=OPERATOR.id)
            await watched.ledger.submit(STRANGER, give)
            await watched.wait()
            assert watched.lease() == Lease(second, 128 * MIB)
            await watched.ledger.submit(STRANGER, TransferLease(lease=second, to=OPERATOR.id))
            await watched.wait()
            assert watched.lease() == Lease(second, 0), "nothing new comes in"

    simulate(run())
