"""Bringing fragments of one segment to new miners: restore, check, store, commit.

A placement changes only when the new fragment is on stable storage and its receipt is proven. A
crash before that leaves a staged fragment, which its miner sweeps (docs/specs/placement.md).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chain.clock import Clock
from chain.ids import AccountId, SegmentId
from chain.net.transport import Buffer, RemoteError, Unreachable
from miner.changes import PlacementChanges
from miner.client import MinerPeers
from miner.fragment import FragmentRecord, fragment_id, fragment_key
from miner.hedging import ReadSettings
from miner.placement import RECORD_ROOM, Holder, MinerDirectory, Placement
from miner.protocol import DropFragments
from miner.range_read import Report
from miner.reading import Readers
from miner.records import PoolRecords, Row
from miner.releaser import released_more
from miner.segments import SegmentUnavailable
from miner.targets import Targets, losses
from miner.writing import FragmentReceipt, proves

log = logging.getLogger(__name__)

# (expected rows, changes, fragments rebuilt, receipts) -> whether all of it was committed.
Commit = Callable[[Sequence[Row], Sequence[Row], int, Sequence[FragmentReceipt]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Work:
    """Fragments of one segment that should have new homes."""

    placement: Placement
    indices: list[int]
    lost: bool  # else they are only crowded where they are
    crowd: bool  # whether two may share a domain
    targets: Targets

    @property
    def cost(self) -> int:
        """Bytes that are read and stored, and held meanwhile."""
        segment = self.placement.segment
        sources = segment.profile.k if self.lost else 0
        return (sources + len(self.indices)) * segment.shard_bytes


class _Stored(NamedTuple):
    """A fragment at its new miner."""

    miner: AccountId
    receipt: FragmentReceipt


class Rebuilder:
    """What repair does to single segments; used by one process at a time."""

    def __init__(
        self,
        records: PoolRecords,
        directory: MinerDirectory,
        peers: MinerPeers,
        clock: Clock,
        *,
        commit: Commit,
        report: Report,
        store_timeout: float,
    ) -> None:
        """`report` hears of sources that are lost or wrong, as a StoragePool's."""
        self._records = records
        self._changes = PlacementChanges(records, directory)
        self._directory = directory
        self._peers = peers
        self._commit_rows = commit
        self._store_timeout = store_timeout
        self._readers = Readers(peers, directory, clock, ReadSettings(hedge_share=0.0), report)

    def plan(self, placement: Placement, *, crowd: bool) -> Work | None:
        """What can be done for a segment now; None: nothing. Asks nobody.

        What is lost comes first; crowded fragments move when a domain without any is there.
        """
        wanted = losses(placement, self._directory).wanted
        if wanted and self._sources(placement, wanted) < placement.segment.profile.k:
            return None
        indices = wanted or placement.crowded
        crowd = crowd and bool(wanted)
        room = placement.segment.shard_bytes + RECORD_ROOM
        targets = Targets(placement, set(indices), self._directory, up=self._peers.is_up, room=room)
        if not indices or targets.best(crowd=crowd) is None:
            return None
        return Work(placement, indices, bool(wanted), crowd, targets)

    async def run(self, work: Work) -> bool:
        """Do it; whether every fragment has its new home. Partial success is kept."""
        shards = await self._restore(work)
        if shards is None:
            return False
        async with asyncio.TaskGroup() as group:
            tasks = {i: group.create_task(self._store(work, i, shards[i])) for i in work.indices}
        stored = {i: found for i, task in tasks.items() if (found := task.result()) is not None}
        kept = await self._commit(work, stored) if stored else set()
        return len(kept) == len(work.indices)

    async def _restore(self, work: Work) -> dict[int, memoryview] | None:
        """The shards, checked against their ids; None when they cannot be had now.

        Right shards come from right sources alone, so sources are checked only when one is wrong:
        that saves four of five hashes.
        """
        source = work.placement
        if work.lost:
            source = source.moved(dict.fromkeys(work.indices, Holder(None)))
        ids = source.segment.fragments
        for verify in (False, True):
            try:
                shards = await self._readers.restore(source, work.indices, verify=verify)
            except SegmentUnavailable as error:
                log.warning("no repair now: %s", error)
                return None
            if all(fragment_id(shard) == ids[index] for index, shard in shards.items()):
                return shards
        log.error("segment %s: right shards give a wrong one", source.segment.id.hex())
        return None

    def _sources(self, placement: Placement, wanted: Sequence[int]) -> int:
        """Holders that are believed to answer."""
        holders = [holder for i, holder in enumerate(placement.holders) if i not in wanted]
        infos = [self._directory.get(holder.miner) for holder in holders if holder.miner]
        return sum(info is not None and self._peers.is_up(info) for info in infos)

    async def _store(self, work: Work, index: int, shard: Buffer) -> _Stored | None:
        """At the best target that takes it."""
        segment = work.placement.segment
        record = FragmentRecord(segment, index)
        while (miner := work.targets.take(crowd=work.crowd)) is not None:
            try:
                stored = await self._peers.store(miner, record, shard, self._store_timeout)
            except RemoteError as error:
                log.info("miner %s takes no fragment: %s", miner.id.hex()[:16], error)
                work.targets.failed(miner, silent=False)
                continue
            except Unreachable:
                work.targets.failed(miner, silent=True)
                continue
            if proves(stored, miner, segment, index):
                return _Stored(miner.id, FragmentReceipt(index, stored))
            log.error("miner %s gave a receipt that proves nothing", miner.id.hex())
            work.targets.failed(miner, silent=False)
        return None

    async def _commit(self, work: Work, stored: Mapping[int, _Stored]) -> set[int]:
        """Name the new holders, where the segment still wants them; then drop what is surplus."""
        segment = work.placement.segment.id
        kept: dict[int, Holder] = {}

        def decide(now: Placement) -> dict[int, Holder]:
            kept.clear()
            wanted = losses(now, self._directory).wanted if work.lost else now.crowded
            for index, found in stored.items():
                same = now.holders[index].miner == work.placement.holders[index].miner
                if same and index in wanted:
                    kept[index] = Holder(found.miner)
            return kept

        async def apply(expected: Sequence[Row], rows: Sequence[Row]) -> bool:
            receipts = [stored[index].receipt for index in kept]
            before, after = released_more(
                self._records, {} if work.lost else self._freed(work, kept)
            )
            return await self._commit_rows(
                [*expected, *before], [*rows, *after], len(kept) * work.lost, receipts
            )

        done = set(kept) if await self._changes.change(segment, decide, apply) else set()
        await self._drop(segment, self._surplus(work, stored, done))
        return done

    def _freed(self, work: Work, kept: Iterable[int]) -> dict[AccountId, int]:
        """Bytes that moved away from each miner. Of a miner that is away they are counted when it
        comes back and drops them.
        """
        freed: dict[AccountId, int] = {}
        for index in kept:
            miner = work.placement.holders[index].miner
            if miner is not None:
                freed[miner] = freed.get(miner, 0) + work.placement.segment.shard_bytes
        return freed

    def _surplus(
        self, work: Work, stored: Mapping[int, _Stored], done: set[int]
    ) -> list[tuple[int, AccountId]]:
        """Copies that nothing names any more: old ones of what moved, new ones that came late."""
        surplus: list[tuple[int, AccountId]] = []
        now = self._changes.read(work.placement.segment.id)
        for index, found in stored.items():
            if index in done:
                old = work.placement.holders[index].miner
                if old is not None:
                    surplus.append((index, old))
            # What is missing once more may still be adopted, so that copy stays for the sweep.
            elif now is None or now.holders[index].miner not in (found.miner, None):
                surplus.append((index, found.miner))
        return surplus

    async def _drop(self, segment: SegmentId, copies: Iterable[tuple[int, AccountId]]) -> None:
        """At once, where the miner is there; what stays is found by the survey or the sweep."""
        for index, miner in copies:
            info = self._directory.get(miner)
            if info is None or info.gone:
                continue
            message = DropFragments((fragment_key(segment, index),))
            try:
                await self._peers.ask(info, message, timeout=self._store_timeout, timed=False)
            except (RemoteError, Unreachable) as error:
                log.info("miner %s does not drop a copy now: %s", miner.hex()[:16], error)
