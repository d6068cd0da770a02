"""The auction: truthful for unit demand, robust reserve, no overselling."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from chain.economy.price import clamp, clear, lease_cost, reserve_price
from chain.economy.rewards import divide


def utility(value: int, bids: list[int], bidder: int, capacity: int, reserve: int) -> int:
    outcome = clear(bids, [1] * len(bids), list(range(len(bids))), capacity, reserve)
    return value - outcome.price if bidder in outcome.winners else 0


def test_no_misreport_is_profitable_on_any_small_instance() -> None:
    tried = 0
    for bidders in (2, 3):
        for values in product(range(5), repeat=bidders):
            for capacity, reserve in product((1, 2), (0, 2)):
                for bidder, value in enumerate(values):
                    truth = utility(value, list(values), bidder, capacity, reserve)
                    for report in range(6):
                        bids = [*values[:bidder], report, *values[bidder + 1 :]]
                        tried += 1
                        assert utility(value, bids, bidder, capacity, reserve) <= truth
    assert tried == 4 * 6 * (2 * 25 + 3 * 125)


@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(1, 50)), min_size=1, max_size=8),
    st.integers(0, 10**9),
)
def test_reserve_stays_in_honest_range_below_a_third_of_byzantine_stake(
    honest: list[tuple[int, int]], vote: int
) -> None:
    byzantine = (sum(stake for _, stake in honest) - 1) // 2
    reserve = reserve_price([*honest, (vote, byzantine)])
    assert reserve is not None
    assert min(p for p, _ in honest) <= reserve <= max(p for p, _ in honest)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(0, 3)), max_size=20),
    st.integers(0, 60),
    st.integers(0, 20),
)
def test_clearing_sells_no_more_than_there_is_at_one_fair_price(
    bids: list[tuple[int, int, int]], capacity: int, reserve: int
) -> None:
    prices, sizes, ties = ([bid[i] for bid in bids] for i in range(3))
    outcome = clear(prices, sizes, ties, capacity, reserve)
    assert outcome.filled == sum(sizes[i] for i in outcome.winners) <= capacity
    assert all(prices[i] >= outcome.price >= reserve for i in outcome.winners)
    losers = set(range(len(bids))) - set(outcome.winners)
    assert all(prices[i] <= outcome.price for i in losers)
    assert outcome.price == max([reserve, *(prices[i] for i in losers if prices[i] >= reserve)])


def test_account_cap_passes_over_the_excess_of_one_owner() -> None:
    outcome = clear([9, 8, 7], [5, 5, 5], [0, 0, 0], 15, 1, owners=[b"a", b"a", b"b"], owner_cap=5)
    assert outcome.winners == [0, 2]
    assert outcome.price == 1


def test_reserve_moves_an_eighth_at_most_and_can_leave_zero() -> None:
    assert (clamp(5000, 1000, 125), clamp(1, 1000, 125), clamp(9, 0, 125)) == (1125, 875, 1)


def test_lease_costs_round_up() -> None:
    assert lease_cost(1, 1 << 20, 1, 720) == 1
    assert lease_cost(720, 1 << 30, 720, 720) == 720


@given(
    st.integers(0, 10**12),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=9),
)
def test_division_of_fees_conserves_every_unit(revenue: int, miners: list[tuple[int, int]]) -> None:
    division = divide(revenue, miners, burn_permille=50, treasury_permille=70, idle_permille=50)
    paid = sum(a + b for a, b in division.miners)
    assert division.burned + division.treasury + paid == revenue
    assert min(division.burned, division.treasury) >= 0
