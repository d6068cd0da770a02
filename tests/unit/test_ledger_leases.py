"""Leases over their whole life: bought, renewed, given away, frozen, expired; never overused."""

import pytest

from chain.economy.price import lease_cost
from chain.genesis import GIB, MIB, TOKEN
from chain.ledger import records
from chain.ledger.block import Result
from chain.ledger.execution import OPERATOR_LEASE
from chain.ledger.records import Authorisation, Lease
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.body import Body
from chain.ledger.transactions.leases import (
    GATEWAYS_MAX,
    AuthoriseGateway,
    BuyLease,
    RenewLease,
    ReserveLease,
    TransferLease,
    instant_price,
)
from chain.ledger.transactions.miners import RegisterMiner, UpdateMiner
from chain.ledger.transactions.nodes import RegisterGateway
from chain.ledger.transactions.objects import Delta, ObjectBatch
from chain.proofs import merkle
from tests.unit.ledger_fixture import EPOCH, Ledger, identity, with_parameters

MINER, GATEWAY, USER, FRIEND = (identity(n) for n in (3, 4, 5, 6))


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(genesis=with_parameters(epoch_seconds=EPOCH * 2592, grace_epochs=3))
    assert ledger.genesis.parameters.month_epochs == 10
    body = RegisterMiner(
        owner=MINER.id, address="m", domain="d", pledged_bytes=100 * GIB, min_price=TOKEN
    )
    assert ledger.do(MINER, body).ok
    assert ledger.do(GATEWAY, RegisterGateway(address="g")).ok
    for person in (USER, FRIEND):
        assert ledger.do(ledger.operator, Transfer(to=person.id, amount=1000 * TOKEN)).ok
    return ledger


def buy(ledger: Ledger, size: int = GIB, months: int = 1) -> bytes:
    result = ledger.do(USER, BuyLease(size=size, months=months, max_price=10**12))
    assert result.ok, result
    return bytes(result.events[0].attributes["lease"])


def lease_of(ledger: Ledger, key: bytes) -> Lease | None:
    return ledger.application.get(records.LEASES, key)


def held(ledger: Ledger, key: bytes) -> Authorisation | None:
    return ledger.application.get(records.AUTHORISATIONS, key + GATEWAY.id)


def reserve(ledger: Ledger, key: bytes, size: int, cap: int | None = None) -> None:
    cap = size if cap is None else cap
    assert ledger.do(USER, AuthoriseGateway(lease=key, gateway=GATEWAY.id, cap=cap)).ok
    assert ledger.do(GATEWAY, ReserveLease(lease=key, size=size)).ok


def use(ledger: Ledger, key: bytes, added: int, removed: int = 0) -> Result:
    gateway = ledger.application.get(records.GATEWAYS, GATEWAY.id)
    assert gateway is not None
    body = ObjectBatch(
        number=gateway.batches, root=merkle.root([]), count=0,
        deltas=[Delta(key, added, removed)], receipts=[], released=[],
    )  # fmt: skip
    return ledger.do(GATEWAY, body)


def test_a_lease_costs_the_premium_for_its_whole_term_at_once(ledger: Ledger) -> None:
    price = instant_price(ledger.market.price, 50)
    key = buy(ledger, 2 * GIB, months=3)
    cost = lease_cost(price, 2 * GIB, 30, 10)
    assert ledger.balance(USER) == 1000 * TOKEN - cost
    lease = lease_of(ledger, key)
    assert lease is not None
    assert (lease.owner, lease.size, lease.price, lease.end) == (USER.id, 2 * GIB, price, 30)
    assert ledger.unaccounted() == 0


def test_a_price_above_the_buyers_limit_is_refused(ledger: Ledger) -> None:
    price = instant_price(ledger.market.price, 50)
    body = BuyLease(size=GIB, months=1, max_price=price - 1)
    assert ledger.do(USER, body).code == "price_above_limit"
    key = buy(ledger)
    limit = ledger.market.price - 1
    assert ledger.do(USER, RenewLease(lease=key, months=1, max_price=limit)).code == (
        "price_above_limit"
    )


def test_no_more_is_leased_than_is_pledged(ledger: Ledger) -> None:
    free = ledger.market.pledged - ledger.market.leased
    assert free == 10 * GIB
    assert ledger.do(USER, BuyLease(size=free + MIB, months=1, max_price=10**12)).code == (
        "no_capacity"
    )
    buy(ledger, free)
    assert ledger.market.leased == ledger.market.pledged
    assert ledger.do(USER, BuyLease(size=MIB, months=1, max_price=10**12)).code == "no_capacity"


