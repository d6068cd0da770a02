"""Works off one queue: at least once, in order for each key, as long as it takes.

Rows of a page are spread over lanes by their object, so that those of one key stay in a lane and a
lane keeps their order. What failed stays in the queue, in front: it is tried again after a pause
that doubles. A row that is refused for itself too often, or is too old, is dropped and counted.
"""

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from chain.clock import Clock
from gateway.events.queues import Queue, Waiting
from gateway.events.target import TargetRefused, TargetUnavailable
from gateway.records import QueuedRow

log = logging.getLogger(__name__)
PAGE = 256
LOOK_SECONDS = 0.25
PAUSE_FIRST, PAUSE_MAX = 1.0, 60.0
REFUSALS_MAX = 5
R = TypeVar("R", bound=QueuedRow)


class Pace(msgspec.Struct, frozen=True):
    """How a queue is worked off."""

    lanes: int = 4  # deliveries under way at once
    batch: int = 1  # rows of one delivery
    keep_seconds: float = 3 * 86400.0  # what is older is dropped


class Courier(Generic[R]):
    """Of one queue; make one for each name."""

    def __init__(
        self,
        queue: Queue[R],
        deliver: Callable[[Sequence[R]], Awaitable[None]],
        clock: Clock,
        pace: Pace,
        on_drop: Callable[[R], Awaitable[None]] | None = None,
    ) -> None:
        """`deliver` raises TargetUnavailable, TargetRefused; `on_drop` hears of rows given up."""
        self._queue = queue
        self._deliver = deliver
        self._clock = clock
        self._pace = pace
        self._on_drop = on_drop
        self._refusals: dict[bytes, int] = {}

    async def run(self) -> None:
        """Until cancelled. Raises CatalogUnavailable: start it again."""
        pause = PAUSE_FIRST
        while True:
            rows = self._queue.page(PAGE)
            if not rows:
                await self._clock.sleep(LOOK_SECONDS)
            elif await self.step(rows):
                pause = PAUSE_FIRST
            else:
                await self._clock.sleep(pause)
                pause = min(2 * pause, PAUSE_MAX)

    async def step(self, rows: Sequence[Waiting[R]]) -> bool:
        """Bring rows and take out what is done; False when some have to be tried again."""
        done: list[Waiting[R]] = []
        dropped: list[Waiting[R]] = []
        lanes: dict[int, list[Waiting[R]]] = {}
        for row in rows:
            place = dropped if self._is_old(row) else lanes.setdefault(self._lane(row), [])
            place.append(row)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._bring(lane, done, dropped)) for lane in lanes.values()
                ]
        finally:
            if self._on_drop:
                for row in dropped:
                    await self._on_drop(row.row)
            await self._queue.remove(done, dropped)
            for row in (*done, *dropped):
                self._refusals.pop(row.place, None)
        if dropped:
            log.warning("%s %s: %d rows dropped", self._queue.kind, self._queue.name, len(dropped))
        return all(task.result() for task in tasks)

    def _is_old(self, row: Waiting[R]) -> bool:
        age = self._clock.now_ns() - row.row.time_ns
        return age > self._pace.keep_seconds * 1e9

    def _lane(self, row: Waiting[R]) -> int:
        return zlib.crc32("/".join(_name(row)).encode()) % self._pace.lanes

    async def _bring(
        self, lane: Sequence[Waiting[R]], done: list[Waiting[R]], dropped: list[Waiting[R]]
    ) -> bool:
        """Bring a lane's rows in order; behind a row that is refused, those of other objects."""
        refused: set[tuple[str, str]] = set()
        at, size = 0, self._pace.batch
        while at < len(lane):
            batch = [row for row in lane[at : at + size] if _name(row) not in refused]
            try:
                if batch:
                    await self._deliver([each.row for each in batch])
            except TargetUnavailable as problem:
                log.info("%s %s: %s", self._queue.kind, self._queue.name, problem)
                return False
            except TargetRefused as problem:
                if len(batch) > 1:
                    size = 1  # which one is it?
                    continue
                if self._give_up(batch[0], problem):
                    dropped += batch
                else:
                    refused.add(_name(batch[0]))
            except Exception:  # our own fault: it is tried again, and stops no other object
                log.exception("%s %s: a row fails", self._queue.kind, self._queue.name)
                if len(batch) > 1:
                    size = 1
                    continue
                refused.add(_name(batch[0]))
            else:
                done += batch
            at += size
        return not refused

    def _give_up(self, row: Waiting[R], problem: TargetRefused) -> bool:
        refusals = self._refusals.get(row.place, 0) + 1
        self._refusals[row.place] = refusals
        log.warning(
            "%s %s: %s of %s/%s is refused (%d of %d): %s",
            self._queue.kind, self._queue.name, row.row.event, row.row.bucket, row.row.key,
            refusals, REFUSALS_MAX, problem,
        )  # fmt: skip
        return refusals >= REFUSALS_MAX


def _name(row: Waiting[R]) -> tuple[str, str]:
    return row.row.bucket, row.row.key
