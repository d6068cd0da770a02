"""Where the lost fragments of one segment go (pure).

Rules:
1. A fragment goes to a failure domain that holds no other of its segment, as a write puts it there.
2. While such a domain is silent, but not yet given up, repair waits for it.
3. Only where none is left two fragments share a domain: the one with the fewest, another miner
   of it if there is one. They are `crowded` and move when a domain is free.
4. The same miners are chosen again after a crash: the seed is the segment's id.
"""

from collections.abc import Callable, Iterable, Set
from typing import NamedTuple

from chain.ids import AccountId
from miner.placement import SEED_BYTES, MinerDirectory, MinerInfo, Placement, domain_of, rank


class Losses(NamedTuple):
    """What a segment lacks by what the directory says now."""

    wanted: list[int]  # to rebuild: what nobody has, then what is at a miner that is gone
    returned: list[int]  # at a miner that was away and is back
    moving: list[int]  # crowded


def losses(placement: Placement, directory: MinerDirectory) -> Losses:
    """Which fragments must be rebuilt, are there again, or should move."""
    wanted: list[int] = []
    returned: list[int] = []
    for index, holder in enumerate(placement.holders):
        miner = None if holder.miner is None else directory.get(holder.miner)
        if miner is None or miner.gone:
            wanted.append(index)
        elif holder.away:
            returned.append(index)
    wanted.sort(key=lambda index: placement.holders[index].miner is not None)
    return Losses(wanted, returned, placement.crowded)


class Targets:
    """The miners that may take what a segment lacks, best first."""

    def __init__(
        self,
        placement: Placement,
        lacking: Set[int],
        directory: MinerDirectory,
        *,
        up: Callable[[MinerInfo], bool],
        room: int,
    ) -> None:
        """`lacking`: indices whose holders do not count. `room`: bytes that a fragment takes."""
        seed = placement.segment.id[:SEED_BYTES]
        able = (miner for miner in directory.all() if not miner.gone and miner.free_bytes >= room)
        self._ranked = sorted(able, key=lambda miner: rank(miner, seed))
        self._up = up
        self._load: dict[str, int] = {}
        self._holding: dict[AccountId, int] = {}
        for index, holder in enumerate(placement.holders):
            if holder.miner is not None and index not in lacking:
                self._count(holder.miner, domain_of(holder.miner, directory), 1)

    def take(self, *, crowd: bool) -> MinerInfo | None:
        """The best miner for one more fragment, which counts as its holder from now on.

        None: there is none now. `crowd` allows a domain that holds a fragment already.
        """
        found = self.best(crowd=crowd)
        if found is not None:
            self._count(found.id, found.domain, 1)
        return found

    def best(self, *, crowd: bool) -> MinerInfo | None:
        """Whom `take` would name."""
        distinct = [miner for miner in self._ranked if not self._load.get(miner.domain)]
        found = next(filter(self._up, distinct), None)
        if found is None and crowd and not distinct:
            found = min(filter(self._up, self._ranked), key=self._crowding, default=None)
        return found

    def failed(self, miner: MinerInfo, *, silent: bool) -> None:
        """It did not take the fragment: it is not asked again. A silent one keeps its domain free
        for itself (rule 2).
        """
        self._count(miner.id, miner.domain, -1)
        if silent:
            up = self._up
            self._up = lambda other: other.id != miner.id and up(other)
        else:
            self._ranked = [other for other in self._ranked if other.id != miner.id]

    def _crowding(self, miner: MinerInfo) -> tuple[int, int]:
        return self._load.get(miner.domain, 0), self._holding.get(miner.id, 0)

    def _count(self, miner: AccountId, domain: str, change: int) -> None:
        self._load[domain] = self._load.get(domain, 0) + change
        self._holding[miner] = self._holding.get(miner, 0) + change


def standing(directory: Iterable[MinerInfo]) -> frozenset[AccountId]:
    """Who could take something: a change of it is a reason to look at the whole queue anew."""
    return frozenset(miner.id for miner in directory if not miner.gone and miner.free_bytes > 0)
