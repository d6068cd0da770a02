"""Miners with disks that fill up, rot and go away, and miners that lie."""

import asyncio
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from random import Random

from chain.client import LedgerClient
from chain.clock import Clock
from chain.genesis import Genesis
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.members import Members
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.transport import Buffer
from miner.access import Access
from miner.config import MIB, MinerConfig
from miner.fragment import FragmentRecord
from miner.node import MinerNode
from miner.registrar import LedgerRegistrar
from miner.store.interface import Stored, StoreFull
from miner.store.memory import MemoryStore
from tests.simulation.whole.processes import Process
from tests.simulation.whole.trace import Trace

PLEDGE = 64 * MIB
SWEEP_SECONDS = 300.0
SCRUB_SECONDS = 1800.0
STAGED_SECONDS = 24 * 3600.0
# The product reads who is registered every ten seconds too; here when somebody unknown asks alone.
MEMBERS_SECONDS = 3600.0


class Lie(Enum):
    """What a miner may do behind its signature."""

    NONE = "none"
    BYTES = "sends wrong bytes"
    LENGTH = "sends too few bytes"
    DROPS = "signs and drops"


class FaultyStore(MemoryStore):
    """A store that can be full, and that can lie to those who ask its miner."""

    def __init__(self, clock: Clock, pledge: int) -> None:
        super().__init__(clock, pledge)
        self.full = False
        self.lie = Lie.NONE

    def put(
        self, record: FragmentRecord, payload: Buffer, owner: AccountId | None = None
    ) -> asyncio.Future[Stored]:
        if self.full:
            raise StoreFull("the disk is full")
        stored = super().put(record, payload, owner)
        if self.lie is Lie.DROPS:
            self.forget([record.key])
        return stored

    async def read(
        self, key: bytes, start: int, end: int, room: memoryview | None = None
    ) -> Buffer:
        found = await super().read(key, start, end, room)
        if self.lie is Lie.BYTES:
            return bytes(byte ^ 0x5A for byte in found)
        return found[:-1] if self.lie is Lie.LENGTH else found

    def keys(self) -> list[bytes]:
        """Every fragment that is here."""
        return [key for key, _ in self.scan(b"", 1 << 30)]


class SimulatedMiner(Process):
    """A MinerNode over a memory store; `empty` makes it another miner in the same place.

    It has one gateway on its own machine, or serves all that are registered (`among_others`).
    """

    def __init__(
        self,
        name: str,
        domain: str,
        network: MemoryNetwork,
        genesis: Genesis,
        random: Random,
        trace: Trace,
        *,
        scrubs: bool,
        among_others: bool,
    ) -> None:
        super().__init__(name, trace)
        self.domain = domain
        self._network = network
        self._genesis = genesis
        self._random = random
        self._scrubs = scrubs
        self._among_others = among_others
        self.identity: Identity
        self.store: FaultyStore
        self.empty()

    def empty(self) -> None:
        """Its directory was wiped: the next start begins with another identity and nothing."""
        self.identity = Identity.generate(self._random.randbytes)
        self.store = FaultyStore(self.clock, PLEDGE)

    def rot(self, random: Random, count: int) -> Sequence[bytes]:
        """Flip a byte in up to `count` fragments; which."""
        keys = self.store.keys()
        chosen = random.sample(keys, min(count, len(keys)))
        for key in chosen:
            self.store.damage(key)
        return chosen

    async def run(self) -> None:
        """See Process."""
        transport = MemoryTransport(
            self._network, name=self.name, identity=self.identity.id if self._among_others else None
        )
        config = MinerConfig(
            name=self.name,
            data_dir=Path("memory"),
            listen=f"memory://{self.name}",
            pledge=PLEDGE,
            owner="" if self._among_others else "memory://catalog",
            domain=self.domain,
            sweep_every=SWEEP_SECONDS,
            staged_for=STAGED_SECONDS,
            scrub_rate=MIB if self._scrubs else 0,
            scrub_cycle=SCRUB_SECONDS,
        )
        ledger = LedgerClient(transport.connect("memory://chain"), self._genesis)
        registrar = LedgerRegistrar(ledger, self.identity, domain=self.domain, price=0)
        members = None
        if self._among_others:
            members = Members(ledger, self.clock, None, every=MEMBERS_SECONDS)
        node = MinerNode(
            config, transport, self.clock, self.store, self.identity,
            registrar=registrar, access=Access(members=members),
        )  # fmt: skip
        try:
            await node.run(asyncio.Event())
        finally:
            await transport.close()
