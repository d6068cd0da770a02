"""Storing one segment: all fragments at once, acknowledged at quorum in distinct domains."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from chain.clock import Clock
from chain.net.transport import Buffer, RemoteError, Unreachable
from chain.proofs import merkle
from chain.receipts import fragment_leaf
from miner.client import MinerPeers
from miner.fragment import FragmentRecord
from miner.placement import Choice, Holder, MinerInfo
from miner.protocol import BUSY
from miner.segments import Segment
from miner.sending import Stored

_PAUSE = 0.1


class BelowQuorum(Exception):
    """Too few miners in distinct domains took the segment; nothing was promised."""


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """Seconds. A healthy write takes 5-30 ms, but a busy disk's fdatasync can take 300.

    A lagging miner costs the grace three times, then its breaker is open.
    """

    deadline: float = 30.0
    grace: float = 0.5  # at the least, after quorum
    grace_share: float = 1.0  # of the time that quorum took
    # For a miner without which there is no quorum: it starts anew, or is not connected yet.
    retry: float = 4.0


class FragmentReceipt(NamedTuple):
    """A miner's signed word for one fragment."""

    fragment: int  # its index in the segment
    stored: Stored


class Written(NamedTuple):
    """Who holds which index, and their receipts."""

    holders: tuple[Holder, ...]
    receipts: list[FragmentReceipt]


class SegmentWrite:
    """One write. `run` once.

    Every answer is taken where it arrives, by `_answered`: no task, no timeout and no event of its
    own for each of the n fragments.
    """

    def __init__(
        self,
        peers: MinerPeers,
        clock: Clock,
        settings: WriteSettings,
        segment: Segment,
        choice: Choice,
    ) -> None:
        self._peers = peers
        self._clock = clock
        self._settings = settings
        self._segment = segment
        self._chosen = choice.chosen
        self._spares = list(choice.spares)
        self._domains = {miner.domain for miner in choice.chosen}
        self._shards: Sequence[Buffer] = ()
        self._asking: dict[int, tuple[MinerInfo, asyncio.Future[Stored]]] = {}
        self._pauses: dict[int, asyncio.TimerHandle] = {}  # before a miner is asked again
        self._holders: dict[int, MinerInfo] = {}
        self._receipts: list[FragmentReceipt] = []
        self._open = 0
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        # All answered, no hope of a quorum, or the time is over.
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, shards: Sequence[Buffer]) -> Written:
        """Store all shards. Raises BelowQuorum."""
        profile = self._segment.profile
        self._open = len(self._chosen)
        if self._open < profile.quorum:
            raise BelowQuorum(
                f"{self._open} miners have room; {profile.name} needs {profile.quorum}"
            )
        self._shards = shards
        began = self._clock.monotonic()
        self._end_after(self._settings.deadline)
        try:
            for index, miner in enumerate(self._chosen):
                self._ask(index, miner)
            await self._over
        finally:
            late = self._give_up()
        for miner in late:
            self._peers.late(miner.id, began, timed=False)
        if len(self._holders) < profile.quorum:
            raise BelowQuorum(
                f"{len(self._holders)} miners stored; {profile.name} needs {profile.quorum}"
            )
        holders = tuple(self._holder(index) for index in range(profile.n))
        return Written(holders, sorted(self._receipts))

    def _holder(self, index: int) -> Holder:
        miner = self._holders.get(index)
        return Holder(miner.id if miner else None)

    # ------------------------------------------------------------------ one fragment
    def _ask(self, index: int, miner: MinerInfo) -> None:
        self._pauses.pop(index, None)
        record = FragmentRecord(self._segment, index)
        future = self._peers.store(miner, record, self._shards[index], self._settings.deadline)
        self._asking[index] = miner, future
        future.add_done_callback(partial(self._answered, index, miner))

    def _answered(self, index: int, miner: MinerInfo, future: "asyncio.Future[Stored]") -> None:
        if self._over.done():
            return
        del self._asking[index]
        error = future.exception()
        if error is None:
            stored = future.result()
            if proves(stored, miner, self._segment, index):
                self._holders[index] = miner
                self._receipts.append(FragmentReceipt(index, stored))
                self._close_one()
            else:
                self._ask_another(index, miner, again=False)
        elif isinstance(error, RemoteError):
            self._ask_another(index, miner, again=error.code == BUSY)
        elif isinstance(error, Unreachable):
            self._ask_another(index, miner, again=True)
        else:
            self._over.set_exception(error)

    def _ask_another(self, index: int, failed: MinerInfo, *, again: bool) -> None:
        """The next spare, or the same miner once more where that may help and is needed."""
        spare = self._stand_in(failed)
        if spare is not None:
            self._ask(index, spare)
        elif again and self._is_needed() and self._since() < self._settings.retry:
            self._pauses[index] = self._loop.call_later(_PAUSE, self._ask, index, failed)
        else:
            self._domains.discard(failed.domain)
            self._close_one()

    def _is_needed(self) -> bool:
        """Whether the quorum fails if one open fragment is given up."""
        return len(self._holders) + self._open - 1 < self._segment.profile.quorum

    def _stand_in(self, failed: MinerInfo) -> MinerInfo | None:
        """A spare whose domain holds nothing of this segment; one left alone only in need."""
        taken = self._domains - {failed.domain}
        spares = [spare for spare in self._spares if spare.domain not in taken]
        up = [spare for spare in spares if self._peers.is_up(spare)]
        for spare in up or (spares if self._is_needed() else ()):
            self._spares.remove(spare)
            self._domains = taken | {spare.domain}
            return spare
        return None

    # ------------------------------------------------------------------ the end
    def _close_one(self) -> None:
        self._open -= 1
        held, quorum = len(self._holders), self._segment.profile.quorum
        if not self._open or held + self._open < quorum:
            self._end()
        elif held == quorum and self._timer is not None:
            took = self._since()
            grace = max(self._settings.grace, took * self._settings.grace_share)
            self._end_after(min(grace, self._settings.deadline - took))

    def _since(self) -> float:
        return self._loop.time() - self._began

    def _end_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._end)

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _give_up(self) -> list[MinerInfo]:
        """Let go of what is still asked; the miners that did not answer."""
        self._over.cancel()
        assert self._timer is not None
        self._timer.cancel()
        for pause in self._pauses.values():
            pause.cancel()
        late = [miner for miner, future in self._asking.values() if not future.done()]
        for _, future in self._asking.values():
            future.cancel()
        self._asking.clear()
        self._shards = ()
        return late


def proves(stored: Stored, miner: MinerInfo, segment: Segment, index: int) -> bool:
    """Whether the receipt is this miner's and holds this fragment (the ledger checks more)."""
    leaf = fragment_leaf(segment.fragments[index], segment.shard_bytes)
    receipt = stored.receipt
    return receipt.miner == miner.id and merkle.verify(
        receipt.root, leaf, stored.leaf, receipt.count, stored.path
    )
