"""Reading one range of a segment: data shards first, parity for what fails or lags.

Rules:
1. The healthy path asks each data shard for its part of the range and nothing else.
2. The code works byte by byte: what is lost in the window [lo, hi) of a shard needs that window of
   k others, and one set of k serves all lost shards.
3. Hedges (asking more because an answer is late) are at most 5 % of all asks.
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
from miner.placement import MinerDirectory, MinerInfo, Placement
from miner.protocol import Missing, ReadFragment
from miner.segments import SegmentUnavailable

Report = Callable[[Missing], None]

_HEDGE_BURST = 24.0


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """`timeout` in seconds for one ask; `hedge_share` of all asks may be hedges."""

    timeout: float = 10.0
    hedge_share: float = 0.05


class HedgeBudget:
    """A token bucket: every ask pays in, every hedge takes one."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._tokens = _HEDGE_BURST if share else 0.0

    def asked(self) -> None:
        """A first ask was made."""
        self._tokens = min(_HEDGE_BURST, self._tokens + self._share)

    def take(self, count: int) -> bool:
        """Whether `count` more asks are allowed; then they are paid."""
        if self._tokens < count:
            return False
        self._tokens -= count
        return True


@dataclass(slots=True)
class _Fetch:
    """Bytes [lo, hi) of fragment `index`, asked of a miner."""

    index: int
    lo: int
    hi: int
    miner: MinerInfo
    started: float
    patience: float
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