def test_a_lease_freezes_at_its_end_and_expires_after_its_grace(ledger: Ledger) -> None:
    key = buy(ledger)
    reserve(ledger, key, GIB // 2, cap=GIB)
    assert use(ledger, key, 1000).ok
    leased = ledger.market.leased
    ledger.end_epoch(9)
    lease = lease_of(ledger, key)
    assert lease is not None
    assert lease.state == "active"
    ledger.end_epoch()
    assert ledger.events("lease_frozen") == [{"lease": key, "owner": USER.id, "until": 13}]
    more = ReserveLease(lease=key, size=GIB)
    assert ledger.do(GATEWAY, more).code == "frozen"
    assert use(ledger, key, 500).ok, "what was reserved before may still be used"
    assert ledger.do(GATEWAY, ReserveLease(lease=key, size=1500)).ok, "and given back"
    ledger.end_epoch(2)
    assert lease_of(ledger, key) is not None
    assert ledger.market.leased == leased
    ledger.end_epoch()
    assert ledger.events("lease_expired") == [{"lease": key, "owner": USER.id, "used": 1500}]
    assert lease_of(ledger, key) is None
    assert held(ledger, key) is None
    assert ledger.market.leased == leased - GIB
    with ledger.application.read() as snapshot:
        assert snapshot.rows(records.LEASES_BY_OWNER, USER.id, b"", 10).rows == []
        assert snapshot.rows(records.ENDS, b"", b"", 10).rows == []
        assert snapshot.rows(records.FLOWS, b"", b"", 10).rows == []
    assert use(ledger, key, 1).ok, "an acknowledged object of an expired lease holds up nobody"
    assert ledger.unaccounted() == 0


def test_without_grace_a_lease_ends_with_its_term() -> None:
    ledger = Ledger(genesis=with_parameters(epoch_seconds=259_200, grace_epochs=0))
    body = RegisterMiner(owner=MINER.id, address="m", domain="d", pledged_bytes=GIB, min_price=1)
    assert ledger.do(MINER, body).ok
    assert ledger.do(ledger.operator, Transfer(to=USER.id, amount=1000 * TOKEN)).ok
    key = buy(ledger, MIB)
    ledger.end_epoch(10)
    assert [event["lease"] for event in ledger.events("lease_frozen", "lease_expired")] == [key] * 2
    assert lease_of(ledger, key) is None


def test_renewal_in_time_lengthens_and_in_grace_starts_anew(ledger: Ledger) -> None:
    key = buy(ledger)
    assert ledger.do(USER, RenewLease(lease=key, months=2, max_price=10**12)).ok
    lease = lease_of(ledger, key)
    assert lease is not None
    assert (lease.end, lease.state) == (30, "active")
    ledger.end_epoch(10)
    assert ledger.events("lease_frozen") == []
    ledger.end_epoch(22)
    lease = lease_of(ledger, key)
    assert lease is not None
    assert lease.state == "grace"
    balance = ledger.balance(USER)
    assert ledger.do(USER, RenewLease(lease=key, months=1, max_price=10**12)).ok
    lease = lease_of(ledger, key)
    assert lease is not None
    assert (lease.end, lease.state) == (42, "active")
    assert ledger.balance(USER) == balance - lease_cost(lease.price, GIB, 10, 10)
    ledger.end_epoch(9)
    assert ledger.events("lease_frozen", "lease_expired") == []
    ledger.end_epoch()
    assert len(ledger.events("lease_frozen")) == 1
    assert ledger.do(FRIEND, RenewLease(lease=key, months=1, max_price=10**12)).code == "not_owner"
    assert ledger.unaccounted() == 0


def test_every_unit_of_a_lease_is_earned_over_its_term(ledger: Ledger) -> None:
    buy(ledger, 3 * GIB)
    ledger.end_epoch(10)
    totals = ledger.application.get(records.TOTALS, b"")
    assert totals is not None
    assert totals.leases == 0
    assert ledger.balance(MINER) > 0
    assert ledger.unaccounted() == 0


def test_a_transferred_lease_obeys_its_new_owner_alone(ledger: Ledger) -> None:
    key = buy(ledger)
    reserve(ledger, key, 1000, cap=GIB)
    assert use(ledger, key, 400).ok
    give = TransferLease(lease=key, to=FRIEND.id)
    assert ledger.do(FRIEND, give).code == "not_owner"
    assert ledger.do(USER, give).ok
    assert held(ledger, key) == Authorisation(cap=1000, reserved=1000, used=400)
    assert ledger.do(GATEWAY, ReserveLease(lease=key, size=1001)).code == "limit"
    again = AuthoriseGateway(lease=key, gateway=GATEWAY.id, cap=5000)
    assert ledger.do(USER, again).code == "not_owner"
    assert ledger.do(FRIEND, again).ok
    assert ledger.do(GATEWAY, ReserveLease(lease=key, size=5000)).ok
    with ledger.application.read() as snapshot:
        assert snapshot.rows(records.LEASES_BY_OWNER, USER.id, b"", 9).rows == []
        assert len(snapshot.rows(records.LEASES_BY_OWNER, FRIEND.id, b"", 9).rows) == 1


def test_a_lease_given_to_its_owner_stays_found(ledger: Ledger) -> None:
    key = buy(ledger)
    assert ledger.do(USER, TransferLease(lease=key, to=USER.id)).ok
    with ledger.application.read() as snapshot:
        assert len(snapshot.rows(records.LEASES_BY_OWNER, USER.id, b"", 9).rows) == 1


@pytest.mark.parametrize(
    "body",
    [
        TransferLease(lease=OPERATOR_LEASE, to=USER.id),
        RenewLease(lease=OPERATOR_LEASE, months=1, max_price=10**12),
    ],
)
def test_the_operators_lease_is_neither_given_nor_renewed(ledger: Ledger, body: Body) -> None:
    assert ledger.do(ledger.operator, body).code == "conflict"


def test_use_stays_within_reservation_cap_and_lease(ledger: Ledger) -> None:
    key = buy(ledger)
    unknown = AuthoriseGateway(lease=key, gateway=USER.id, cap=1)
    assert ledger.do(USER, unknown).code == "not_found"
    assert ledger.do(GATEWAY, ReserveLease(lease=key, size=1)).code == "not_owner"
    assert use(ledger, key, 1).code == "not_owner"
    reserve(ledger, key, 1000, cap=2 * GIB)
    assert ledger.do(GATEWAY, ReserveLease(lease=key, size=GIB + 1)).code == "no_capacity"
    assert use(ledger, key, 1001).code == "over_reservation"
    assert use(ledger, key, 0, removed=1).code == "over_reservation"
    assert use(ledger, key, 1500, removed=500).ok
    assert ledger.do(GATEWAY, ReserveLease(lease=key, size=999)).code == "in_use"
    lower = AuthoriseGateway(lease=key, gateway=GATEWAY.id, cap=999)
    assert ledger.do(USER, lower).code == "in_use"
    assert use(ledger, key, 0, removed=1000).ok
    lease = lease_of(ledger, key)
    assert lease is not None
    assert (lease.reserved, lease.used) == (1000, 0)


def test_a_lease_has_a_bounded_number_of_gateways(ledger: Ledger) -> None:
    key = buy(ledger)
    for number in range(GATEWAYS_MAX):
        gateway = identity(1000 + number)
        grant = AuthoriseGateway(lease=key, gateway=gateway.id, cap=1)
        ledger.block([ledger.signed(gateway, RegisterGateway(address="g"))])
        assert ledger.do(USER, grant).ok
    grant = AuthoriseGateway(lease=key, gateway=GATEWAY.id, cap=1)
    assert ledger.do(USER, grant).code == "limit"
    known = AuthoriseGateway(lease=key, gateway=identity(1000).id, cap=2)
    assert ledger.do(USER, known).ok


def test_the_operators_lease_follows_the_pledge_but_keeps_what_is_reserved(
    ledger: Ledger,
) -> None:
    grant = AuthoriseGateway(lease=OPERATOR_LEASE, gateway=GATEWAY.id, cap=60 * GIB)
    assert ledger.do(ledger.operator, grant).ok
    assert ledger.do(GATEWAY, ReserveLease(lease=OPERATOR_LEASE, size=60 * GIB)).ok

    def pledge(size: int) -> int:
        body = UpdateMiner(address="m", domain="d", pledged_bytes=size, min_price=1)
        assert ledger.do(MINER, body).ok
        lease = lease_of(ledger, OPERATOR_LEASE)
        assert lease is not None
        assert lease.size == ledger.market.leased
        return lease.size

    assert pledge(80 * GIB) == 72 * GIB
    assert pledge(10 * GIB) == 60 * GIB
    assert ledger.do(USER, BuyLease(size=MIB, months=1, max_price=10**12)).code == "no_capacity"
    assert pledge(200 * GIB) == 180 * GIB
