"""Bids: commit, reveal, claim. The clearing itself is chain/economy/epochs.py.

A bid is committed in one epoch, revealed in the next and takes part in the clearing at that epoch's
end and in later ones until it wins or expires. So both windows are always open, each lasts a whole
epoch, and no bidder sees another's bid before its own is fixed.
"""

import hashlib
from typing import Annotated, ClassVar

from msgspec import Meta
from msgspec.structs import replace

from chain import dagcbor
from chain.economy.price import lease_cost
from chain.errors import Rejected
from chain.ids import AccountId
from chain.ledger import records
from chain.ledger.execution import Execution
from chain.ledger.records import Bid, Lease
from chain.ledger.transactions.body import Body, Id, Months, Price, Size

_DOMAIN = b"cumulus/bid/1\x00"


def commitment(
    owner: AccountId, *, price: int, size: int, months: int, epochs: int, salt: bytes
) -> bytes:
    """SHA-256 over the terms and a 32-byte salt that hides them."""
    terms = [bytes(owner), price, size, months, epochs, salt]
    return hashlib.sha256(_DOMAIN + dagcbor.encode(terms)).digest()


def bid_id(owner: AccountId, committed: bytes) -> bytes:
    """The id of a bid (32 bytes)."""
    return hashlib.sha256(owner + committed).digest()


class CommitBid(Body, frozen=True):
    """Bind the signer to a bid nobody can read yet; the deposit is lost without a reveal."""

    name: ClassVar[str] = "commit_bid"
    commitment: Id

    def apply(self, run: Execution) -> None:
        key = bid_id(run.signer, self.commitment)
        market = run.market
        if run.state.get(records.BIDS, key) is not None:
            raise Rejected("exists", "this commitment is there already")
        if market.bids >= run.parameters.bids_max:
            raise Rejected("limit", f"{market.bids} bids wait already")
        deposit = run.parameters.bid_deposit
        run.debit(run.signer, deposit)
        run.move("bids", deposit)
        bid = Bid(run.signer, self.commitment, "committed", market.epoch, deposit, deposit)
        run.state.put(records.BIDS, key, bid)
        run.set_market(replace(market, bids=market.bids + 1))
        run.emit("bid_committed", bid=key, owner=run.signer, epoch=market.epoch)


class RevealBid(Body, frozen=True):
    """Open a bid in the epoch after its commitment. Anyone who knows the terms may send it.

    `price` is the most that the owner pays per GiB-month; that much is held until it is decided.
    """

    name: ClassVar[str] = "reveal_bid"
    bid: Id
    price: Price
    size: Size
    months: Months
    epochs: Annotated[int, Meta(ge=1, le=10_000)]  # how many clearings it takes part in
    salt: Id

    def apply(self, run: Execution) -> None:
        bid, market = _bid(run, self.bid), run.market
        if bid.state != "committed":
            raise Rejected("conflict", f"the bid is {bid.state}")
        if market.epoch != bid.epoch + 1:
            raise Rejected("window_closed", f"to be revealed in epoch {bid.epoch + 1}")
        if not self.opens(bid):
            raise Rejected("wrong_opening", "these are not the committed terms")
        month = run.parameters.month_epochs
        cost = lease_cost(self.price, self.size, self.months * month, month)
        held = max(0, cost - bid.deposit)
        run.debit(bid.owner, held)
        run.move("bids", held)
        lifetime = min(self.epochs, run.parameters.bid_lifetime_epochs)
        after = replace(
            bid,
            state="revealed",
            escrow=bid.deposit + held,
            price=self.price,
            size=self.size,
            months=self.months,
            expires=market.epoch + lifetime - 1,
        )
        run.state.put(records.BIDS, self.bid, after)
        run.set_market(replace(market, mix=hashlib.sha256(market.mix + self.salt).digest()))
        run.emit("bid_revealed", bid=self.bid, price=self.price, size=self.size)

    def opens(self, bid: Bid) -> bool:
        """Whether these are the terms that the bid is bound to."""
        opened = commitment(
            bid.owner,
            price=self.price,
            size=self.size,
            months=self.months,
            epochs=self.epochs,
            salt=self.salt,
        )
        return opened == bid.commitment


class ClaimLease(Body, frozen=True):
    """Turn a bid that won into its lease; what was held beyond the clearing price comes back."""

    name: ClassVar[str] = "claim_lease"
    bid: Id

    def apply(self, run: Execution) -> None:
        bid, market = _bid(run, self.bid), run.market
        if bid.state != "won":
            raise Rejected("conflict", f"the bid is {bid.state}")
        if run.signer != bid.owner:
            raise Rejected("not_owner", "only the bidder claims")
        month = run.parameters.month_epochs
        epochs = bid.months * month
        cost = lease_cost(bid.price, bid.size, epochs, month)
        assert cost <= bid.escrow, "the clearing price never exceeds the bid"
        run.state.put(records.BIDS, self.bid, None)
        run.set_market(replace(market, bids=market.bids - 1))
        run.move("bids", -bid.escrow)
        run.move("leases", cost)
        run.credit(bid.owner, bid.escrow - cost)
        start, end = market.epoch, market.epoch + epochs
        run.earn(cost, start, epochs)
        lease = Lease(
            bid.owner, bid.size, bid.price, start, end, reserved=0, used=0, state="active"
        )
        run.open_lease(self.bid, lease)


def _bid(run: Execution, key: bytes) -> Bid:
    bid = run.state.get(records.BIDS, key)
    if bid is None:
        raise Rejected("not_found", f"no bid {key.hex()}")
    return bid