class Readers:
    """What every read shares."""

    def __init__(
        self,
        peers: MinerPeers,
        directory: MinerDirectory,
        clock: Clock,
        settings: ReadSettings,
        report: Report,
    ) -> None:
        self.peers = peers
        self.directory = directory
        self.clock = clock
        self.settings = settings
        self.report = report
        self.budget = HedgeBudget(settings.hedge_share)

    async def read(self, placement: Placement, start: int, end: int, *, verify: bool) -> Buffer:
        """Bytes [start, end) of the segment. Raises SegmentUnavailable."""
        if start == end:
            return b""
        size = placement.segment.shard_bytes
        pieces = {
            shard: (max(start - shard * size, 0), min(end - shard * size, size))
            for shard in range(start // size, (end - 1) // size + 1)
        }
        wanted = dict.fromkeys(pieces, (0, size)) if verify else pieces
        got = await _RangeRead(self, placement, wanted, verify=verify).run()
        views = [
            got[shard][lo - wanted[shard][0] : hi - wanted[shard][0]]
            for shard, (lo, hi) in pieces.items()
        ]
        return views[0] if len(views) == 1 else _joined(views, end - start)


class _RangeRead:
    """One range. `wanted`: data shard -> window."""

    def __init__(
        self,
        readers: Readers,
        placement: Placement,
        wanted: dict[int, tuple[int, int]],
        *,
        verify: bool,
    ) -> None:
        self._readers = readers
        self._placement = placement
        self._segment = placement.segment
        self._wanted = wanted
        self._verify = verify
        self._fetches: list[_Fetch] = []
        self._got: dict[int, memoryview] = {}
        self._bad: set[int] = set()  # indices that failed
        self._hedged: set[int] = set()
        self._event = asyncio.Event()
        self._start: Callable[[_Fetch], None]

    async def run(self) -> dict[int, memoryview]:
        """The wanted windows. Raises SegmentUnavailable."""
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[None]] = []

            def start(fetch: _Fetch) -> None:
                tasks.append(group.create_task(self._fetch(fetch)))

            self._start = start
            for index, (lo, hi) in self._wanted.items():
                if self._ask(index, lo, hi):
                    self._readers.budget.asked()
            while not self._complete():
                self._ask_parity(self._bad)
                if not any(fetch.pending for fetch in self._fetches):
                    break
                await self._wait()
            for task in tasks:
                task.cancel()
        self._note_late()
        if len(self._got) < len(self._wanted):
            raise SegmentUnavailable(
                f"segment {self._segment.id.hex()}: fewer than {self._segment.profile.k} "
                f"of {self._segment.profile.n} fragments can be read"
            )
        return self._got

    def _complete(self) -> bool:
        """Take what has arrived; restore the rest if k windows of it are there."""
        for fetch in self._fetches:
            window = self._wanted.get(fetch.index)
            if window is None or fetch.data is None or fetch.index in self._got:
                continue
            if fetch.covers(*window):
                self._got[fetch.index] = fetch.window(*window)
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

    def _ask_parity(self, excluded: set[int], *, hedge: bool = False) -> None:
        """Ask more shards, so that k windows come from indices that are not `excluded`."""
        lost = [index for index in self._wanted if index in excluded and index not in self._got]
        if not lost:
            return
        profile = self._segment.profile
        lo, hi = self._window(lost)
        coming = {
            fetch.index
            for fetch in self._fetches
            if not fetch.failed and fetch.index not in excluded and fetch.covers(lo, hi)
        }
        short = profile.k - len(coming)
        candidates = self._candidates(coming | excluded | self._bad)
        if hedge and (short > len(candidates) or not self._readers.budget.take(short)):
            return
        for index in candidates:
            if short <= 0:
                return
            short -= self._ask(index, lo, hi)

    def _candidates(self, excluded: set[int]) -> list[int]:
        """Other indices, quickest miner first."""
        ranked: list[tuple[float, int]] = []
        for index, holder in enumerate(self._placement.holders):
            if index not in excluded and holder.miner is not None:
                ranked.append((self._readers.peers.health(holder.miner).patience, index))
        return [index for _, index in sorted(ranked)]

    def _ask(self, index: int, lo: int, hi: int) -> bool:
        miner = self._holder(index)
        if miner is None or not self._readers.peers.is_up(miner):
            self._bad.add(index)
            return False
        patience = self._readers.peers.health(miner.id).patience
        now = self._readers.clock.monotonic()
        fetch = _Fetch(index, lo, hi, miner, now, patience)
        self._fetches.append(fetch)
        self._start(fetch)
        return True

    def _holder(self, index: int) -> MinerInfo | None:
        miner = self._placement.holders[index].miner
        return None if miner is None else self._readers.directory.get(miner)

    async def _wait(self) -> None:
        """Until something arrives or fails, or the next ask is late; then hedge."""
        now = self._readers.clock.monotonic()
        due = [
            fetch.started + fetch.patience - now
            for fetch in self._fetches
            if fetch.pending and fetch.index not in self._hedged
        ]
        try:
            async with asyncio.timeout(max(0.001, min(due)) if due else None):
                await self._event.wait()
        except TimeoutError:
            now = self._readers.clock.monotonic()
            late = {f.index for f in self._fetches if f.pending and now - f.started >= f.patience}
            self._hedged |= late
            self._ask_parity(self._bad | late, hedge=True)
        self._event.clear()

    async def _fetch(self, fetch: _Fetch) -> None:
        try:
            data = await self._bytes(fetch)
        except RemoteError as error:
            if error.code == protocol.NO_SUCH_FRAGMENT:
                self._report(fetch)
            data = None
        except Unreachable:
            data = None
        if data is not None and not self._right(fetch, data):
            self._report(fetch)
            data = None
        fetch.data = data
        if data is None:
            fetch.failed = True
            self._bad.add(fetch.index)
        self._event.set()

    async def _bytes(self, fetch: _Fetch) -> Buffer:
        """One ask; more only where a fragment is larger than an ask may be."""
        parts: list[Buffer] = []
        for lo in range(fetch.lo, fetch.hi, protocol.READ_MAX):
            hi = min(fetch.hi, lo + protocol.READ_MAX)
            message = ReadFragment(self._segment.id, fetch.index, lo, hi)
            reply = await self._readers.peers.ask(
                fetch.miner, message, timeout=self._readers.settings.timeout
            )
            parts.append(reply.payload.buffer)
        return parts[0] if len(parts) == 1 else _joined(parts, sum(map(len, parts)))

    def _right(self, fetch: _Fetch, data: Buffer) -> bool:
        if len(data) != fetch.hi - fetch.lo:
            return False
        # With `verify` every window is a whole fragment.
        return not self._verify or fragment_id(data) == self._segment.fragments[fetch.index]

    def _report(self, fetch: _Fetch) -> None:
        self._readers.report(Missing(self._segment.id, fetch.index, fetch.miner.id))

    def _note_late(self) -> None:
        now = self._readers.clock.monotonic()
        for fetch in self._fetches:
            if fetch.pending and now - fetch.started >= fetch.patience:
                self._readers.peers.late(fetch.miner.id)


def _joined(parts: list[memoryview] | list[Buffer], size: int) -> Buffer:
    """One buffer; not zeroed first, as every byte is written."""
    joined = np.empty(size, np.uint8)
    at = 0
    for part in parts:
        joined[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    assert at == size
    return joined.data
