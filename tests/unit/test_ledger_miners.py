"""Miners on the ledger: space, stake, drain, exit, loss; and the receipts that fill them."""

import pytest
from hypothesis import settings, stateful
from hypothesis import strategies as st
from msgspec.structs import replace

from chain.genesis import GIB, TIB
from chain.keys.identity import Identity
from chain.ledger import records
from chain.ledger.block import Result
from chain.ledger.execution import PLEDGED_MAX
from chain.ledger.records import Miner
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.leases import BuyLease
from chain.ledger.transactions.miners import (
    AddStake,
    DeclareLost,
    ExitMiner,
    RegisterMiner,
    UpdateMiner,
    WithdrawStake,
)
from chain.ledger.transactions.nodes import RegisterGateway
from chain.ledger.transactions.objects import ObjectBatch, Release
from chain.proofs import merkle
from chain.receipts import StorageReceipt, sign_receipt
from tests.unit.ledger_fixture import EPOCH, Ledger, identity, with_parameters

MINER, OWNER, GATEWAY, STRANGER = (identity(n) for n in (3, 4, 5, 6))
SECOND = 10**9


def register(
    ledger: Ledger, miner: Identity = MINER, *, pledged: int = GIB, stake: int = 0
) -> Result:
    body = RegisterMiner(
        owner=OWNER.id, address="m", domain="d", pledged_bytes=pledged, min_price=1, stake=stake
    )
    return ledger.do(miner, body)


def update(ledger: Ledger, *, pledged: int = GIB, state: str = "active") -> Result:
    body = UpdateMiner(address="n", domain="e", pledged_bytes=pledged, min_price=2, state=state)  # type: ignore[arg-type]
    return ledger.do(MINER, body)


def miner_of(ledger: Ledger, miner: Identity = MINER) -> Miner:
    record = ledger.application.get(records.MINERS, miner.id)
    assert record is not None
    return record


def receipt(ledger: Ledger, size: int, miner: Identity = MINER, age: float = 0) -> StorageReceipt:
    time_ns = ledger.time_ns - int(age * SECOND)
    return sign_receipt(miner, merkle.leaf_hash(b"x"), 1, size, time_ns)


def send(
    ledger: Ledger, *receipts: StorageReceipt, released: int = 0, gateway: Identity = GATEWAY
) -> Result:
    known = ledger.application.get(records.GATEWAYS, gateway.id)
    if known is None:
        assert ledger.do(gateway, RegisterGateway(address="g")).ok
    body = ObjectBatch(
        number=known.batches if known else 1, root=merkle.root([]), count=0, deltas=[],
        receipts=list(receipts), released=[Release(MINER.id, released)] if released else [],
    )  # fmt: skip
    return ledger.do(gateway, body)


def refused(result: Result) -> list[str]:
    assert result.ok, result
    return [e.attributes["reason"] for e in result.events if e.type == "receipt_refused"]


# ---------------------------------------------------------------- space and stake
def test_an_update_changes_what_is_for_lease() -> None:
    ledger = Ledger()
    assert register(ledger, pledged=10 * GIB).ok
    assert register(ledger).code == "exists"
    assert update(ledger, pledged=20 * GIB).ok
    assert ledger.market.pledged == 20 * GIB
    record = miner_of(ledger)
    assert (record.address, record.domain, record.min_price) == ("n", "e", 2)
    assert ledger.do(STRANGER, ExitMiner()).code == "not_found"


def test_a_draining_miner_gives_no_capacity_and_is_paid_for_what_it_stores() -> None:
    ledger = Ledger()
    assert register(ledger, pledged=10 * GIB).ok
    assert send(ledger, receipt(ledger, GIB)).ok
    assert ledger.do(ledger.operator, BuyLease(size=1 << 20, months=1, max_price=10**12)).ok
    assert update(ledger, pledged=10 * GIB, state="draining").ok
    assert ledger.market.pledged == 0
    ledger.end_epoch()
    (reward,) = ledger.events("reward")
    assert (reward["stored"], reward["idle"], reward["for_idle"]) == (GIB, 0, 0)
    assert update(ledger, pledged=10 * GIB).ok
    assert ledger.market.pledged == 10 * GIB


