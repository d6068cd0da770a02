"""One read of windows of a segment's shards: data first, parity for what fails or lags.

Rules:
1. The healthy path asks each data shard for its part of the range and nothing else.
2. The code works byte by byte: what is lost in the window [lo, hi) of a shard needs that window of
   k others, and one set of k serves all lost shards.
3. Hedges (asking more because an answer is late) are at most 5 % of all asks, until an answer is
   overdue: then parity is asked whatever it costs.
4. A miner that was silent while it was asked is left alone from the next read on, until it says
   something: only those who were waiting already wait for it.
5. A miner that said a moment ago that it has no such fragment is left alone for this fragment.
6. A miner that is left alone is asked when fewer than k others are there, and one that could not be
   reached is tried again for a while: k connected holders are enough, however slow they are.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chain.clock import Clock
from chain.net.transport import Buffer, RemoteError, Unreachable
from miner import protocol
from miner.client import MinerPeers
from miner.erasure import code_for
from miner.fragment import fragment_id
from miner.hedging import HedgeBudget, ReadSettings
from miner.placement import MinerDirectory, MinerInfo, Placement
from miner.protocol import Missing, ReadFragment
from miner.segments import Arrived, SegmentUnavailable

Report = Callable[[Missing], None]
Range = tuple[int, int]

_PAUSE_FIRST, _PAUSE_MAX = 0.05, 0.5


@dataclass(frozen=True, slots=True)
class ReadMeans:
    """What every read shares. `report` hears of fragments that are lost or wrong."""

    peers: MinerPeers
    directory: MinerDirectory
    clock: Clock
    settings: ReadSettings
    report: Report
    budget: HedgeBudget


@dataclass(slots=True)
class _Fetch:
    """Bytes [lo, hi) of fragment `index`, asked of a miner."""

    index: int
    lo: int
    hi: int
    miner: MinerInfo
    started: float
    patience: float
    due: float  # when to ask others instead; 0: that was done
    data: Buffer | None = None
    failed: bool = False

    @property
    def pending(self) -> bool:
        return self.data is None and not self.failed

    def covers(self, lo: int, hi: int) -> bool:
        return self.lo <= lo and hi <= self.hi

    def window(self, lo: int, hi: int) -> memoryview:
        assert self.data is not None
        return memoryview(self.data)[lo - self.lo : hi - self.lo]


class RangeRead:
    """One read. `wanted`: shard -> window; what is there of it: `run`."""

    def __init__(
        self,
        means: ReadMeans,
        placement: Placement,
        wanted: dict[int, Range],
        *,
        verify: bool,
        arrived: Arrived | None = None,
    ) -> None:
        """`arrived` hears of shards whose windows come from their own miners."""
        self._means = means
        self._placement = placement
        self._segment = placement.segment
        self._segment_id = placement.segment.id  # a hash, asked for often
        self._wanted = wanted
        self._verify = verify
        self._arrived = arrived
        self._fetches: list[_Fetch] = []
        self._got: dict[int, memoryview] = {}
        self._bad: set[int] = set()  # indices that cannot be had
        self._away: set[int] = set()  # indices whose miners were not reached
        self._late: set[int] = set()
        self._overdue: set[int] = set()
        self._avoided: set[int] = set()  # wanted, but their miners are left alone
        self._event = asyncio.Event()
        self._start: Callable[[_Fetch], None]

    async def run(self) -> dict[int, memoryview]:
        """The wanted windows. Raises SegmentUnavailable."""
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[None]] = []

            def start(fetch: _Fetch) -> None:
                tasks.append(group.create_task(self._fetch(fetch)))

            self._start = start
            self._ask_wanted()
            await self._gather()
            for task in tasks:
                task.cancel()
        self._note_late()
        # No cycle may keep the received frames until the collector comes round: it was half of a
        # worker's memory under load.
        self._fetches.clear()
        del self._start
        if len(self._got) < len(self._wanted):
            raise SegmentUnavailable(
                f"segment {self._segment_id.hex()}: fewer than {self._segment.profile.k} "
                f"of {self._segment.profile.n} fragments can be read"
            )
        return self._got

    def _ask_wanted(self) -> None:
        for index, (lo, hi) in self._wanted.items():
            if self._is_left_alone(index):
                self._avoided.add(index)
            elif self._ask(index, lo, hi):
                self._means.budget.asked()

    async def _gather(self) -> None:
        """Until all is there, or cannot be had."""
        clock = self._means.clock
        deadline = clock.monotonic() + self._means.settings.retry
        pause = _PAUSE_FIRST
        while not self._complete():
            counts = self._means.budget.counts
            counts.parity += self._ask_parity(self._bad | self._away | self._avoided)
            if self._is_hopeless():
                return
            if any(fetch.pending for fetch in self._fetches):
                await self._wait()
                continue
            if clock.monotonic() >= deadline:
                return
            await clock.sleep(pause)
            pause = min(_PAUSE_MAX, pause * 2)
            self._away.clear()
            self._avoided.clear()
            for index in self._wanted.keys() - self._got.keys() - self._bad:
                self._ask(index, *self._wanted[index])

    def _is_hopeless(self) -> bool:
        """Whether something is lost for good, and too little is left to restore it from."""
        left = len(self._placement.holders) - len(self._bad)
        for index, holder in enumerate(self._placement.holders):
            left -= holder.miner is None and index not in self._bad
        lost = self._bad.intersection(self._wanted).difference(self._got)
        return bool(lost) and left < self._segment.profile.k

    def _complete(self) -> bool:
        """Take what has arrived; restore the rest if k windows of it are there."""
        for fetch in self._fetches:
            window = self._wanted.get(fetch.index)
            if window is None or fetch.data is None or fetch.index in self._got:
                continue
            if fetch.covers(*window):
                self._got[fetch.index] = fetch.window(*window)
                if self._arrived is not None:
                    self._arrived(fetch.index, self._got[fetch.index])
        lost = [index for index in self._wanted if index not in self._got]
        if not lost:
            return True
        lo, hi = self._window(lost)
        sources: dict[int, Buffer] = {
            fetch.index: fetch.window(lo, hi)
            for fetch in self._fetches
            if fetch.data is not None and fetch.covers(lo, hi)
        }
        if len(sources) < self._segment.profile.k:
            return False
        restored = code_for(self._segment.profile).reconstruct(sources, lost, hi - lo)
        for index in lost:
            own_lo, own_hi = self._wanted[index]
            self._got[index] = memoryview(restored[index])[own_lo - lo : own_hi - lo]
        return True

    def _window(self, lost: list[int]) -> tuple[int, int]:
        windows = [self._wanted[index] for index in lost]
        return min(lo for lo, _ in windows), max(hi for _, hi in windows)

    def _ask_parity(self, excluded: set[int], *, paid: bool = True) -> int:
        """Ask more shards, so that k windows come from indices that are not `excluded`; how many.

        Unless it is `paid` the hedge budget must allow it.
        """
        lost = [index for index in self._wanted if index in excluded and index not in self._got]
        if not lost:
            return 0
        profile = self._segment.profile
        lo, hi = self._window(lost)
        coming: set[int] = set()
        asked = set(self._bad | self._away)
        for fetch in self._fetches:
            if not fetch.failed and fetch.covers(lo, hi):
                asked.add(fetch.index)
                if fetch.index not in excluded:
                    coming.add(fetch.index)
        short = profile.k - len(coming)
        candidates = self._candidates(asked)
        if not paid and (short > len(candidates) or not self._means.budget.take(short)):
            return 0
        made = 0
        for index in candidates:
            if made >= short:
                break
            made += self._ask(index, lo, hi)
        return made

    def _candidates(self, excluded: set[int]) -> list[int]:
        """Other indices: those left alone last, quickest miner first."""
        ranked: list[tuple[bool, float, int]] = []
        for index, holder in enumerate(self._placement.holders):
            if index not in excluded and holder.miner is not None:
                patience = self._means.peers.health(holder.miner).patience
                ranked.append((self._is_left_alone(index), patience, index))
        return [index for _, _, index in sorted(ranked)]

    def _is_left_alone(self, index: int) -> bool:
        miner = self._holder(index)
        if miner is None:
            return False
        peers = self._means.peers
        absent = (miner.id, self._segment_id, index) in peers.absences
        return absent or peers.is_silent(miner) or not peers.is_up(miner)

    def _ask(self, index: int, lo: int, hi: int) -> bool:
        miner = self._holder(index)
        if miner is None or miner.lost:
            self._bad.add(index)
            return False
        patience = self._means.peers.health(miner.id).patience
        now = self._means.clock.monotonic()
        fetch = _Fetch(index, lo, hi, miner, now, patience, now + patience)
        self._fetches.append(fetch)
        self._start(fetch)
        return True

    def _holder(self, index: int) -> MinerInfo | None:
        miner = self._placement.holders[index].miner
        return None if miner is None else self._means.directory.get(miner)

    async def _wait(self) -> None:
        """Until something arrives or fails, or an ask is late or overdue; then ask others."""
        now = self._means.clock.monotonic()
        due = [fetch.due - now for fetch in self._fetches if fetch.pending and fetch.due]
        try:
            async with asyncio.timeout(max(0.001, min(due)) if due else None):
                await self._event.wait()
        except TimeoutError:
            # When this process itself was held up, the answers lie in its sockets: look first.
            await self._means.clock.sleep(0)
            if not self._event.is_set():
                self._ask_instead()
        self._event.clear()

    def _ask_instead(self) -> None:
        """Parity for what is overdue, and, as the budget allows, for what is late."""
        now = self._means.clock.monotonic()
        overdue = self._means.settings.overdue
        for fetch in self._fetches:
            if not fetch.pending or not fetch.due or now < fetch.due:
                continue
            if fetch.index not in self._late and fetch.patience < overdue:
                fetch.due = fetch.started + overdue
            else:
                self._overdue.add(fetch.index)
                fetch.due = 0.0
            self._late.add(fetch.index)
            self._means.peers.unanswered(fetch.miner.id, fetch.started)
        lost = self._bad | self._away | self._avoided
        counts = self._means.budget.counts
        counts.hedges += self._ask_parity(lost | self._overdue)
        counts.hedges += self._ask_parity(lost | self._late, paid=False)

    async def _fetch(self, fetch: _Fetch) -> None:
        failed = self._bad
        try:
            data = await self._bytes(fetch)
        except RemoteError as error:
            if error.code == protocol.NO_SUCH_FRAGMENT:
                absent = (fetch.miner.id, self._segment_id, fetch.index)
                self._means.peers.absences.note(absent)
                self._report(fetch)
            if error.code == protocol.BUSY:
                failed = self._away
            data = None
        except Unreachable:
            failed = self._away
            data = None
        if data is not None and self._verify:
            # What is checked now and used later must not lie where a miner can still write.
            data = joined([data], len(data))
        if data is not None and not self._right(fetch, data):
            self._report(fetch)
            data = None
        fetch.data = data
        if data is None:
            fetch.failed = True
            failed.add(fetch.index)
        self._event.set()

    async def _bytes(self, fetch: _Fetch) -> Buffer:
        """One ask; more only where a fragment is larger than an ask may be."""
        parts: list[Buffer] = []
        for lo in range(fetch.lo, fetch.hi, protocol.READ_MAX):
            hi = min(fetch.hi, lo + protocol.READ_MAX)
            message = ReadFragment(self._segment_id, fetch.index, lo, hi)
            reply = await self._means.peers.ask(
                fetch.miner, message, timeout=self._means.settings.timeout, insist=True
            )
            parts.append(reply.payload.buffer)
        return parts[0] if len(parts) == 1 else joined(parts, sum(map(len, parts)))

    def _right(self, fetch: _Fetch, data: Buffer) -> bool:
        if len(data) != fetch.hi - fetch.lo:
            return False
        # With `verify` every window is a whole fragment.
        return not self._verify or fragment_id(data) == self._segment.fragments[fetch.index]

    def _report(self, fetch: _Fetch) -> None:
        self._means.report(Missing(self._segment_id, fetch.index, fetch.miner.id))

    def _note_late(self) -> None:
        now = self._means.clock.monotonic()
        for fetch in self._fetches:
            if fetch.pending and now - fetch.started >= fetch.patience:
                self._means.peers.late(fetch.miner.id, fetch.started)


def joined(parts: list[memoryview] | list[Buffer], size: int) -> Buffer:
    """One buffer; not zeroed first, as every byte is written."""
    buffer = np.empty(size, np.uint8)
    at = 0
    for part in parts:
        buffer[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    assert at == size
    return buffer.data
