"""How a placement is changed after its object was committed: read, decide, compare and set.

Several processes change placements: the pool's owner answers miners, repair moves fragments,
objects are deleted. The placement's value is the only cell that they agree by (ADR 031).
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from chain.ids import SegmentId
from miner.placement import (
    Holder,
    InvalidPlacement,
    MinerDirectory,
    Placement,
    domain_of,
    placement_rows,
)
from miner.records import PoolRecords, Row

log = logging.getLogger(__name__)

_ATTEMPTS = 5
# What to put where, after a look at the present placement; empty: leave it as it is.
Decide = Callable[[Placement], Mapping[int, Holder]]
# (expected rows, changes) -> whether they were made, as PoolRecords.apply.
Apply = Callable[[Sequence[Row], Sequence[Row]], Awaitable[bool]]


class PlacementChanges:
    """Changes of single placements. Nothing is cached: every attempt reads the row anew."""

    def __init__(self, records: PoolRecords, directory: MinerDirectory) -> None:
        self._records = records
        self._directory = directory

    def read(self, segment: SegmentId) -> Placement | None:
        """The placement; None when there is none, or a damaged one (which is logged)."""
        raw = self._records.get("placement", segment)
        return None if raw is None else parse_or_log(segment, raw)

    async def change(
        self, segment: SegmentId, decide: Decide, apply: Apply | None = None
    ) -> Placement | None:
        """Set what `decide` says; the new placement, or None when nothing was changed.

        `decide` is asked again when somebody else was quicker. `crowded` is set right on the way.
        """
        for _ in range(_ATTEMPTS):
            raw = self._records.get("placement", segment)
            old = None if raw is None else parse_or_log(segment, raw)
            if old is None:
                return None
            changes = decide(old)
            if not changes:
                return None
            new = self.moved(old, changes)
            rows = placement_rows(new, old)
            if await (apply or self._records.apply)([Row("placement", segment, raw)], rows):
                return new
        log.info("segment %s changes too fast, later again", segment.hex())
        return None

    def moved(self, placement: Placement, changes: Mapping[int, Holder]) -> Placement:
        """The next revision, with every `crowded` right."""
        holders = [changes.get(i, holder) for i, holder in enumerate(placement.holders)]
        return placement.moved(dict(enumerate(crowd(holders, self._directory))))


def crowd(holders: Sequence[Holder], directory: MinerDirectory) -> list[Holder]:
    """The holders with `crowded` set: on all but one of the fragments in each failure domain."""
    taken: set[str] = set()
    flagged = list(holders)
    for i in sorted(range(len(holders)), key=lambda i: holders[i].crowded):
        holder = holders[i]
        if holder.miner is None or holder.away:
            flagged[i] = holder._replace(crowded=False)
            continue
        domain = domain_of(holder.miner, directory)
        flagged[i] = holder._replace(crowded=domain in taken)
        taken.add(domain)
    return flagged


def parse_or_log(segment: bytes, raw: bytes) -> Placement | None:
    """A placement row; None for a damaged one."""
    try:
        return Placement.parse(raw)
    except InvalidPlacement:
        log.exception("the placement of %s is damaged", segment.hex())
        return None
