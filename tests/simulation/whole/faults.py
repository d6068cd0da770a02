"""What goes wrong in a run, drawn from its seed, and who does it.

Faults may overlap; one that ends early because another of its kind does is as good. Two kinds. What
passes (silence, lost messages, programs that die and start again, full disks, lies) may hit
anything, any number of times. What destroys fragments hits at most as many failure domains as every
acknowledged object survives before repair has completed it: half of the parity, rounded up. When
hours have passed and all is complete, a run may lose as many domains as there is parity.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from chain.net.memory import Faults
from tests.simulation.whole.miners import Lie, SimulatedMiner
from tests.simulation.whole.network import LINK, Shape, SimulatedNetwork
from tests.simulation.whole.processes import Process

PASSING = (
    "silent", "silent", "slow", "lossy", "restart", "restart", "full", "cut", "wrong bytes",
    "all but few full", "wrong length", "all links", "ledger away", "catalog away", "catalog disk",
    "lost answers",
    "worker killed", "worker killed", "edge killed", "edge silent", "repair killed", "clock",
)  # fmt: skip
DESTROYING = ("emptied", "emptied", "drops", "rotten")
BEGINS, LASTS = 120.0, (0.5, 80.0)
SLOW = Faults(delay=(0.5, 6.0))
LOSSY = Faults((0.001, 0.2), loss=0.2, duplication=0.2, reset=0.05)
UNSTEADY = Faults((0.0005, 0.05), loss=0.02, duplication=0.1, reset=0.005)
JUMPS = (-7200.0, -5.0, 5.0, 600.0, 7200.0, 26 * 3600.0)
T = TypeVar("T")
# A fault that begins and ends; the number picks whom it hits.
Make = Callable[[int], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` at `begins` seconds of a wave, for `lasts` seconds; `target` picks whom it hits."""

    kind: str
    begins: float
    lasts: float
    target: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All faults of one wave."""

    faults: tuple[Fault, ...]

    @classmethod
    def draw(cls, random: Random, shape: Shape) -> "Plan":
        """4 to 12 passing faults, and up to half of the parity destroyed."""
        kinds = random.choices(PASSING, k=random.randint(4, 12))
        bearable = (shape.profile.m + 1) // 2
        domains = random.sample(range(shape.domains), random.randint(0, bearable))
        # what rots where nobody looks cannot be mended
        destroying = DESTROYING if shape.scrubs else DESTROYING[:-1]
        faults = [cls._fault(random, kind, random.getrandbits(32)) for kind in kinds]
        faults += [cls._fault(random, random.choice(destroying), domain) for domain in domains]
        return cls(tuple(sorted(faults, key=lambda fault: fault.begins)))

    @staticmethod
    def _fault(random: Random, kind: str, target: int) -> Fault:
        return Fault(kind, random.uniform(0.0, BEGINS), random.uniform(*LASTS), target)


class Saboteur:
    """Carries plans out."""

    def __init__(self, network: SimulatedNetwork, random: Random) -> None:
        self.network = network
        self.done = 0
        self._random = random
        self._kinds: dict[str, Make] = {
            "silent": self._silent,
            "slow": self._degraded(SLOW),
            "lossy": self._degraded(LOSSY),
            "restart": self._restart,
            "full": self._full,
            "all but few full": self._all_but_few_full,
            "cut": self._cut,
            "wrong bytes": self._lying(Lie.BYTES),
            "wrong length": self._lying(Lie.LENGTH),
            "all links": self._all_links,
            "ledger away": lambda _: self._killed(self.network.ledger),
            "catalog away": lambda target: self._killed(_pick(network.gateways, target).process),
            "catalog disk": self._catalog_disk,
            "lost answers": self._lost_answers,
            "worker killed": lambda target: self._killed(_pick(network.workers, target)),
            "edge killed": lambda target: self._killed(_pick(network.edges, target)),
            "repair killed": lambda target: self._killed(_pick(network.gateways, target).repair),
            "edge silent": lambda target: self._mute(_pick(network.edges, target)),
            "clock": self._clock,
            "emptied": self._emptied,
            "drops": self._drops,
            "rotten": self._rotten,
        }

    async def carry_out(self, plan: Plan) -> None:
        """All of it; returns when the last fault is over."""
        async with asyncio.TaskGroup() as group:
            for fault in plan.faults:
                group.create_task(self._do(fault))

    async def lose_parity(self) -> None:
        """Empty as many domains at once as a complete object survives: all of its parity."""
        domains = self._random.sample(
            range(self.network.shape.domains), self.network.shape.profile.m
        )
        self.network.trace.note(f"all miners of {domains} are emptied")
        for domain in domains:
            async with self._emptied(domain):
                self.done += 1

    async def _do(self, fault: Fault) -> None:
        clock, trace = self.network.clock, self.network.trace
        await clock.sleep(fault.begins)
        trace.note(f"fault {fault.kind} {fault.target} for {fault.lasts:.1f} s")
        async with self._kinds[fault.kind](fault.target):
            self.done += 1
            await clock.sleep(fault.lasts)
        trace.note(f"end of {fault.kind} {fault.target}")

    # ------------------------------------------------------------ processes and links
    @asynccontextmanager
    async def _killed(self, process: Process) -> AsyncIterator[None]:
        await process.kill()
        yield
        self.network.start(process)

    @asynccontextmanager
    async def _mute(self, process: Process) -> AsyncIterator[None]:
        self.network.links.silence(process.name)
        yield
        self.network.links.unsilence(process.name)

    @asynccontextmanager
    async def _cut(self, target: int) -> AsyncIterator[None]:
        """A program of a gateway does not reach a quarter of the miners."""
        network = self.network
        gateway = _pick(network.gateways, target)
        source = _pick([gateway.process, gateway.repair, *gateway.workers], target)
        away = self._random.sample(network.miners, len(network.miners) // 4)
        for miner in away:
            network.links.partition(source.name, miner.name)
        yield
        network.links.heal()

    @asynccontextmanager
    async def _all_links(self, _: int) -> AsyncIterator[None]:
        self.network.links.faults = UNSTEADY
        yield
        self.network.links.faults = LINK

    @asynccontextmanager
    async def _catalog_disk(self, target: int) -> AsyncIterator[None]:
        catalog = _pick(self.network.gateways, target).catalog
        catalog.broken = True
        yield
        catalog.broken = False

    @asynccontextmanager
    async def _lost_answers(self, target: int) -> AsyncIterator[None]:
        catalog = _pick(self.network.gateways, target).catalog
        catalog.losing = 0.3
        yield
        catalog.losing = 0.0

    @asynccontextmanager
    async def _clock(self, target: int) -> AsyncIterator[None]:
        """One node's wall time jumps and stays; later it is set right."""
        process = _pick(self.network.processes, target)
        seconds = self._random.choice(JUMPS)
        process.clock.jump(seconds)
        yield
        process.clock.jump(-seconds)

    # ------------------------------------------------------------ miners
    def _victim(self, target: int) -> SimulatedMiner:
        return _pick(self.network.miners, target)

    def _of_domain(self, domain: int) -> list[SimulatedMiner]:
        return [miner for miner in self.network.miners if miner.domain == f"host{domain}"]

    def _silent(self, target: int) -> AbstractAsyncContextManager[None]:
        return self._mute(self._victim(target))

    def _restart(self, target: int) -> AbstractAsyncContextManager[None]:
        return self._killed(self._victim(target))

    def _degraded(self, faults: Faults) -> Make:
        @asynccontextmanager
        async def degraded(target: int) -> AsyncIterator[None]:
            name = self._victim(target).name
            self.network.links.degrade(name, faults)
            yield
            self.network.links.degrade(name, None)

        return degraded

    @asynccontextmanager
    async def _full(self, target: int) -> AsyncIterator[None]:
        store = self._victim(target).store
        store.full = True
        yield
        store.full = False

    @asynccontextmanager
    async def _all_but_few_full(self, _: int) -> AsyncIterator[None]:
        """Room is left at one miner fewer than a write needs, and no two of them fail together."""
        domains = self.network.shape.domains
        few = self._random.sample(range(domains), self.network.shape.profile.quorum - 1)
        roomy = [self._of_domain(domain)[0] for domain in few]
        full = [miner.store for miner in self.network.miners if miner not in roomy]
        for store in full:
            store.full = True
        yield
        for store in full:
            store.full = False

    def _lying(self, lie: Lie) -> Make:
        @asynccontextmanager
        async def lying(target: int) -> AsyncIterator[None]:
            store = self._victim(target).store
            if store.lie is Lie.NONE:
                store.lie = lie
            yield
            store.lie = Lie.NONE

        return lying

    # ------------------------------------------------------------ what destroys
    @asynccontextmanager
    async def _emptied(self, domain: int) -> AsyncIterator[None]:
        """The directories of a domain's miners are wiped while they are down."""
        for miner in self._of_domain(domain):
            await miner.kill()
            miner.empty()
        yield
        for miner in self._of_domain(domain):
            self.network.start(miner)

    @asynccontextmanager
    async def _drops(self, domain: int) -> AsyncIterator[None]:
        for miner in self._of_domain(domain):
            miner.store.lie = Lie.DROPS
        yield
        for miner in self._of_domain(domain):
            miner.store.lie = Lie.NONE

    @asynccontextmanager
    async def _rotten(self, domain: int) -> AsyncIterator[None]:
        """Bytes flip in some of what a domain's miners hold."""
        for miner in self._of_domain(domain):
            keys = miner.rot(self._random, self._random.randint(1, 5))
            self.network.trace.note(f"{miner.name}: {len(keys)} fragments rot")
        yield


def _pick(items: Sequence[T], target: int) -> T:
    return items[target % len(items)]
