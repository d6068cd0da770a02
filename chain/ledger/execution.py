"""What a transaction's body sees while it is applied: the state, the block, and money moves.

Every move of tokens goes through `debit`, `credit` and `move`, so that tokens are conserved.
"""

import hashlib
from typing import Literal

from msgspec.structs import replace

from chain.errors import Rejected
from chain.genesis import Genesis, Parameters
from chain.ids import AccountId
from chain.ledger import records
from chain.ledger.block import Event
from chain.ledger.records import SINGLETON, Account, Flow, Lease, Market, Totals, u64
from chain.ledger.state import State

Pot = Literal["treasury", "leases", "bids", "collateral", "burned"]
# Sums of bytes stay within the formats' 63 bits.
PLEDGED_MAX = 1 << 62
OPERATOR_LEASE = hashlib.sha256(b"cumulus/operator-lease/1").digest()


class Execution:
    """One block being executed; `signer`, `digest` and `events` are the current transaction's."""

    def __init__(self, state: State, genesis: Genesis, height: int, time_ns: int) -> None:
        self.state = state
        self.genesis = genesis
        self.height = height
        self.time_ns = time_ns
        self.signer = AccountId(b"")
        self.digest = b""  # SHA-256 of the transaction
        self.events: list[Event] = []

    @property
    def parameters(self) -> Parameters:
        return self.genesis.parameters

    @property
    def totals(self) -> Totals:
        totals = self.state.get(records.TOTALS, SINGLETON)
        assert totals is not None, "init_chain has run"
        return totals

    @property
    def market(self) -> Market:
        market = self.state.get(records.MARKET, SINGLETON)
        assert market is not None, "init_chain has run"
        return market

    def set_market(self, market: Market) -> None:
        """Replace the market's record."""
        self.state.put(records.MARKET, SINGLETON, market)

    def emit(self, event_type: str, **attributes: int | str | bytes) -> None:
        """Record an event."""
        self.events.append(Event(event_type, attributes))

    # ------------------------------------------------------------ money

    def account(self, account: AccountId) -> Account:
        """The account; one that nobody paid yet is empty."""
        return self.state.get(records.ACCOUNTS, account) or Account(0, 0)

    def debit(self, account: AccountId, amount: int) -> None:
        """Take from an account; `credit` or `move` must follow. Raises Rejected."""
        assert amount >= 0
        before = self.account(account)
        if before.balance < amount:
            raise Rejected("insufficient_funds", f"needs {amount}, has {before.balance} units")
        if amount:
            after = replace(before, balance=before.balance - amount)
            self.state.put(records.ACCOUNTS, account, after)

    def credit(self, account: AccountId, amount: int) -> None:
        """Give what was taken elsewhere."""
        assert amount >= 0
        if amount:
            before = self.account(account)
            after = replace(before, balance=before.balance + amount)
            self.state.put(records.ACCOUNTS, account, after)

    def move(self, pot: Pot, amount: int) -> None:
        """Add to a pot (or take, when negative)."""
        totals = self.totals
        after: int = getattr(totals, pot) + amount
        assert after >= 0, (pot, after)
        self.state.put(records.TOTALS, SINGLETON, replace(totals, **{pot: after}))

    # ------------------------------------------------------------ space

    def capacity(self) -> int:
        """Bytes that can still be leased."""
        market = self.market
        usable = market.pledged * (1000 - self.parameters.margin_permille) // 1000
        return max(0, usable - market.leased)

    def change_pledge(self, difference: int) -> None:
        """Active pledged space grew or fell; the operator's lease follows it. Raises Rejected."""
        market = self.market
        if difference > 0 and market.pledged + difference > PLEDGED_MAX:
            raise Rejected("limit", f"a network has at most {PLEDGED_MAX} pledged bytes")
        self.set_market(replace(market, pledged=market.pledged + difference))
        lease = self.state.get(records.LEASES, OPERATOR_LEASE)
        if lease is None:
            return
        market = self.market
        wanted = market.pledged * self.parameters.operator_share_permille // 1000
        size = max(wanted, lease.reserved)  # it never clears data
        self.set_market(replace(market, leased=market.leased + size - lease.size))
        self.state.put(records.LEASES, OPERATOR_LEASE, replace(lease, size=size))
        self.emit("operator_lease", size=size, pledged=market.pledged)

    def open_lease(self, key: bytes, lease: Lease) -> None:
        """Write a new lease and its index rows; space and money are the caller's business."""
        assert self.state.get(records.LEASES, key) is None
        self.state.put(records.LEASES, key, lease)
        here = records.Mark(self.height)
        self.state.put(records.LEASES_BY_OWNER, lease.owner + key, here)
        if lease.end:
            self.state.put(records.ENDS, u64(lease.end) + key, here)
        self.emit(
            "lease_opened",
            lease=key,
            owner=lease.owner,
            size=lease.size,
            price=lease.price,
            start=lease.start,
            end=lease.end,
        )

    def earn(self, amount: int, start: int, epochs: int) -> None:
        """Spread a lease's fee (already in the pot `leases`) over `epochs` from `start` on."""
        each, rest = divmod(amount, epochs)
        self._change_flow(start, Flow(each, 0, rest))
        self._change_flow(start + epochs, Flow(0, each, 0))

    def _change_flow(self, epoch: int, change: Flow) -> None:
        before = self.state.get(records.FLOWS, u64(epoch)) or Flow(0, 0, 0)
        after = Flow(
            before.add + change.add, before.remove + change.remove, before.once + change.once
        )
        self.state.put(records.FLOWS, u64(epoch), after)
