"""The application: transactions, the market, conservation of tokens, certificates."""

import pytest
from hypothesis import given, settings, stateful
from hypothesis import strategies as st

from chain import certificate
from chain.errors import InvalidCertificate, Rejected
from chain.genesis import GIB, TOKEN
from chain.ledger import records, tree
from chain.ledger.block import Header, SignedHeader
from chain.ledger.block import sign as sign_block
from chain.ledger.execution import OPERATOR_LEASE
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.envelope import parse
from chain.ledger.transactions.leases import AuthoriseGateway, BuyLease, RenewLease, ReserveLease
from chain.ledger.transactions.market import ClaimLease, CommitBid, RevealBid, bid_id, commitment
from chain.ledger.transactions.miners import RegisterMiner
from chain.ledger.transactions.nodes import RegisterGateway
from chain.ledger.transactions.objects import Delta, Leaf, ObjectBatch
from chain.ledger.transactions.registry import REGISTRY
from chain.proofs import merkle
from chain.receipts import StorageReceipt, fragment_leaf, sign_receipt
from tests.unit.ledger_fixture import EPOCH, START, Ledger, identity

MINER, GATEWAY, USER = identity(3), identity(4), identity(5)


def miner_body(pledged: int = 100 * GIB, price: int = TOKEN // 100) -> RegisterMiner:
    return RegisterMiner(
        owner=MINER.id, address="ipc://m", domain="a/b/c", pledged_bytes=pledged, min_price=price
    )


def batch_body(
    leaves: list[Leaf], number: int = 1, receipts: list[StorageReceipt] | None = None
) -> ObjectBatch:
    return ObjectBatch(
        number=number,
        root=merkle.root([leaf.hash() for leaf in leaves]),
        count=len(leaves),
        deltas=[Delta(OPERATOR_LEASE, sum(leaf.size for leaf in leaves), 0)],
        receipts=receipts or [],
        released=[],
    )


def some_leaves(count: int = 5) -> list[Leaf]:
    return [
        Leaf(
            fid=b"\x01\x71\x1e\x20" + bytes(31) + bytes([n]),
            version=f"v{n}",
            owner=USER.id,
            lease=OPERATOR_LEASE,
            size=1000,
            height=1,
            operation="put",
        )
        for n in range(count)
    ]


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    assert ledger.do(MINER, miner_body()).ok
    assert ledger.do(GATEWAY, RegisterGateway(address="ipc://g")).ok
    grant = AuthoriseGateway(lease=OPERATOR_LEASE, gateway=GATEWAY.id, cap=50 * GIB)
    assert ledger.do(ledger.operator, grant).ok
    assert ledger.do(GATEWAY, ReserveLease(lease=OPERATOR_LEASE, size=GIB)).ok
    return ledger


def test_failed_body_costs_its_nonce_and_changes_nothing_else() -> None:
    ledger = Ledger()
    assert ledger.do(USER, Transfer(to=MINER.id, amount=5)).code == "insufficient_funds"
    account = ledger.application.get(records.ACCOUNTS, USER.id)
    assert account == records.Account(0, 1)
    assert ledger.unaccounted() == 0


def test_replayed_transaction_has_no_effect() -> None:
    ledger = Ledger()
    raw = ledger.signed(ledger.operator, Transfer(to=USER.id, amount=5))
    assert [result.code for result in ledger.block([raw, raw])] == ["ok", "bad_nonce"]
    account = ledger.application.get(records.ACCOUNTS, USER.id)
    assert account is not None
    assert account.balance == 5


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_parser_refuses_arbitrary_bytes_with_its_own_error(raw: bytes) -> None:
    with pytest.raises(Rejected):
        parse(raw, REGISTRY)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_no_flipped_bit_leaves_a_transaction_valid(position: int, bit: int) -> None:
    ledger = Ledger()
    raw = bytearray(ledger.signed(ledger.operator, Transfer(to=USER.id, amount=5)))
    raw[position % len(raw)] ^= 1 << bit
    assert not ledger.application.check_tx(bytes(raw)).ok


def test_batch_is_metered_and_replay_is_harmless(ledger: Ledger) -> None:
    leaves = some_leaves()
    signed = sign_receipt(MINER, fragment_leaf(b"f" * 32, 77), 1, 77, ledger.time_ns)  # type: ignore[arg-type]
    body = batch_body(leaves, receipts=[signed, signed])
    assert ledger.do(GATEWAY, body).ok
    assert ledger.do(GATEWAY, body).ok
    assert ledger.do(GATEWAY, batch_body(leaves[:2])).code == "conflict"
    assert ledger.do(GATEWAY, batch_body(leaves, number=3)).code == "gap"
    lease = ledger.application.get(records.LEASES, OPERATOR_LEASE)
    miner = ledger.application.get(records.MINERS, MINER.id)
    assert lease is not None
    assert miner is not None
    assert (lease.used, lease.size) == (5000, 90 * GIB)
    assert miner.stored_bytes == 77


def test_use_beyond_the_reservation_is_refused(ledger: Ledger) -> None:
    body = batch_body([])
    over = ObjectBatch(
        number=1,
        root=body.root,
        count=0,
        deltas=[Delta(OPERATOR_LEASE, GIB + 1, 0)],
        receipts=[],
        released=[],
    )
    assert ledger.do(GATEWAY, over).code == "over_reservation"


def test_bid_goes_from_commitment_to_lease_and_pays_miners(ledger: Ledger) -> None:
    assert ledger.do(ledger.operator, Transfer(to=USER.id, amount=1000 * TOKEN)).ok
    terms = {"price": TOKEN, "size": GIB, "months": 1, "epochs": 3, "salt": bytes(32)}
    committed = commitment(USER.id, **terms)  # type: ignore[arg-type]
    key = bid_id(USER.id, committed)
    reveal = RevealBid(bid=key, **terms)  # type: ignore[arg-type]
    assert ledger.do(USER, CommitBid(commitment=committed)).ok
    assert ledger.do(USER, reveal).code == "window_closed"
    ledger.block([], EPOCH)
    assert ledger.do(USER, reveal).ok
    ledger.block([], EPOCH)
    assert ledger.do(USER, ClaimLease(bid=key)).ok
    ledger.block([], EPOCH)
    assert any(event.type == "reward" for event in ledger.last.events)
    lease = ledger.application.get(records.LEASES, key)
    assert lease is not None
    assert lease.price == TOKEN // 100
    assert ledger.unaccounted() == 0


def test_long_gap_runs_one_epoch_and_takes_no_deposit(ledger: Ledger) -> None:
    assert ledger.do(ledger.operator, CommitBid(commitment=bytes(32))).ok
    ledger.block([], EPOCH)
    ledger.block([], 50 * EPOCH)
    market = ledger.application.get(records.MARKET, b"")
    assert market is not None
    assert market.epoch == 2
    assert market.bids == 1


def signed_header(ledger: Ledger) -> SignedHeader:
    info = ledger.application.info()
    header = Header(
        chain="test",
        height=info.height,
        time_ns=START,
        previous=bytes(32),
        app_hash=info.app_hash,
        transactions=bytes(32),
        results=bytes(32),
        proposer=ledger.validator.id,
    )
    return sign_block(ledger.validator, header)


def make_certificate() -> tuple[Ledger, bytes, Leaf]:
    ledger = Ledger()
    leaves = some_leaves()
    for signer, body in (
        (MINER, miner_body()),
        (GATEWAY, RegisterGateway(address="g")),
        (ledger.operator, AuthoriseGateway(lease=OPERATOR_LEASE, gateway=GATEWAY.id, cap=GIB)),
        (GATEWAY, ReserveLease(lease=OPERATOR_LEASE, size=GIB)),
        (GATEWAY, batch_body(leaves)),
    ):
        assert ledger.do(signer, body).ok
    with ledger.application.read() as snapshot:
        key = GATEWAY.id + records.u64(1)
        answer = snapshot.record(records.BATCHES, key, prove=True)
    assert isinstance(answer.proof, tree.Proof)
    built = certificate.build(
        leaves[3],
        [leaf.hash() for leaf in leaves],
        3,
        gateway=GATEWAY.id,
        number=1,
        batch=answer.rows[0][1],
        proof=answer.proof,
        parameters=ledger.genesis.parameters.digest(),
        signed=signed_header(ledger),
    )
    return ledger, built, leaves[3]


def test_every_changed_byte_spoils_a_certificate() -> None:
    ledger, good, leaf = make_certificate()
    assert certificate.verify(good, ledger.genesis) == leaf
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        with pytest.raises(InvalidCertificate):
            certificate.verify(bytes(bad), ledger.genesis)


class Conservation(stateful.RuleBasedStateMachine):
    """Whatever is done in whatever order: no token appears or vanishes."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.people = [self.ledger.operator, USER, MINER]
        self.reveals: list[RevealBid] = []

    @stateful.rule(to=st.integers(0, 2), amount=st.integers(0, 10**12))
    def transfer(self, to: int, amount: int) -> None:
        self.ledger.do(self.ledger.operator, Transfer(to=self.people[to].id, amount=amount))

    @stateful.rule(pledged=st.integers(0, 100 * GIB), price=st.integers(1, TOKEN))
    def register(self, pledged: int, price: int) -> None:
        self.ledger.do(MINER, miner_body(pledged, price))

    @stateful.rule(who=st.integers(0, 2), size=st.integers(1, 2000))
    def buy(self, who: int, size: int) -> None:
        body = BuyLease(size=size << 20, months=1, max_price=10**12)
        result = self.ledger.do(self.people[who], body)
        if result.ok:
            self.ledger.do(self.people[who], RenewLease(
                lease=result.events[0].attributes["lease"], months=1, max_price=10**12
            ))  # fmt: skip

    @stateful.rule(
        who=st.integers(0, 2), price=st.integers(1, 10**9), size=st.integers(1, 4000),
        salt=st.binary(min_size=32, max_size=32),
    )  # fmt: skip
    def commit(self, who: int, price: int, size: int, salt: bytes) -> None:
        owner = self.people[who]
        terms = {"price": price, "size": size << 20, "months": 1, "epochs": 2, "salt": salt}
        committed = commitment(owner.id, **terms)  # type: ignore[arg-type]
        self.ledger.do(owner, CommitBid(commitment=committed))
        self.reveals.append(RevealBid(bid=bid_id(owner.id, committed), **terms))  # type: ignore[arg-type]

    @stateful.rule()
    def reveal_and_claim(self) -> None:
        for reveal in self.reveals[-4:]:
            self.ledger.do(USER, reveal)
            for person in self.people:
                self.ledger.do(person, ClaimLease(bid=reveal.bid))

    @stateful.rule(epochs=st.floats(0.5, 5))
    def wait(self, epochs: float) -> None:
        self.ledger.block([], epochs * EPOCH)

    @stateful.invariant()
    def tokens_are_conserved(self) -> None:
        assert self.ledger.unaccounted() == 0


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