def test_a_miner_leaves_when_it_is_empty_and_takes_its_stake() -> None:
    ledger = Ledger(genesis=with_parameters(collateral_per_tib=TIB))
    assert ledger.do(ledger.operator, Transfer(to=MINER.id, amount=10 * GIB)).ok
    assert register(ledger, pledged=10 * GIB, stake=10 * GIB).ok
    assert send(ledger, receipt(ledger, 1000)).ok
    assert update(ledger, pledged=10 * GIB, state="draining").ok
    assert ledger.do(MINER, ExitMiner()).code == "in_use"
    assert send(ledger, released=1000).ok
    assert ledger.do(MINER, ExitMiner()).ok
    assert (ledger.balance(OWNER), ledger.market.pledged) == (10 * GIB, 0)
    assert ledger.application.get(records.MINERS, MINER.id) is None
    assert ledger.unaccounted() == 0
    assert ledger.do(ledger.operator, Transfer(to=MINER.id, amount=GIB)).ok
    assert register(ledger, pledged=GIB, stake=GIB).ok, "and may come back"


def test_a_pledge_needs_its_collateral() -> None:
    ledger = Ledger(genesis=with_parameters(collateral_per_tib=1024))
    assert ledger.do(ledger.operator, Transfer(to=MINER.id, amount=5000)).ok
    assert register(ledger, pledged=2 * TIB, stake=2047).code == "insufficient_collateral"
    assert ledger.balance(MINER) == 5000, "a refused registration costs nothing"
    assert register(ledger, pledged=2 * TIB, stake=2048).ok
    assert update(ledger, pledged=3 * TIB).code == "insufficient_collateral"
    more = AddStake(miner=MINER.id, amount=1024)
    assert ledger.do(STRANGER, more).code == "insufficient_funds"
    assert ledger.do(ledger.operator, more).ok
    assert update(ledger, pledged=3 * TIB).ok
    assert ledger.do(MINER, WithdrawStake(amount=1)).code == "insufficient_collateral"
    assert ledger.do(MINER, WithdrawStake(amount=5000)).code == "insufficient_funds"
    assert update(ledger, pledged=TIB).ok
    assert ledger.do(MINER, WithdrawStake(amount=2048)).ok
    assert (ledger.balance(OWNER), miner_of(ledger).stake) == (2048, 1024)
    assert ledger.unaccounted() == 0


