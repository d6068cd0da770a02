"""Leases: instant purchase, renewal, transfer, gateways' authorisation and reservation."""

from itertools import islice
from typing import ClassVar

from msgspec.structs import replace

from chain.economy.price import lease_cost
from chain.errors import Rejected
from chain.ids import AccountId
from chain.ledger import records
from chain.ledger.execution import Execution
from chain.ledger.records import Authorisation, Lease, Mark, u64
from chain.ledger.transactions.body import Body, Bytes, Id, Months, Price, Size

# A transfer of the lease touches them all.
GATEWAYS_MAX = 100


def instant_price(price: int, premium_permille: int) -> int:
    """The current price and its premium, rounded up."""
    return price + -(-price * premium_permille // 1000)


class BuyLease(Body, frozen=True):
    """Lease at once, at the current price plus the premium, while capacity lasts."""

    name: ClassVar[str] = "buy_lease"
    size: Size
    months: Months
    max_price: Price  # refused when the price has moved above it

    def apply(self, run: Execution) -> None:
        market, month = run.market, run.parameters.month_epochs
        price = instant_price(market.price, run.parameters.premium_permille)
        _check_price(price, self.max_price)
        free = run.capacity()
        if self.size > free:
            raise Rejected("no_capacity", f"{free} bytes are free")
        epochs = self.months * month
        cost = lease_cost(price, self.size, epochs, month)
        run.debit(run.signer, cost)
        run.move("leases", cost)
        run.earn(cost, market.epoch, epochs)
        run.set_market(replace(run.market, leased=market.leased + self.size))
        end = market.epoch + epochs
        lease = Lease(
            run.signer, self.size, price, market.epoch, end, reserved=0, used=0, state="active"
        )
        run.open_lease(run.digest, lease)


class RenewLease(Body, frozen=True):
    """Lengthen the term at the current price. In grace it starts again at once."""

    name: ClassVar[str] = "renew_lease"
    lease: Id
    months: Months
    max_price: Price

    def apply(self, run: Execution) -> None:
        lease = _owned(run, self.lease)
        if not lease.end:
            raise Rejected("conflict", "this lease renews itself")
        market, month = run.market, run.parameters.month_epochs
        _check_price(market.price, self.max_price)
        epochs = self.months * month
        cost = lease_cost(market.price, lease.size, epochs, month)
        run.debit(run.signer, cost)
        run.move("leases", cost)
        start = max(lease.end, market.epoch)
        run.earn(cost, start, epochs)
        end = start + epochs
        after = replace(lease, end=end, price=market.price, state="active")
        run.state.put(records.LEASES, self.lease, after)
        run.state.put(records.ENDS, u64(end) + self.lease, Mark(run.height))
        run.emit("lease_renewed", lease=self.lease, price=market.price, end=end)


class TransferLease(Body, frozen=True):
    """Give the lease, and the right to what lies in it, to another account.

    Gateways keep what they have reserved; their caps shrink to it, so that only the new owner lets
    them take more.
    """

    name: ClassVar[str] = "transfer_lease"
    lease: Id
    to: Id

    def apply(self, run: Execution) -> None:
        lease = _owned(run, self.lease)
        if not lease.end:
            raise Rejected("conflict", "the operator's lease stays with the operator")
        run.state.put(records.LEASES_BY_OWNER, lease.owner + self.lease, None)
        run.state.put(records.LEASES_BY_OWNER, self.to + self.lease, Mark(run.height))
        run.state.put(records.LEASES, self.lease, replace(lease, owner=AccountId(self.to)))
        granted = list(run.state.scan(records.AUTHORISATIONS, within=self.lease))
        for key, authorisation in granted:
            shrunk = replace(authorisation, cap=authorisation.reserved)
            run.state.put(records.AUTHORISATIONS, key, shrunk)
        run.emit("lease_transferred", lease=self.lease, sender=lease.owner, to=self.to)


class AuthoriseGateway(Body, frozen=True):
    """The owner lets a gateway reserve up to `cap` bytes of a lease; again: a new cap."""

    name: ClassVar[str] = "authorise_gateway"
    lease: Id
    gateway: Id
    cap: Bytes

    def apply(self, run: Execution) -> None:
        _owned(run, self.lease)
        key = self.lease + self.gateway
        before = run.state.get(records.AUTHORISATIONS, key)
        if before is None:
            granted = run.state.scan(records.AUTHORISATIONS, within=self.lease)
            if sum(1 for _ in islice(granted, GATEWAYS_MAX)) == GATEWAYS_MAX:
                raise Rejected("limit", f"a lease has at most {GATEWAYS_MAX} gateways")
            before = Authorisation(0, 0, 0)
        if self.cap < before.reserved:
            raise Rejected("in_use", f"the gateway holds {before.reserved} bytes of it")
        if run.state.get(records.GATEWAYS, self.gateway) is None:
            raise Rejected("not_found", f"no gateway {self.gateway.hex()}")
        run.state.put(records.AUTHORISATIONS, key, replace(before, cap=self.cap))
        run.emit("gateway_authorised", lease=self.lease, gateway=self.gateway, cap=self.cap)


class ReserveLease(Body, frozen=True):
    """The signing gateway holds `size` bytes of the lease in all, used ones included."""

    name: ClassVar[str] = "reserve_lease"
    lease: Id
    size: Bytes

    def apply(self, run: Execution) -> None:
        key = self.lease + run.signer
        lease = find_lease(run, self.lease)
        before = run.state.get(records.AUTHORISATIONS, key)
        if before is None:
            raise Rejected("not_owner", "the lease's owner has not authorised this gateway")
        if self.size < before.used:
            raise Rejected("in_use", f"{before.used} bytes are used")
        growth = self.size - before.reserved
        if growth > 0:
            if lease.state != "active":
                raise Rejected("frozen", "the lease's term is over: renew it")
            if self.size > before.cap:
                raise Rejected("limit", f"the owner allows {before.cap} bytes")
            if lease.reserved + growth > lease.size:
                free = lease.size - lease.reserved
                raise Rejected("no_capacity", f"{free} bytes of the lease are free")
        run.state.put(records.AUTHORISATIONS, key, replace(before, reserved=self.size))
        after = replace(lease, reserved=lease.reserved + growth)
        run.state.put(records.LEASES, self.lease, after)
        run.emit("lease_reserved", lease=self.lease, gateway=run.signer, size=self.size)


def find_lease(run: Execution, key: bytes) -> Lease:
    """The lease. Raises Rejected."""
    lease = run.state.get(records.LEASES, key)
    if lease is None:
        raise Rejected("not_found", f"no lease {key.hex()}")
    return lease


def _owned(run: Execution, key: bytes) -> Lease:
    lease = find_lease(run, key)
    if lease.owner != run.signer:
        raise Rejected("not_owner", "only the lease's owner may do this")
    return lease


def _check_price(price: int, limit: int) -> None:
    if price > limit:
        raise Rejected("price_above_limit", f"the price is {price} units per GiB-month")
