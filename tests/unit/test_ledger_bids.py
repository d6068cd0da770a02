"""Bids from commitment to lease, and every way in which one ends without."""

import pytest

from chain.economy.price import lease_cost
from chain.genesis import GIB, MIB, TOKEN
from chain.keys.identity import Identity
from chain.ledger import records
from chain.ledger.records import Bid
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.market import ClaimLease, CommitBid, RevealBid, bid_id, commitment
from chain.ledger.transactions.miners import RegisterMiner, UpdateMiner
from tests.unit.ledger_fixture import EPOCH, Ledger, identity, with_parameters

MINER, ANN, BOB, EVE = (identity(n) for n in (3, 4, 5, 6))
DEPOSIT = TOKEN // 10
RESERVE = TOKEN // 100


def market(**parameters: int) -> Ledger:
    """10 GiB for sale beside the operator's 90, and three bidders with money."""
    ledger = Ledger(genesis=with_parameters(**parameters))
    body = RegisterMiner(
        owner=MINER.id, address="m", domain="d", pledged_bytes=100 * GIB, min_price=RESERVE
    )
    assert ledger.do(MINER, body).ok
    for person in (ANN, BOB, EVE):
        assert ledger.do(ledger.operator, Transfer(to=person.id, amount=1000 * TOKEN)).ok
    return ledger


def terms(
    owner: Identity = ANN,
    *,
    price: int = 2 * RESERVE,
    size: int = GIB,
    epochs: int = 3,
    salt: int = 1,
) -> RevealBid:
    salted = bytes([salt]) * 32
    committed = commitment(owner.id, price=price, size=size, months=1, epochs=epochs, salt=salted)
    key = bid_id(owner.id, committed)
    return RevealBid(bid=key, price=price, size=size, months=1, epochs=epochs, salt=salted)


def commit(ledger: Ledger, owner: Identity, reveal: RevealBid) -> None:
    fields = {name: getattr(reveal, name) for name in ("price", "size", "months", "epochs", "salt")}
    assert ledger.do(owner, CommitBid(commitment=commitment(owner.id, **fields))).ok


def revealed(ledger: Ledger, *bids: tuple[Identity, RevealBid]) -> list[bytes]:
    """Commit all, reveal all in the next epoch; their ids."""
    for owner, reveal in bids:
        commit(ledger, owner, reveal)
    ledger.end_epoch()
    for _, reveal in bids:
        assert ledger.do(EVE, reveal).ok, "anybody may send a reveal"
    return [reveal.bid for _, reveal in bids]


def bid_of(ledger: Ledger, key: bytes) -> Bid | None:
    return ledger.application.get(records.BIDS, key)


def ends(ledger: Ledger) -> list[tuple[bytes, int, str]]:
    return [(e["bid"], e["kept"], e["reason"]) for e in ledger.events("bid_ended")]


def test_a_winner_pays_the_clearing_price_and_gets_the_rest_back() -> None:
    ledger = market()
    (key,) = revealed(ledger, (ANN, terms()))
    held = lease_cost(2 * RESERVE, GIB, 25_920, 25_920)
    assert ledger.balance(ANN) == 1000 * TOKEN - max(held, DEPOSIT)
    assert ledger.do(ANN, ClaimLease(bid=key)).code == "conflict"
    ledger.end_epoch()
    assert [event["price"] for event in ledger.events("bid_won")] == [RESERVE]
    assert ledger.do(BOB, ClaimLease(bid=key)).code == "not_owner"
    assert ledger.do(ANN, ClaimLease(bid=key)).ok
    cost = lease_cost(RESERVE, GIB, 25_920, 25_920)
    assert ledger.balance(ANN) == 1000 * TOKEN - cost
    assert ledger.do(ANN, ClaimLease(bid=key)).code == "not_found"
    assert (ledger.market.bids, ledger.unaccounted()) == (0, 0)


