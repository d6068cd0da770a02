"""A whole network in one process: a ledger, 50 miners and more, gateways with workers and edges.

Every part is the product's own code, put together as its processes do it, on a memory transport,
memory stores and virtual time. What differs from run to run is drawn from the seed.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from random import Random

from msgspec.structs import replace

from chain.client import LedgerClient
from chain.config import ChainConfig
from chain.genesis import TOKEN, Allocation, Genesis, single_operator
from chain.keys.identity import Identity
from chain.ledger.store import MemoryStore
from chain.net.memory import Faults, MemoryTransport
from chain.net.simulation import EPOCH_NS, SimClock
from chain.node import ChainNode
from gateway.store import StoreSettings
from miner.segments import PROFILES, Profile
from tests.simulation.whole.gateways import Edge, Gateway, SharedCatalog, Site, Worker
from tests.simulation.whole.miners import SimulatedMiner
from tests.simulation.whole.processes import Process
from tests.simulation.whole.trace import Trace, TracedNetwork
from tests.unit.object_parts import MIB, MemoryOwners

EPOCH_SECONDS = 6 * 3600
TRADERS = 2
# The first gateway is the network owner's; another one draws on a lease that it buys.
SUFFIXES = ("", "-b")
BOUGHT = 256 * MIB
SEVERAL_SHARE = 0.35  # a second gateway costs a run nearly as much again
LINK = Faults(delay=(0.0005, 0.004))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a seed makes of the network."""

    profile: Profile
    miners: int
    per_domain: int
    gateways: int
    workers: int  # of each gateway, as edges are
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
        gateways = 2 if random.random() < SEVERAL_SHARE else 1
        return cls(
            profile=PROFILES[name],
            miners=random.randint(50, 55),
            per_domain=per_domain,
            gateways=gateways,
            workers=random.randint(2, 4) if gateways == 1 else 2,
            edges=2 if gateways == 1 else 1,
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
        self._validator = self._identity()
        self.traders = [self._identity() for _ in range(TRADERS)]
        self._operators = [self._identity() for _ in range(self.shape.gateways)]
        self.genesis = self._genesis()
        self.ledger = LedgerProcess(self.links, self.genesis, self._validator)
        self.miners = [self._miner(number) for number in range(self.shape.miners)]
        self.gateways = [self._gateway(seed, number) for number in range(self.shape.gateways)]
        self._group: asyncio.TaskGroup

    def _identity(self) -> Identity:
        return Identity.generate(self.random.randbytes)

    def _genesis(self) -> Genesis:
        """One owner, and some accounts with a few tokens."""
        owner, *others = self._operators
        genesis = single_operator("sim", EPOCH_NS, self._validator.id, owner.id, EPOCH_SECONDS)
        purses = [Allocation(one.id.hex(), 100 * TOKEN) for one in (*self.traders, *others)]
        return replace(genesis, accounts=[*genesis.accounts, *purses])

    def _gateway(self, seed: int, number: int) -> Gateway:
        suffix, operator = SUFFIXES[number], self._operators[number]
        site = Site(
            suffix, self.shape.gateways > 1, self.links, self.genesis,
            SharedCatalog(Random(f"catalog{suffix} {seed}")),
            MemoryOwners(self.random.randbytes), operator, self._identity(),
            self.random, self._settings(),
        )  # fmt: skip
        shape = self.shape
        return Gateway(site, self.trace, workers=shape.workers, edges=shape.edges)

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
            among_others=self.shape.gateways > 1,
        )

    @property
    def processes(self) -> list[Process]:
        """Everything that runs."""
        ours = [process for gateway in self.gateways for process in gateway.processes]
        return [self.ledger, *self.miners, *ours]

    @property
    def workers(self) -> list[Worker]:
        """Of all gateways."""
        return [worker for gateway in self.gateways for worker in gateway.workers]

    @property
    def edges(self) -> list[Edge]:
        """Of all gateways."""
        return [edge for gateway in self.gateways for edge in gateway.edges]

    @property
    def problems(self) -> list[str]:
        """What went wrong in programs that never should, and what clients saw."""
        found = [problem for process in self.processes for problem in process.problems]
        for gateway in self.gateways:
            found += [*gateway.catalog.problems, *gateway.model.wrong]
        return found

    async def begin(self, group: asyncio.TaskGroup) -> None:
        """Start all programs; return when clients can store."""
        self._group = group
        self.ledger.start(group)
        await self.clock.sleep(0.1)
        for miner in self.miners:
            miner.start(group)
        if len(self.gateways) > 1:
            await self._buy_leases()
        for process in self.processes:
            process.start(group)
        while not all(gateway.is_ready(self.shape.miners) for gateway in self.gateways):
            await self.clock.sleep(5.0)
        for gateway in self.gateways:
            await gateway.open_buckets()

    async def _buy_leases(self) -> None:
        """For all but the owner, once there is space to lease."""
        transport = MemoryTransport(self.links, name="buyer")
        ledger = LedgerClient(transport.connect("memory://chain"), self.genesis)
        while len(await ledger.miners()) < self.shape.miners:
            await self.clock.sleep(0.5)
        for operator in self._operators[1:]:
            await ledger.buy_lease(operator, size=BOUGHT)
        await transport.close()

    def start(self, process: Process) -> None:
        """Start a program (again)."""
        process.start(self._group)

    async def end(self) -> None:
        """Kill everything, in order."""
        for process in self.processes[::-1]:
            await process.kill()
