"""Storing one segment: all fragments at once, acknowledged at quorum in distinct domains."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chain.net.transport import Buffer, Payload, RemoteError, Unreachable
from chain.proofs import merkle
from chain.receipts import fragment_leaf
from miner.client import MinerPeers
from miner.fragment import FragmentRecord
from miner.placement import Choice, Holder, MinerInfo
from miner.protocol import Stored
from miner.segments import Segment
from miner.service import store_message


class BelowQuorum(Exception):
    """Too few miners in distinct domains took the segment; nothing was promised."""


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """Seconds. A healthy write takes 5-30 ms, but a busy disk's fdatasync can take 300.

    A lagging miner costs the grace three times, then its breaker is open.
    """

    deadline: float = 10.0
    grace: float = 0.5  # at the least, after quorum
    grace_share: float = 1.0  # of the time that quorum took


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
        self, peers: MinerPeers, settings: WriteSettings, segment: Segment, choice: Choice
    ) -> None:
        self._peers = peers
        self._settings = settings
        self._segment = segment
        self._chosen = choice.chosen
        self._spares = list(choice.spares)
        self._domains = {miner.domain for miner in choice.chosen}
        self._asking: dict[int, MinerInfo] = {}
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
                f"{self._open} miners are up with room; {profile.name} needs {profile.quorum}"
            )
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._place(index, miner, shards[index]))
                for index, miner in enumerate(self._chosen)
            ]
            await _wait(self._decided, self._settings.deadline)
            took = loop.time() - start
            if len(self._holders) >= profile.quorum:
                grace = max(self._settings.grace, took * self._settings.grace_share)
                await _wait(self._finished, min(grace, self._settings.deadline - took))
            for task in tasks:
                task.cancel()
        for index, miner in self._asking.items():
            if index not in self._holders:
                self._peers.late(miner.id)
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
        message = store_message(FragmentRecord(self._segment, index), Payload(shard))
        while miner is not None:
            self._asking[index] = miner
            try:
                stored = await self._peers.ask(
                    miner, message, timeout=self._settings.deadline, timed=False
                )
            except (RemoteError, Unreachable):
                del self._asking[index]
                miner = self._stand_in(miner)
                continue
            del self._asking[index]
            if not self._proves(miner, index, stored):
                miner = self._stand_in(miner)
                continue
            self._holders[index] = miner
            self._receipts.append(FragmentReceipt(index, stored))
            break
        self._close_one()

    def _stand_in(self, failed: MinerInfo) -> MinerInfo | None:
        """A spare whose domain holds nothing of this segment."""
        self._domains.discard(failed.domain)
        for spare in self._spares:
            if spare.domain not in self._domains and self._peers.is_up(spare):
                self._spares.remove(spare)
                self._domains.add(spare.domain)
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
