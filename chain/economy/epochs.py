"""The end of an epoch: bids, auction, rewards, leases, in this order.

Runs in the first block whose time reaches the epoch's end. After a gap of more than two epochs (a
closed laptop) one catch-up epoch is run instead of many: leases, whose terms are counted in epochs,
are longer by the gap. Nobody loses a deposit in it, nor in an epoch that no block fell into:
nothing could be revealed or claimed there.
"""

import hashlib
from typing import Literal

from msgspec.structs import replace

from chain.economy import price
from chain.economy.rewards import divide
from chain.genesis import MIB
from chain.ids import AccountId
from chain.ledger import records
from chain.ledger.execution import Execution
from chain.ledger.records import Bid, Flow, Mark, Market, u64
from chain.ledger.transactions.miners import active_bytes

GAP_EPOCHS = 2


def run_due_epochs(run: Execution, previous: bytes) -> None:
    """End every epoch that is over at the block's time; `previous` is the last block's hash."""
    length = run.parameters.epoch_seconds * 10**9
    ended = 0
    while run.time_ns >= run.market.end_ns:
        late = run.time_ns - run.market.end_ns
        catch_up = late > GAP_EPOCHS * length
        run.emit("epoch_ended", epoch=run.market.epoch, catch_up=int(catch_up))
        _end_epoch(run, previous, lenient=catch_up or ended > 0)
        ended += 1
        market = run.market
        start = run.time_ns if catch_up else market.end_ns
        run.set_market(
            replace(market, epoch=market.epoch + 1, start_ns=start, end_ns=start + length)
        )


def _end_epoch(run: Execution, previous: bytes, *, lenient: bool) -> None:
    market = run.market
    waiting = _sort_out_bids(run, lenient=lenient)
    _clear(run, waiting, hashlib.sha256(previous + market.mix).digest())
    _pay_out(run)
    _end_leases(run, market.epoch + 1)
    _forget_receipts(run)
    run.set_market(replace(run.market, mix=bytes(32)))


# ---------------------------------------------------------------- bids


def _sort_out_bids(run: Execution, *, lenient: bool) -> list[tuple[bytes, Bid]]:
    """Drop bids whose window is over; the revealed ones, which take part."""
    market, waiting = run.market, []
    for key, bid in list(run.state.scan(records.BIDS)):
        if bid.state == "revealed":
            waiting.append((key, bid))
        elif bid.state == "committed" and bid.epoch < market.epoch:
            if lenient:
                run.state.put(records.BIDS, key, replace(bid, epoch=market.epoch))
            else:
                _drop(run, key, bid, kept=bid.deposit, why="not revealed")
        elif _unclaimed(run, bid) and not lenient:
            run.set_market(replace(run.market, leased=run.market.leased - bid.size))
            kept = min(bid.deposit, bid.escrow)
            _drop(run, key, bid, kept=kept, why="not claimed")
    return waiting


def _unclaimed(run: Execution, bid: Bid) -> bool:
    return bid.state == "won" and bid.epoch + run.parameters.claim_epochs <= run.market.epoch


BidEnd = Literal["not revealed", "not claimed", "expired"]


def _drop(run: Execution, key: bytes, bid: Bid, *, kept: int, why: BidEnd) -> None:
    """Delete a bid; `kept` units of what it held go to the treasury, the rest back."""
    run.state.put(records.BIDS, key, None)
    run.move("bids", -bid.escrow)
    run.move("treasury", kept)
    run.credit(bid.owner, bid.escrow - kept)
    run.set_market(replace(run.market, bids=run.market.bids - 1))
    run.emit("bid_ended", bid=key, owner=bid.owner, kept=kept, reason=why)