def test_a_bid_that_is_not_revealed_in_its_epoch_forfeits_its_deposit() -> None:
    ledger = market()
    reveal = terms()
    commit(ledger, ANN, reveal)
    assert ledger.do(ANN, reveal).code == "window_closed"
    ledger.end_epoch()
    assert ends(ledger) == []
    ledger.end_epoch()
    assert ends(ledger) == [(reveal.bid, DEPOSIT, "not revealed")]
    assert ledger.do(ANN, reveal).code == "not_found"
    assert ledger.balance(ANN) == 1000 * TOKEN - DEPOSIT
    totals = ledger.application.get(records.TOTALS, b"")
    assert totals is not None
    assert (totals.treasury, totals.bids, ledger.unaccounted()) == (DEPOSIT, 0, 0)


def test_a_wrong_opening_is_refused_and_the_right_one_still_counts() -> None:
    ledger = market()
    reveal = terms()
    commit(ledger, ANN, reveal)
    ledger.end_epoch()
    other = RevealBid(
        bid=reveal.bid, price=reveal.price - 1, size=GIB, months=1, epochs=3, salt=reveal.salt
    )
    assert ledger.do(ANN, other).code == "wrong_opening"
    assert ledger.do(ANN, reveal).ok
    assert ledger.do(ANN, reveal).code == "conflict"


def test_a_bidder_who_cannot_pay_does_not_get_into_the_auction() -> None:
    ledger = market()
    reveal = terms(price=10**14)
    commit(ledger, ANN, reveal)
    ledger.end_epoch()
    assert ledger.do(ANN, reveal).code == "insufficient_funds"
    bid = bid_of(ledger, reveal.bid)
    assert bid is not None
    assert bid.state == "committed"


def test_an_unfilled_bid_rolls_over_and_expires_with_all_its_money() -> None:
    ledger = market()
    (key,) = revealed(ledger, (ANN, terms(price=RESERVE - 1, epochs=3)))
    for _ in range(2):
        ledger.end_epoch()
        assert bid_of(ledger, key) is not None
        assert ends(ledger) == []
    ledger.end_epoch()
    assert ends(ledger) == [(key, 0, "expired")]
    assert ledger.balance(ANN) == 1000 * TOKEN
    assert (ledger.market.bids, ledger.unaccounted()) == (0, 0)


def test_a_rolled_over_bid_wins_when_there_is_room() -> None:
    ledger = market()
    first, second = revealed(
        ledger, (ANN, terms(size=9 * GIB, price=3 * RESERVE)), (BOB, terms(BOB, size=5 * GIB))
    )
    ledger.end_epoch()
    states = [bid.state for key in (first, second) if (bid := bid_of(ledger, key))]
    assert states == ["won", "revealed"]
    more = UpdateMiner(address="m", domain="d", pledged_bytes=150 * GIB, min_price=RESERVE)
    assert ledger.do(MINER, more).ok
    ledger.end_epoch()
    assert [event["bid"] for event in ledger.events("bid_won")] == [second]


def test_the_marginal_bid_gets_all_or_nothing_and_sets_the_price() -> None:
    ledger = market()
    big, small, low = revealed(
        ledger,
        (ANN, terms(size=9 * GIB, price=9 * RESERVE)),
        (BOB, terms(BOB, size=2 * GIB, price=5 * RESERVE)),
        (EVE, terms(EVE, size=MIB, price=4 * RESERVE)),
    )
    ledger.end_epoch()
    assert [event["bid"] for event in ledger.events("bid_won")] == [big]
    cleared = ledger.events("cleared")[0]
    assert (cleared["price"], cleared["size"], cleared["bids"]) == (5 * RESERVE, 9 * GIB, 3)
    assert ledger.market.price == 5 * RESERVE
    assert ledger.market.pledged - ledger.market.leased == GIB, "left for instant leases"
    assert bid_of(ledger, small) is not None
    assert bid_of(ledger, low) is not None