def test_pledges_add_up_within_the_formats_integers() -> None:
    ledger = Ledger()
    for number in range(4):
        assert register(ledger, identity(50 + number), pledged=PLEDGED_MAX // 4).ok
    assert register(ledger, pledged=1).code == "limit"
    assert register(ledger, pledged=0).ok
    assert update(ledger, pledged=1).code == "limit"


@pytest.mark.parametrize("who", [MINER, OWNER, identity(1)])
def test_a_lost_miner_holds_nothing_and_may_begin_anew(who: Identity) -> None:
    ledger = Ledger()
    assert register(ledger, pledged=10 * GIB).ok
    waiting = receipt(ledger, 500)
    assert send(ledger, receipt(ledger, 1000)).ok
    assert ledger.do(STRANGER, DeclareLost(miner=MINER.id)).code == "not_owner"
    assert ledger.do(who, DeclareLost(miner=MINER.id)).ok
    record = miner_of(ledger)
    assert (record.state, record.stored_bytes, ledger.market.pledged) == ("lost", 0, 0)
    assert refused(send(ledger, waiting)) == ["the miner is lost"]
    assert send(ledger, released=1000).ok
    assert update(ledger, pledged=GIB).ok
    assert refused(send(ledger, waiting)) == []
    assert miner_of(ledger).stored_bytes == 500


# ---------------------------------------------------------------- receipts
def test_a_receipt_counts_once_and_only_for_what_it_says() -> None:
    ledger = Ledger(genesis=with_parameters(receipt_seconds=60))
    assert register(ledger).ok
    good = receipt(ledger, 1000)
    assert refused(send(ledger, good)) == []
    forged = replace(good, size=999)
    stranger = receipt(ledger, 1, STRANGER)
    cases = {
        "counted before": good,
        "not signed by the miner": forged,
        "no such miner": stranger,
        "too old or ahead of time": receipt(ledger, 1, age=61),
        "malformed": replace(good, root=b"short"),
        "more than the miner pledged": receipt(ledger, GIB),
    }
    for reason, bad in cases.items():
        assert refused(send(ledger, bad)) == [reason]
    assert refused(send(ledger, receipt(ledger, 1, age=-601))) == ["too old or ahead of time"]
    assert refused(send(ledger, receipt(ledger, 1, age=-599))) == []
    assert refused(send(ledger, receipt(ledger, 1, age=59))) == []
    assert miner_of(ledger).stored_bytes == 1002


def test_a_batch_counts_its_receipts_together_and_says_so_once_per_miner() -> None:
    ledger = Ledger()
    assert register(ledger, pledged=1000).ok
    sizes = (400, 500, 101, 100)
    result = send(ledger, *(receipt(ledger, size) for size in sizes), released=250)
    assert refused(result) == ["more than the miner pledged"]
    told = [e.attributes for e in result.events if e.type == "stored_bytes"]
    assert told == [{"miner": MINER.id, "stored": 750}]


def test_receipts_are_forgotten_when_they_are_too_old_to_count() -> None:
    ledger = Ledger(genesis=with_parameters(receipt_seconds=2 * EPOCH))
    assert register(ledger).ok
    old = receipt(ledger, 10)
    assert send(ledger, old).ok
    ledger.block([], 1.5 * EPOCH)
    young = receipt(ledger, 10)
    assert send(ledger, young).ok
    ledger.end_epoch()
    with ledger.application.read() as snapshot:
        assert len(snapshot.rows(records.RECEIPTS, b"", b"", 9).rows) == 2
    ledger.end_epoch()
    with ledger.application.read() as snapshot:
        ((key, _),) = snapshot.rows(records.RECEIPTS, b"", b"", 9).rows
    assert int.from_bytes(key[:8], "big") == young.time_ns
    assert refused(send(ledger, old, young)) == ["too old or ahead of time", "counted before"]


def test_no_gateway_releases_what_another_one_stored() -> None:
    ledger = Ledger()
    assert register(ledger).ok
    assert send(ledger, receipt(ledger, 1000)).ok
    result = send(ledger, released=400, gateway=STRANGER)
    assert [event.type for event in result.events][:1] == ["release_cut"]
    assert miner_of(ledger).stored_bytes == 1000
    assert send(ledger, released=400).ok
    assert miner_of(ledger).stored_bytes == 600
    result = send(ledger, released=10**15)
    assert "release_cut" in [event.type for event in result.events]
    assert miner_of(ledger).stored_bytes == 0
    with ledger.application.read() as snapshot:
        assert snapshot.rows(records.HOLDINGS, b"", b"", 9).rows == []


def test_a_batch_may_store_and_release_at_once() -> None:
    ledger = Ledger()
    assert register(ledger).ok
    assert send(ledger, receipt(ledger, 700), released=700).ok
    assert miner_of(ledger).stored_bytes == 0


class Holdings(stateful.RuleBasedStateMachine):
    """Whatever gateways, miners and operators do: stored bytes are the sum of holdings."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.nonce = 0

    @stateful.rule(pledged=st.integers(0, 4000))
    def register(self, pledged: int) -> None:
        register(self.ledger, pledged=pledged)
        update(self.ledger, pledged=pledged)

    @stateful.rule(size=st.integers(0, 2000), who=st.sampled_from([GATEWAY, STRANGER]))
    def store(self, size: int, who: Identity) -> None:
        assert send(self.ledger, receipt(self.ledger, size), gateway=who).ok

    @stateful.rule(size=st.integers(1, 3000), who=st.sampled_from([GATEWAY, STRANGER]))
    def release(self, size: int, who: Identity) -> None:
        assert send(self.ledger, released=size, gateway=who).ok

    @stateful.rule()
    def lose(self) -> None:
        self.ledger.do(OWNER, DeclareLost(miner=MINER.id))

    @stateful.rule()
    def leave(self) -> None:
        self.ledger.do(MINER, ExitMiner())

    @stateful.invariant()
    def stored_bytes_are_the_holdings(self) -> None:
        with self.ledger.application.read() as snapshot:
            rows = snapshot.rows(records.HOLDINGS, MINER.id, b"", 99).rows
        held = [records.decode(records.HOLDINGS, raw).size for _, raw in rows]
        record = self.ledger.application.get(records.MINERS, MINER.id)
        assert sum(held) == (record.stored_bytes if record else 0)
        assert all(size > 0 for size in held)


TestHoldings = Holdings.TestCase
TestHoldings.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
