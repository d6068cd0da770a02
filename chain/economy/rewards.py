"""How an epoch's lease fees are divided. Pure; integers; every unit goes somewhere.

Miners are paid out of lease fees alone, after the burn and the treasury's part, so a miner that
leases from itself always loses.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Division:
    """Parts of one epoch's revenue; `miners` in the order of the input. They add up to it."""

    burned: int
    treasury: int
    miners: list[tuple[int, int]]  # (for stored bytes, for idle bytes)


def divide(
    revenue: int,
    miners: Sequence[tuple[int, int]],
    *,
    burn_permille: int,
    treasury_permille: int,
    idle_permille: int,
) -> Division:
    """Divide `revenue` units among miners given as (stored bytes, idle bytes).

    Shares round down and the remainders go to the treasury. Without stored bytes their share goes
    by idle space, without idle space by stored bytes; without any miner all goes to the treasury.
    """
    burned = revenue * burn_permille // 1000
    share = revenue - burned - revenue * treasury_permille // 1000
    stored = sum(entry[0] for entry in miners)
    idle = sum(entry[1] for entry in miners)
    for_idle = share * idle_permille // 1000
    for_stored = share - for_idle
    if not stored:
        for_idle, for_stored = share, 0
    elif not idle:
        for_idle, for_stored = 0, share
    paid = [
        (
            for_stored * own_stored // stored if stored else 0,
            for_idle * own_idle // idle if idle else 0,
        )
        for own_stored, own_idle in miners
    ]
    treasury = revenue - burned - sum(a + b for a, b in paid)
    return Division(burned, treasury, paid)
