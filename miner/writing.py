"""Storing one segment: all fragments at once, acknowledged at quorum in distinct domains."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chain.clock import Clock
from chain.net.transport import Buffer, Payload, RemoteError, Unreachable
from chain.proofs import merkle
from chain.receipts import fragment_leaf
from miner.client import MinerPeers
from miner.fragment import FragmentRecord
from miner.placement import Choice, Holder, MinerInfo
from miner.protocol import BUSY, Stored, StoreFragment
from miner.segments import Segment
from miner.service import store_message

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
    """One write. `run` once."""

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
        self._asking: dict[int, MinerInfo] = {}
        self._began = 0.0
        self._holders: dict[int, MinerInfo] = {}
        self._receipts: list[FragmentReceipt] = []
        self._open = 0
        self._decided = asyncio.Event()  # quorum, or no hope of it
        self._finished = asyncio.Event()

    async def run(self, shards: Sequence[Buffer]) -> Written:
        """Store all shards. Raises BelowQuorum."""
        profile = self._segment.profile
        self._open = len(self._chosen)
        if self._open < profile.quorum:
            raise BelowQuorum(
                f"{self._open} miners have room; {profile.name} needs {profile.quorum}"
            )
        clock = self._clock
        self._began = clock.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._place(index, miner, shards[index]))
                for index, miner in enumerate(self._chosen)
            ]
            await _wait(self._decided, self._settings.deadline)
            took = clock.monotonic() - self._began
            if len(self._holders) >= profile.quorum:
                grace = max(self._settings.grace, took * self._settings.grace_share)
                await _wait(self._finished, min(grace, self._settings.deadline - took))
            for task in tasks:
                task.cancel()
        for index, miner in self._asking.items():
            if index not in self._holders:
                self._peers.late(miner.id, self._began, timed=False)
        if len(self._holders) < profile.quorum:
            raise BelowQuorum(
                f"{len(self._holders)} miners stored; {profile.name} needs {profile.quorum}"
            )
        holders = tuple(self._holder(index) for index in range(profile.n))
        return Written(holders, sorted(self._receipts))

    def _holder(self, index: int) -> Holder:
        miner = self._holders.get(index)
        return Holder(miner.id if miner else None)

    async def _place(self, index: int, miner: MinerInfo | None, shard: Buffer) -> None:
        """Store one fragment at its miner, or at the next spare when that one fails."""
        record = FragmentRecord(self._segment, index)
        while miner is not None:
            stored, again = await self._ask(index, miner, store_message(record, Payload(shard)))
            if stored is not None:
                self._holders[index] = miner
                self._receipts.append(FragmentReceipt(index, stored))
                break
            spare = self._stand_in(miner)
            if spare is None and again and self._is_needed():
                now = self._clock.monotonic()
                if now - self._began < self._settings.retry:
                    await self._clock.sleep(_PAUSE)
                    continue
            if spare is None:
                self._domains.discard(miner.domain)
            miner = spare
        self._close_one()

    async def _ask(
        self, index: int, miner: MinerInfo, message: StoreFragment
    ) -> tuple[Stored | None, bool]:
        """The proven answer; without one, whether to ask this miner again may help."""
        self._asking[index] = miner
        try:
            stored = await self._peers.ask(
                miner, message, timeout=self._settings.deadline, timed=False, insist=True
            )
        except RemoteError as error:
            del self._asking[index]
            return None, error.code == BUSY
        except Unreachable:
            del self._asking[index]
            return None, True
        del self._asking[index]
        return (stored, False) if self._proves(miner, index, stored) else (None, False)

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

    def _close_one(self) -> None:
        self._open -= 1
        quorum = self._segment.profile.quorum
        if len(self._holders) >= quorum or len(self._holders) + self._open < quorum:
            self._decided.set()
        if not self._open:
            self._finished.set()

    def _proves(self, miner: MinerInfo, index: int, stored: Stored) -> bool:
        """Whether the receipt is this miner's and holds this fragment (the ledger checks more)."""
        leaf = fragment_leaf(self._segment.fragments[index], self._segment.shard_bytes)
        receipt = stored.receipt
        return receipt.miner == miner.id and merkle.verify(
            receipt.root, leaf, stored.index, receipt.count, stored.path
        )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event, at most `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
