"""Accounts that trade on the ledger while objects are stored: tokens move, and none may be lost."""

from random import Random
from typing import TYPE_CHECKING

from chain.client import LedgerClient, TransactionFailed
from chain.genesis import MIB
from chain.keys.identity import Identity
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.leases import TransferLease
from chain.net.memory import MemoryTransport
from chain.net.transport import RemoteError, Unreachable
from tests.simulation.whole.network import SimulatedNetwork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

THINKS = (0.0, 1.0, 30.0, 60.0)


class Trader:
    """One account, at the other end of a link to the ledger."""

    def __init__(self, number: int, seed: int, network: SimulatedNetwork) -> None:
        self.name = f"trader{number}"
        self._random = Random(f"{self.name} {seed}")
        self._network = network
        self._identity = network.traders[number]
        self._transport = MemoryTransport(network.links, name=self.name)
        peer = self._transport.connect("memory://chain")
        self._ledger = LedgerClient(peer, network.genesis)

    async def run(self, operations: int) -> None:
        """Do so many operations, one after the other. What the ledger refuses is no fault."""
        kinds = (self.pay, self.buy, self.bid, self.claim, self.give)
        for _ in range(operations):
            await self._network.clock.sleep(self._random.choice(THINKS) * self._random.random())
            kind: Callable[[], Awaitable[object]] = self._random.choice(kinds)
            try:
                await kind()
                outcome = "ok"
            except (TransactionFailed, RemoteError, Unreachable) as error:
                outcome = getattr(error, "code", type(error).__name__)
            self._network.trace.note(f"{self.name} {kind.__name__} {outcome}")

    async def pay(self) -> None:
        """Tokens to somebody else, perhaps more than there are."""
        amount = self._random.choice([1, 10**6, 10**10, 10**15])
        await self._ledger.submit(self._identity, Transfer(to=self._other().id, amount=amount))

    async def buy(self) -> None:
        """A lease at the instant price."""
        await self._ledger.buy_lease(self._identity, size=self._size())

    async def bid(self) -> None:
        """A bid that the node reveals when its time comes."""
        price = (await self._ledger.price()).current * self._random.randint(1, 4) // 2
        await self._ledger.bid(self._identity, price=max(1, price), size=self._size())

    async def claim(self) -> None:
        """Whatever was won."""
        await self._ledger.claim_all(self._identity)

    async def give(self) -> None:
        """A lease to somebody else."""
        leases = await self._ledger.leases(self._identity.id)
        for lease in list(leases)[:1]:
            body = TransferLease(lease=lease, to=self._other().id)
            await self._ledger.submit(self._identity, body)

    async def close(self) -> None:
        """Hang up."""
        await self._transport.close()

    def _other(self) -> Identity:
        return self._random.choice(self._network.traders)

    def _size(self) -> int:
        return self._random.randint(1, 64) * MIB