def test_an_award_that_nobody_claims_gives_its_space_back_for_the_deposit() -> None:
    ledger = market(claim_epochs=2)
    (key,) = revealed(ledger, (ANN, terms(size=GIB, price=20 * RESERVE)))
    leased = ledger.market.leased
    ledger.end_epoch()
    assert ledger.market.leased == leased + GIB
    ledger.end_epoch()
    assert bid_of(ledger, key) is not None
    ledger.end_epoch()
    assert ends(ledger) == [(key, DEPOSIT, "not claimed")]
    assert ledger.do(ANN, ClaimLease(bid=key)).code == "not_found"
    assert ledger.market.leased == leased
    assert ledger.balance(ANN) == 1000 * TOKEN - DEPOSIT
    assert ledger.unaccounted() == 0


def test_one_account_takes_no_more_than_its_share_of_an_epochs_capacity() -> None:
    ledger = market(account_cap_permille=300)
    keys = revealed(
        ledger,
        (ANN, terms(size=2 * GIB, price=9 * RESERVE, salt=1)),
        (ANN, terms(size=2 * GIB, price=8 * RESERVE, salt=2)),
        (ANN, terms(size=GIB, price=7 * RESERVE, salt=3)),
        (BOB, terms(BOB, size=3 * GIB, price=2 * RESERVE)),
    )
    ledger.end_epoch()
    assert {event["bid"] for event in ledger.events("bid_won")} == {keys[0], keys[2], keys[3]}
    assert ledger.market.price == RESERVE, "what was passed over sets no price"


def test_bids_that_wait_are_bounded() -> None:
    ledger = market(bids_max=2)
    commit(ledger, ANN, terms(salt=1))
    commit(ledger, ANN, terms(salt=2))
    body = CommitBid(commitment=bytes(32))
    assert ledger.do(ANN, body).code == "limit"
    ledger.end_epoch(2)
    assert ledger.do(ANN, body).ok
    assert ledger.do(ANN, body).code == "exists"


def test_a_gap_runs_one_epoch_in_which_no_bidder_loses_anything() -> None:
    ledger = market(claim_epochs=2)
    (won,) = revealed(ledger, (ANN, terms(salt=1)))
    ledger.end_epoch()
    hidden = terms(BOB, salt=2)
    commit(ledger, BOB, hidden)
    ledger.end_epoch()  # the reveal's epoch begins, and a laptop is closed
    epoch = ledger.market.epoch
    ledger.block([], 50 * EPOCH)
    assert ledger.events("epoch_ended") == [{"epoch": epoch, "catch_up": 1}]
    assert ends(ledger) == []
    assert ledger.do(EVE, hidden).ok
    assert ledger.do(ANN, ClaimLease(bid=won)).ok
    assert ledger.unaccounted() == 0


def test_nobody_loses_a_deposit_in_an_epoch_that_no_block_fell_into() -> None:
    ledger = market()
    hidden = terms()
    commit(ledger, ANN, hidden)
    ledger.block([], 2.5 * EPOCH)
    assert [event["catch_up"] for event in ledger.events("epoch_ended")] == [0, 0]
    assert ends(ledger) == []
    assert ledger.do(ANN, hidden).ok


@pytest.mark.parametrize("first", [0, 1])
def test_ties_are_broken_by_the_beacon_and_not_by_who_came_first(first: int) -> None:
    winners = set()
    for salt in range(8):
        ledger = market()
        people = (ANN, BOB) if first else (BOB, ANN)
        revealed(ledger, *((p, terms(p, size=6 * GIB, salt=salt)) for p in people))
        ledger.end_epoch()
        (event,) = ledger.events("bid_won")
        winners.add(event["owner"])
    assert winners == {ANN.id, BOB.id}


def test_the_reserve_follows_the_votes_by_an_eighth_per_epoch() -> None:
    ledger = market()
    vote = UpdateMiner(address="m", domain="d", pledged_bytes=100 * GIB, min_price=TOKEN)
    assert ledger.do(MINER, vote).ok
    ledger.end_epoch()
    assert ledger.market.reserve == RESERVE * 1125 // 1000
    ledger.end_epoch()
    assert ledger.market.reserve == RESERVE * 1125 // 1000 * 1125 // 1000
    assert ledger.market.price == ledger.market.reserve
