"""A ledger without a driver, for tests: one call makes a block."""

import random
from typing import Any

from msgspec.structs import replace

from chain.application import Application, Finalized
from chain.genesis import Genesis, single_operator
from chain.keys.identity import Identity
from chain.ledger import records
from chain.ledger.block import Result
from chain.ledger.store import LedgerStore, MemoryStore
from chain.ledger.transactions.body import Body
from chain.ledger.transactions.envelope import sign

EPOCH = 100
START = 10**18


def identity(number: int) -> Identity:
    return Identity(random.Random(number).randbytes(32))


def with_parameters(**changes: Any) -> Genesis:
    """The fixture's genesis with other parameters."""
    genesis = single_operator("test", START, identity(2).id, identity(1).id, EPOCH)
    return replace(genesis, parameters=replace(genesis.parameters, **changes))


class Ledger:
    """Blocks on demand at a time of our own."""

    def __init__(self, store: LedgerStore | None = None, genesis: Genesis | None = None) -> None:
        self.operator, self.validator = identity(1), identity(2)
        self.genesis = genesis or single_operator(
            "test", START, self.validator.id, self.operator.id, EPOCH
        )
        self.application = Application(store or MemoryStore(), self.genesis)
        if self.application.is_new:
            self.application.init_chain()
        self.time_ns = START
        self.last = Finalized([], [], b"")

    def block(self, transactions: list[bytes], seconds: float = 0.001) -> list[Result]:
        self.time_ns += int(seconds * 10**9)
        height = self.application.info().height + 1
        self.last = self.application.finalize_block(height, self.time_ns, bytes(32), transactions)
        self.application.commit({})
        return self.last.results

    def signed(self, signer: Identity, body: Body, nonce: int | None = None) -> bytes:
        account = self.application.get(records.ACCOUNTS, signer.id)
        at = account.nonce if account else 0
        return sign(
            signer,
            body,
            chain="test",
            nonce=at if nonce is None else nonce,
            fee=self.genesis.parameters.fee_min,
            expiry=self.application.info().height + 10,
        )

    def do(self, signer: Identity, body: Body) -> Result:
        return self.block([self.signed(signer, body)])[0]

    def end_epoch(self, count: int = 1) -> None:
        """A block at the end of the running epoch, and of those that follow."""
        for _ in range(count):
            self.block([], (self.market.end_ns - self.time_ns) / 10**9)

    @property
    def market(self) -> records.Market:
        market = self.application.get(records.MARKET, b"")
        assert market is not None
        return market

    def balance(self, account: Identity) -> int:
        record = self.application.get(records.ACCOUNTS, account.id)
        return record.balance if record else 0

    def events(self, *types: str) -> list[dict[str, Any]]:
        """The last block's own events of these types."""
        return [event.attributes for event in self.last.events if event.type in types]

    def unaccounted(self) -> int:
        """Supply minus all tokens found anywhere; 0 when tokens are conserved."""
        totals = self.application.get(records.TOTALS, b"")
        assert totals is not None
        with self.application.read() as snapshot:
            rows = snapshot.rows(records.ACCOUNTS, b"", b"", 10**6).rows
        balances = sum(records.decode(records.ACCOUNTS, raw).balance for _, raw in rows)
        pots = totals.treasury + totals.leases + totals.bids + totals.collateral + totals.burned
        return totals.supply - balances - pots
