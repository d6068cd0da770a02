"""The unified storage price: one call auction per epoch. Pure; integers only.

Every winner pays one price, max(reserve, highest losing bid). With unit demand no bidder gains by
misreporting (tests try every misreport on small instances); the lowest *winning* bid as the price,
or a partial fill of the marginal bid, would invite profitable ones. The reserve is a stake-weighted
quantile: with less than a third of the stake dishonest it stays between honest votes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Sizes are MiB here: 10^6 bids of 2^30 MiB add up within 63 bits.
SIZE_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class Clearing:
    """Outcome of one auction: the price, indices of the winners best first, MiB they take."""

    price: int
    winners: list[int]
    filled: int


def reserve_price(votes: Sequence[tuple[int, int]]) -> int | None:
    """The lowest voted price p such that at least 2/3 of the stake voted ≤ p.

    `votes` holds (price, stake ≥ 0); None when there is no stake.
    """
    total = sum(stake for _, stake in votes)
    if total == 0:
        return None
    below = 0
    for price, stake in sorted(votes):
        below += stake
        if 3 * below >= 2 * total:
            return price
    raise AssertionError("the stakes add up to their total")


def clamp(wanted: int, before: int, permille: int) -> int:
    """`wanted`, moved at most `permille` (at least one unit) away from `before`."""
    step = max(1, before * permille // 1000)
    return max(before - step, min(before + step, wanted), 0)


def clear(
    prices: Sequence[int],
    sizes: Sequence[int],
    ties: Sequence[int],
    capacity: int,
    reserve: int,
    *,
    owners: Sequence[bytes] = (),
    owner_cap: int | None = None,
) -> Clearing:
    """Fill `capacity` MiB from the highest price down; equal prices by the smaller tie.

    The first bid that does not fit whole loses, sets the price and ends the filling; its remainder
    is left for instant leases. With `owner_cap`, an owner's bids beyond that many MiB are passed
    over and set no price. `prices` < 2^63, `sizes` ≤ SIZE_MAX, `ties` < 2^64.
    """
    if not prices:
        return Clearing(reserve, [], 0)
    price = np.asarray(prices, dtype=np.int64)
    size = np.asarray(sizes, dtype=np.int64)
    order = np.lexsort((np.arange(len(price)), np.asarray(ties, dtype=np.uint64), -price))
    order = order[price[order] >= reserve]
    if owner_cap is not None:
        order = order[_within_cap(order, sizes, owners, owner_cap)]
    filled = np.cumsum(size[order])
    count = int(np.searchsorted(filled, capacity, side="right"))
    cleared = reserve if count == len(order) else max(reserve, int(price[order[count]]))
    return Clearing(cleared, order[:count].tolist(), int(filled[count - 1]) if count else 0)


def _within_cap(
    order: "np.ndarray[tuple[int], np.dtype[np.intp]]",
    sizes: Sequence[int],
    owners: Sequence[bytes],
    cap: int,
) -> list[bool]:
    taken: dict[bytes, int] = {}
    kept = []
    for index in order.tolist():
        total = taken.get(owners[index], 0) + sizes[index]
        kept.append(total <= cap)
        if total <= cap:
            taken[owners[index]] = total
    return kept


def lease_cost(price: int, size: int, epochs: int, month_epochs: int) -> int:
    """Units for `size` bytes over `epochs` at `price` per GiB-month, rounded up."""
    return -(-price * size * epochs // (month_epochs << 30))
