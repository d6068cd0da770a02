"""A whole network in one process: a ledger, 50 miners and more, workers, edges.

Every part is the product's own code, put together as its processes do it, on a memory transport,
memory stores and virtual time. What differs from run to run is drawn from the seed.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from chain.config import ChainConfig
from chain.genesis import TOKEN, Allocation, Genesis, single_operator
from chain.keys.identity import Identity
from chain.ledger.store import MemoryStore
from chain.net.memory import Faults, MemoryTransport
from chain.net.simulation import EPOCH_NS, SimClock
from chain.node import ChainNode
from gateway.store import Lease, StoreSettings
from gateway.view import CatalogLeases, CatalogMiners
from miner.segments import PROFILES, Profile
from tests.simulation.whole.gateways import (
    CatalogProcess,
    Edge,
    RepairProcess,
    SharedCatalog,
    Site,
    Worker,
)
from tests.simulation.whole.miners import SimulatedMiner
from tests.simulation.whole.processes import Process
from tests.simulation.whole.trace import Trace, TracedNetwork
from tests.unit.object_parts import MIB, MemoryOwners

if TYPE_CHECKING:
    from gateway.model import Bucket

EPOCH_SECONDS = 6 * 3600
TRADERS = 2
LINK = Faults(delay=(0.0005, 0.004))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a seed makes of the network."""

    profile: Profile
    miners: int
    per_domain: int
    workers: int
    edges: int
    scrubs: bool  # miners read all they hold once in half an hour

    @property
    def domains(self) -> int:
        """What fails together: hosts of one or two miners."""
        return -(-self.miners // self.per_domain)

    @classmethod
    def draw(cls, random: Random) -> "Shape":
        """Half of all runs use the profile of a small network."""
        name = random.choice(["small", "small", "mirror", "cess", "standard"])
        per_domain = random.choice([1, 1, 2])
        return cls(
            profile=PROFILES[name],
            miners=random.randint(50, 55),
            per_domain=per_domain,
            workers=random.randint(2, 4),
            edges=2,
            scrubs=random.random() < 0.2,  # looking for what is due costs a run as much as clients
        )


class LedgerProcess(Process):
    """The one validator."""

    def __init__(self, network: TracedNetwork, genesis: Genesis, validator: Identity) -> None:
        super().__init__("chain", network.trace)
        self.store = MemoryStore()
        self._network = network
        self._genesis = genesis
        self._validator = validator

    async def run(self) -> None:
        """See Process."""
        config = ChainConfig(Path("memory"), f"memory://{self.name}", watch_seconds=300.0)
        transport = MemoryTransport(self._network, name=self.name)
        node = ChainNode(config, transport, self.clock, self.store, self._genesis, self._validator)
        await node.run(asyncio.Event())


class SimulatedNetwork:
    """All programs and what they share. One per run."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self.random = Random(f"network {seed}")
        self.trace = trace
        self.clock = SimClock()
        self.shape = Shape.draw(self.random)
        self.links = TracedNetwork(Random(f"links {seed}"), LINK)
        self.links.trace = trace
        validator, operator, gateway = (Identity.generate(self.random.randbytes) for _ in range(3))
        self.operator = operator
        self.traders = [Identity.generate(self.random.randbytes) for _ in range(TRADERS)]
        self.genesis = self._genesis(validator)
        self.catalog = SharedCatalog(Random(f"catalog {seed}"))
        self.ledger = LedgerProcess(self.links, self.genesis, validator)
        self.site = Site(
            self.links, self.genesis, self.catalog, MemoryOwners(self.random.randbytes),
            operator, gateway, self.random, self._settings(),
        )  # fmt: skip
        self.miners = [self._miner(number) for number in range(self.shape.miners)]
        self.gateway = CatalogProcess(self.site, trace)
        self.repair = RepairProcess(self.site, trace)
        self.edges = [Edge(f"edge{n}", self.links, trace) for n in range(self.shape.edges)]
        self.workers = [
            Worker(f"worker{n}", self.site, trace, edge=self._edge_of(n))
            for n in range(self.shape.workers)
        ]
        self.buckets: list[Bucket] = []
        self._group: asyncio.TaskGroup

    def _genesis(self, validator: Identity) -> Genesis:
        """One owner, and some accounts with a few tokens."""
        genesis = single_operator("sim", EPOCH_NS, validator.id, self.operator.id, EPOCH_SECONDS)
        purses = [Allocation(trader.id.hex(), 100 * TOKEN) for trader in self.traders]
        return replace(genesis, accounts=[*genesis.accounts, *purses])

    def _edge_of(self, worker: int) -> str:
        """The last worker reads from the miners."""
        return self.edges[worker].name if worker < min(2, self.shape.workers - 1) else ""

    def _settings(self) -> StoreSettings:
        return StoreSettings(
            profile=self.shape.profile.name,
            inline_max=256,
            segment_chunks=1,
            ring_bytes=8 * MIB,
            frame_bytes=64 * MIB,
            read_bytes=8 * MIB,
        )

    def _miner(self, number: int) -> SimulatedMiner:
        domain = f"host{number // self.shape.per_domain}"
        return SimulatedMiner(
            f"miner{number}",
            domain,
            self.links,
            self.genesis,
            self.random,
            self.trace,
            scrubs=self.shape.scrubs,
        )

    @property
    def processes(self) -> list[Process]:
        """Everything that runs."""
        return [
            self.ledger, *self.miners, self.gateway, self.repair, *self.edges, *self.workers
        ]  # fmt: skip

    @property
    def problems(self) -> list[str]:
        """What went wrong in programs that never should."""
        found = [problem for process in self.processes for problem in process.problems]
        return [*self.catalog.problems, *found]

    async def begin(self, group: asyncio.TaskGroup) -> None:
        """Start all programs; return when clients can store."""
        self._group = group
        for process in self.processes:
            process.start(group)
            if process is self.ledger:
                await self.clock.sleep(0.1)
        miners, leases = CatalogMiners(self.catalog), CatalogLeases(self.catalog)
        while len(miners.all()) < self.shape.miners or leases.lease("") is None:
            await self.clock.sleep(5.0)
        await self._open_buckets()

    async def _open_buckets(self) -> None:
        worker = self.workers[0]
        for name in ("ann", "bob"):
            account = (await worker.accounts().create(name, id=name)).account
            self.buckets.append(
                await worker.request(
                    lambda objects, account=account: objects.create_bucket(  # type: ignore[misc]
                        account, f"{account.id}-things"
                    )
                )
            )

    def start(self, process: Process) -> None:
        """Start a program (again)."""
        process.start(self._group)

    async def end(self) -> None:
        """Kill everything, in order."""
        for process in self.processes[::-1]:
            await process.kill()

    def lease(self) -> Lease:
        """The lease that everybody draws on."""
        lease = CatalogLeases(self.catalog).lease("")
        assert lease is not None
        return lease