def _clear(run: Execution, waiting: list[tuple[bytes, Bid]], beacon: bytes) -> None:
    """One price for all; winners wait for their claim, losers for the next epoch or their end."""
    market, parameters = run.market, run.parameters
    reserve = _reserve(run, market)
    capacity = run.capacity() // MIB
    capped = parameters.account_cap_permille < 1000
    outcome = price.clear(
        [bid.price for _, bid in waiting],
        [bid.size // MIB for _, bid in waiting],
        # never by the id alone: the bidder could choose it
        [int.from_bytes(hashlib.sha256(beacon + key).digest()[:8], "big") for key, _ in waiting],
        capacity,
        reserve,
        owners=[bid.owner for _, bid in waiting],
        owner_cap=capacity * parameters.account_cap_permille // 1000 if capped else None,
    )
    won = set(outcome.winners)
    for index in outcome.winners:
        key, bid = waiting[index]
        award = replace(bid, state="won", epoch=market.epoch, price=outcome.price)
        run.state.put(records.BIDS, key, award)
        run.emit("bid_won", bid=key, owner=bid.owner, price=outcome.price, size=bid.size)
    for index, (key, bid) in enumerate(waiting):
        if index not in won and bid.expires <= market.epoch:
            _drop(run, key, bid, kept=0, why="expired")
    market = run.market
    leased = market.leased + outcome.filled * MIB
    run.set_market(replace(market, price=outcome.price, reserve=reserve, leased=leased))
    run.emit(
        "cleared",
        epoch=market.epoch,
        price=outcome.price,
        reserve=reserve,
        bids=len(waiting),
        winners=len(outcome.winners),
        size=outcome.filled * MIB,
    )


def _reserve(run: Execution, market: Market) -> int:
    """The stake-weighted vote, clamped; by pledged bytes where no miner has a stake."""
    voters = [miner for _, miner in run.state.scan(records.MINERS) if miner.state == "active"]
    wanted = price.reserve_price([(miner.min_price, miner.stake) for miner in voters])
    if wanted is None:
        wanted = price.reserve_price([(miner.min_price, miner.pledged_bytes) for miner in voters])
    if wanted is None:
        return market.reserve
    return max(1, price.clamp(wanted, market.reserve, run.parameters.clamp_permille))


# ---------------------------------------------------------------- money


def _pay_out(run: Execution) -> None:
    """Divide the epoch's lease fees; one event per miner says what for."""
    market, parameters = run.market, run.parameters
    change = run.state.get(records.FLOWS, u64(market.epoch)) or Flow(0, 0, 0)
    flow = market.flow + change.add - change.remove
    run.state.put(records.FLOWS, u64(market.epoch), None)
    run.set_market(replace(market, flow=flow))
    revenue = flow + change.once
    if not revenue:
        return
    miners = [
        (key, miner) for key, miner in run.state.scan(records.MINERS) if miner.state != "lost"
    ]
    shares = [
        (miner.stored_bytes, max(0, active_bytes(miner) - miner.stored_bytes))
        for _, miner in miners
    ]
    division = divide(
        revenue,
        shares,
        burn_permille=parameters.burn_permille,
        treasury_permille=parameters.treasury_permille,
        idle_permille=parameters.idle_permille,
    )
    run.move("leases", -revenue)
    run.move("burned", division.burned)
    run.move("treasury", division.treasury)
    for (key, miner), (stored, idle), (for_stored, for_idle) in zip(
        miners, shares, division.miners, strict=True
    ):
        run.credit(miner.owner, for_stored + for_idle)
        run.emit(
            "reward",
            miner=key,
            owner=miner.owner,
            for_stored=for_stored,
            for_idle=for_idle,
            stored=stored,
            idle=idle,
        )
    run.emit(
        "fees_divided",
        epoch=market.epoch,
        revenue=revenue,
        burned=division.burned,
        treasury=division.treasury,
        miners=sum(a + b for a, b in division.miners),
    )


# ---------------------------------------------------------------- leases


def _end_leases(run: Execution, epoch: int) -> None:
    """Leases whose term ended before `epoch` freeze; those whose grace ended go."""
    for row, _ in list(run.state.scan(records.ENDS, within=u64(epoch))):
        run.state.put(records.ENDS, row, None)
        _end_lease(run, row[8:], epoch)


def _end_lease(run: Execution, key: bytes, epoch: int) -> None:
    lease = run.state.get(records.LEASES, key)
    if lease is None:
        return
    grace = run.parameters.grace_epochs
    if lease.state == "active" and lease.end == epoch:
        lease = replace(lease, state="grace")
        run.state.put(records.LEASES, key, lease)
        run.emit("lease_frozen", lease=key, owner=lease.owner, until=epoch + grace)
        if grace:
            run.state.put(records.ENDS, u64(epoch + grace) + key, Mark(run.height))
            return
    if lease.state == "grace" and lease.end + grace == epoch:
        for row, _ in list(run.state.scan(records.AUTHORISATIONS, within=key)):
            run.state.put(records.AUTHORISATIONS, row, None)
        run.state.put(records.LEASES, key, None)
        run.state.put(records.LEASES_BY_OWNER, AccountId(lease.owner) + key, None)
        run.set_market(replace(run.market, leased=run.market.leased - lease.size))
        run.emit("lease_expired", lease=key, owner=lease.owner, used=lease.used)


def _forget_receipts(run: Execution) -> None:
    """Receipts too old to count need no memory."""
    oldest = run.time_ns - run.parameters.receipt_seconds * 10**9
    if oldest <= 0:
        return
    for key, _ in list(_older(run, u64(oldest))):
        run.state.put(records.RECEIPTS, key, None)


def _older(run: Execution, end: bytes) -> list[tuple[bytes, Mark]]:
    found = []
    for key, mark in run.state.scan(records.RECEIPTS):
        if key >= end:
            break
        found.append((key, mark))
    return found
