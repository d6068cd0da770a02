"""The repair queue: works off the `repairs` rows, most urgent first.

Rules:
1. Order is by margin: what would be lost next is rebuilt first. New rows are looked at soon.
2. What cannot be repaired now waits by itself, longer each time, and holds up nothing else. Where
   fewer than k holders are believed to be up nobody is asked.
3. Memory and bytes a second are bounded: a segment is begun when both have room for it.
4. A row that says something else than its placement is put right.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass

from chain.clock import Clock
from chain.ids import AccountId, SegmentId
from miner.budget import MemoryBudget, Pace
from miner.changes import PlacementChanges, parse_or_log
from miner.client import MinerPeers
from miner.placement import (
    CROWDED_LEVEL,
    Holder,
    InvalidPlacement,
    MinerDirectory,
    Placement,
    parse_repair,
    repair_row,
)
from miner.range_read import Report
from miner.rebuilding import Commit, Rebuilder, Work
from miner.records import PoolRecords, Row
from miner.targets import losses, standing

log = logging.getLogger(__name__)

_PAGE = 256
_WAITING_MAX = 65_536
# After so many segments that were really worked on the queue is begun anew: new rows are urgent.
_BEGIN_ANEW = 256
# A walk that found nothing to do is followed by a rest of so many times its length.
_REST_SHARE = 4
# Segments that somebody works on, repair or the survey: never both at once.
Claims = set[SegmentId]


@dataclass(frozen=True, slots=True)
class RepairSettings:
    """Bytes and seconds."""

    rate: float = float(1 << 30)  # bytes a second, read and stored together
    memory: int = 96 << 20  # held at once; a full segment of 4+2 takes 20 MiB
    width: int = 16  # segments at once
    # No two fragments on one miner before the set of miners was the same for so long: the
    # successor of an emptied one is about to show itself.
    settle: float = 10.0
    store_timeout: float = 30.0
    pause: float = 1.0  # between looks at an idle queue
    pause_max: float = 15.0
    retry: float = 5.0  # of a segment that could not be repaired; doubles
    retry_max: float = 600.0
    crowded: float = 600.0  # between looks at crowded fragments while no miner comes or goes


class Repairer:
    """One per network; `run` is a task of its owner's."""

    def __init__(
        self,
        records: PoolRecords,
        directory: MinerDirectory,
        peers: MinerPeers,
        clock: Clock,
        *,
        commit: Commit,
        report: Report,
        claims: Claims,
        settings: RepairSettings | None = None,
    ) -> None:
        """`report` hears of sources that are lost or wrong, as a StoragePool's."""
        self._records = records
        self._directory = directory
        self._clock = clock
        self._claims = claims
        self._settings = settings or RepairSettings()
        self._changes = PlacementChanges(records, directory)
        self._rebuilder = Rebuilder(
            records,
            directory,
            peers,
            clock,
            commit=commit,
            report=report,
            store_timeout=self._settings.store_timeout,
        )
        self._memory = MemoryBudget(self._settings.memory)
        self._pace = Pace(self._settings.rate, clock)
        self._later: OrderedDict[SegmentId, tuple[float, float]] = OrderedDict()
        self._miners: frozenset[AccountId] | None = None
        self._settled_at = 0.0
        self._crowded_at = 0.0  # when crowded rows are looked at again

    async def run(self) -> None:
        """Repair for ever; cancel to end."""
        pause = self._settings.pause
        async with asyncio.TaskGroup() as tasks:
            while True:
                began = self._clock.monotonic()
                worked = await self._walk(tasks)
                took = self._clock.monotonic() - began
                pause = self._settings.pause if worked else min(2 * pause, self._settings.pause_max)
                await self._rest(max(pause, 0 if worked else _REST_SHARE * took))

    async def step(self) -> int:
        """Go through the queue once; how many segments were worked on."""
        async with asyncio.TaskGroup() as tasks:
            return await self._walk(tasks)

    # ------------------------------------------------------------------ the queue
    async def _rest(self, pause: float) -> None:
        """Until the pause is over, a miner came or went, or the queue begins otherwise."""
        head = self._records.scan("repairs", b"", 1)
        until = self._clock.monotonic() + pause
        while self._clock.monotonic() < until:
            await self._clock.sleep(self._settings.pause)
            if standing(self._directory.all()) != self._miners:
                return
            if self._records.scan("repairs", b"", 1) != head:
                return

    async def _walk(self, tasks: asyncio.TaskGroup) -> int:
        """Once through the queue; crowded rows only when a miner came or went since."""
        self._look_at_miners()
        worked, begun, start = 0, 0, b""
        crowded = bytes([CROWDED_LEVEL])
        while page := self._records.scan("repairs", start, _PAGE):
            start = page[-1][0] + b"\0"
            for key, value in page:
                if key >= crowded and self._clock.monotonic() < self._crowded_at:
                    return worked
                segment = self._due(key, value)
                work = await self._look_at(Row("repairs", key, value), segment) if segment else None
                if work is not None:
                    await self._begin(work, tasks)
                    worked, begun = worked + 1, begun + 1
            if begun >= _BEGIN_ANEW:
                begun, start = 0, b""
            await self._clock.sleep(0)
        self._crowded_at = self._clock.monotonic() + self._settings.crowded
        return worked

    def _look_at_miners(self) -> None:
        """With other miners whatever waited may be possible."""
        now = standing(self._directory.all())
        if now != self._miners:
            self._miners = now
            self._settled_at = self._clock.monotonic() + self._settings.settle
            self._later.clear()
            self._crowded_at = 0.0

    def _is_settling(self) -> bool:
        return self._clock.monotonic() < self._settled_at

    def _due(self, key: bytes, value: bytes) -> SegmentId | None:
        """The segment of a row, if it may be looked at now."""
        try:
            _, segment, _ = parse_repair(key, value)
        except InvalidPlacement:
            log.exception("the repair row %s is damaged", key.hex())
            return None
        due, _ = self._later.get(segment, (0.0, 0.0))
        if segment in self._claims or self._clock.monotonic() < due:
            return None
        # It may have been repaired since the page was read.
        return segment if self._records.get("repairs", key) == value else None

    async def _look_at(self, queued: Row, segment: SegmentId) -> Work | None:
        """What a row asks for; None when nothing can be done for it now."""
        raw = self._records.get("placement", segment)
        placement = None if raw is None else parse_or_log(segment, raw)
        if raw is not None and placement is None:
            return None
        if placement is None or repair_row(placement) != queued:
            await self._mend(Row("placement", segment, raw), queued, placement)
            return None
        if losses(placement, self._directory).returned:
            await self._changes.change(segment, self._returned)
            return None
        return self._rebuilder.plan(placement, crowd=not self._is_settling())

    async def _mend(self, placed: Row, queued: Row, placement: Placement | None) -> None:
        """Put a row of the queue right, if both rows still stand."""
        changes = [Row("repairs", queued.key, None)]
        right = None if placement is None else repair_row(placement)
        if right is not None:
            changes.append(right)
        await self._records.apply([placed, queued], changes)

    def _returned(self, placement: Placement) -> dict[int, Holder]:
        """Fragments whose miner was away and is back: they count again."""
        returned = losses(placement, self._directory).returned
        return {index: placement.holders[index]._replace(away=False) for index in returned}

    # ------------------------------------------------------------------ one segment
    async def _begin(self, work: Work, tasks: asyncio.TaskGroup) -> None:
        """Start as soon as there is room in memory and bandwidth."""
        least = self._settings.memory // self._settings.width
        taken = await self._memory.take(max(work.cost, least))
        await self._pace.take(work.cost)
        segment = work.placement.segment.id
        self._claims.add(segment)

        def end(_: object) -> None:  # also of a task that was cancelled before it began
            self._claims.discard(segment)
            self._memory.give(taken)

        tasks.create_task(self._repair(work)).add_done_callback(end)

    async def _repair(self, work: Work) -> None:
        segment = work.placement.segment.id
        if await self._rebuilder.run(work):
            self._later.pop(segment, None)
        else:
            self._put_off(segment)

    def _put_off(self, segment: SegmentId) -> None:
        _, pause = self._later.pop(segment, (0.0, self._settings.retry / 2))
        pause = min(2 * pause, self._settings.retry_max)
        self._later[segment] = (self._clock.monotonic() + pause, pause)
        if len(self._later) > _WAITING_MAX:
            self._later.popitem(last=False)
