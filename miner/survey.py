"""Finding what is missing without being told.

Rules:
1. When a miner is given up (lost, away) or comes back, every placement is looked at at once, from
   the rows alone: fragments of a lost miner are missing, those of one that is away are to be
   rebuilt.
2. Placements and miners are compared both ways (miner/comparison.py) once a cycle; with a miner
   that was away and is back, soon. Where the cycle stands follows from the wall clock: segment
   ids are evenly spread, and a restart neither begins anew nor needs a note.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chain.clock import Clock
from chain.ids import AccountId, SegmentId
from miner.changes import PlacementChanges, parse_or_log
from miner.client import MinerPeers
from miner.comparison import Comparison
from miner.placement import (
    STANDS,
    STANDS_AWAY,
    STANDS_LOST,
    Holder,
    MinerDirectory,
    MinerInfo,
    Placement,
    holders_differ,
    placement_rows,
)
from miner.records import PoolRecords, Row

log = logging.getLogger(__name__)

_PAGE = 512
_POSITION_BYTES = 8
_POSITIONS = 1 << (8 * _POSITION_BYTES)
Standing = Mapping[AccountId, int]


@dataclass(frozen=True, slots=True)
class SurveySettings:
    """Seconds."""

    cycle: float = 86_400.0  # all placements and all miners compared once
    poll: float = 1.0
    # After a miner was given up: an object that was being written to it may be committed later.
    again: float = 600.0
    pause: float = 0.05  # between pages of a comparison that hurries


class Survey:
    """One per network; `run` is a task of its owner's. `claims` is shared with repair."""

    def __init__(
        self,
        records: PoolRecords,
        directory: MinerDirectory,
        peers: MinerPeers,
        clock: Clock,
        *,
        claims: set[SegmentId],
        settings: SurveySettings | None = None,
    ) -> None:
        self._records = records
        self._directory = directory
        self._peers = peers
        self._clock = clock
        self._settings = settings or SurveySettings()
        self._changes = PlacementChanges(records, directory)
        self._comparison = Comparison(records, directory, peers, claims)
        self._returned: set[AccountId] = set()

    async def run(self) -> None:
        """Survey for ever; cancel to end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._flag_for_ever())
            group.create_task(self._compare_for_ever())

    # ------------------------------------------------------------------ from the rows alone
    async def _flag_for_ever(self) -> None:
        known: Standing | None = None
        again = float("inf")
        while True:
            now = standing_of(self._directory.all())
            if now != known:
                before = known or {}
                back = {m for m in now if now[m] == STANDS and before.get(m) == STANDS_AWAY}
                if back or any(now.values()):
                    await self.flag()
                    again = self._clock.monotonic() + self._settings.again
                self._returned |= back
                known = now
            elif self._clock.monotonic() >= again:
                await self.flag()
                again = float("inf")
            await self._clock.sleep(self._settings.poll)

    async def flag(self) -> int:
        """Make every placement say what the directory says of its miners; how many changed."""
        standing = standing_of(self._directory.all())
        start, changed = b"", 0
        while page := self._records.scan("placement", start, _PAGE):
            start = page[-1][0] + b"\0"
            wrong = [row for row in page if holders_differ(row[1], standing, STANDS_AWAY)]
            changed += await self._set_right(wrong, standing)
            await self._clock.sleep(0)
        if changed:
            log.info("%d segments have fragments at miners that came or went", changed)
        return changed

    async def _set_right(self, page: list[tuple[bytes, bytes]], standing: Standing) -> int:
        """In one commit; one by one where somebody else was quicker."""
        expected: list[Row] = []
        changes: list[Row] = []
        for key, raw in page:
            old = parse_or_log(key, raw)
            if old is not None and (moved := _as_it_stands(old, standing)):
                expected.append(Row("placement", key, raw))
                changes += placement_rows(self._changes.moved(old, moved), old)
        if not expected or await self._records.apply(expected, changes):
            return len(expected)
        changed = 0
        for row in expected:
            segment = SegmentId(row.key)
            now = await self._changes.change(segment, lambda old: _as_it_stands(old, standing))
            changed += now is not None
        return changed

    # ------------------------------------------------------------------ with the miners
    async def _compare_for_ever(self) -> None:
        lap, position = self._place()
        after = position.to_bytes(_POSITION_BYTES, "big")
        while True:
            if ready := {miner for miner in self._returned if self._is_up(miner)}:
                self._returned -= ready
                await self.compare(ready)
            now = self._place()
            lap = max(lap, now[0] - 1)  # a clock that jumps costs one lap at the most
            while (lap, _position(after)) < now:
                after = await self._comparison.page(after, self._all())
                lap += not after
            await self._clock.sleep(self._settings.poll)

    async def compare(self, miners: Iterable[AccountId] | None = None) -> None:
        """All placements with these miners (None: all of them), now."""
        asked = sorted(self._all() if miners is None else miners)
        after = b""
        while after := await self._comparison.page(after, asked):
            await self._clock.sleep(self._settings.pause)

    def _place(self) -> tuple[int, int]:
        """Which cycle it is, and how far in the keyspace it should be."""
        cycle = int(self._settings.cycle * 1e9)
        lap, within = divmod(self._clock.now_ns(), cycle)
        return lap, within * _POSITIONS // cycle

    def _is_up(self, miner: AccountId) -> bool:
        info = self._directory.get(miner)
        return info is not None and self._peers.is_up(info)

    def _all(self) -> list[AccountId]:
        return [miner.id for miner in self._directory.all()]


def standing_of(miners: Iterable[MinerInfo]) -> dict[AccountId, int]:
    """What a placement should say of each miner; of one that is not named here: STANDS_AWAY."""
    return {
        miner.id: STANDS_LOST if miner.lost else STANDS_AWAY if miner.away else STANDS
        for miner in miners
    }


def _as_it_stands(placement: Placement, standing: Standing) -> dict[int, Holder]:
    """The holders that must be said differently."""
    changes: dict[int, Holder] = {}
    for index, holder in enumerate(placement.holders):
        if holder.miner is None:
            continue
        now = standing.get(holder.miner, STANDS_AWAY)
        if now == STANDS_LOST:
            changes[index] = Holder(None)
        elif holder.away != (now == STANDS_AWAY):
            changes[index] = holder._replace(away=now == STANDS_AWAY)
    return changes


def _position(after: bytes) -> int:
    return int.from_bytes(after[:_POSITION_BYTES], "big")
