"""What the owner of a pool's records answers miners, and how losses that readers see reach it."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from chain.clock import Clock
from chain.ids import ID_BYTES, AccountId, SegmentId
from chain.net.transport import Caller, Handlers, Peer, RemoteError, Unreachable
from miner import protocol
from miner.changes import PlacementChanges, parse_or_log
from miner.client import MinerPeers
from miner.fragment import KEY_BYTES, split_key
from miner.placement import Holder, MinerDirectory, Placement
from miner.protocol import (
    Answers,
    AskCommitted,
    CheckFragment,
    Missing,
    Noted,
    ReportMissing,
)
from miner.records import PoolRecords, RecordsUnavailable

log = logging.getLogger(__name__)

_REPORTS_MAX = 4096
R = TypeVar("R", bound=msgspec.Struct)


class PoolOwner:
    """Handlers of the process that hosts the rows."""

    def __init__(self, records: PoolRecords, directory: MinerDirectory) -> None:
        self._records = records
        self._directory = directory
        self._changes = PlacementChanges(records, directory)

    def handlers(self, handlers: Handlers) -> Handlers:
        """Add what the owner answers; `busy` while its rows are away: who asks, asks again."""
        return handlers.on(AskCommitted, _guarded(self.ask_committed)).on(
            ReportMissing, _guarded(self.report_missing)
        )

    async def ask_committed(self, message: AskCommitted, caller: Caller) -> Answers:
        """See docs/specs/placement.md, "Staged fragments"."""
        if not caller.local and caller.identity != message.miner:
            raise RemoteError(protocol.NOT_ALLOWED, "you are another miner")
        if len(message.keys) > protocol.KEYS_MAX or any(
            len(key) != KEY_BYTES for key in message.keys
        ):
            raise RemoteError(protocol.BAD_REQUEST, "not a list of fragment keys")
        miner = self._directory.get(AccountId(message.miner))
        if miner is None or miner.lost:
            return Answers((protocol.UNKNOWN,) * len(message.keys))
        return Answers(tuple([await self._state(miner.id, key) for key in message.keys]))

    async def report_missing(self, message: ReportMissing, caller: Caller) -> Noted:
        """Queue repairs of fragments that could not be read. A miner speaks for itself alone."""
        if not caller.local:
            if self._directory.get(caller.identity or AccountId(b"")) is None:
                raise RemoteError(protocol.NOT_ALLOWED, "this pool does not know you")
            if any(missing.miner != caller.identity for missing in message.missing):
                raise RemoteError(protocol.NOT_ALLOWED, "you are another miner")
        if len(message.missing) > protocol.KEYS_MAX:
            raise RemoteError(protocol.BAD_REQUEST, "too many at once")
        lost: dict[SegmentId, set[tuple[int, bytes]]] = {}
        for missing in message.missing:
            if len(missing.segment) == ID_BYTES and 0 <= missing.index < 255:
                of_segment = lost.setdefault(SegmentId(missing.segment), set())
                of_segment.add((missing.index, missing.miner))
        # Beside each other, so that they share commits.
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._lose(segment, lost[segment])) for segment in lost]
        except* RecordsUnavailable as away:
            raise RecordsUnavailable(str(away.exceptions[0])) from None
        return Noted(sum(task.result() for task in tasks))

    async def _lose(self, segment: SegmentId, lost: set[tuple[int, bytes]]) -> int:
        """Take (index, miner) out of a placement, in one commit; how many were in it."""
        gone: dict[int, Holder] = {}

        def decide(placement: Placement) -> dict[int, Holder]:
            gone.clear()
            for index, holder in enumerate(placement.holders):
                if holder.miner is not None and (index, holder.miner) in lost:
                    gone[index] = Holder(None)
            return gone

        return len(gone) if await self._changes.change(segment, decide) is not None else 0

    async def _state(self, miner: AccountId, key: bytes) -> str:
        segment, index = split_key(key)
        raw = self._records.get("placement", segment)
        if raw is None:
            waits = self._records.get("releases", segment) is not None
            return protocol.UNKNOWN if waits else protocol.NEVER
        placement = parse_or_log(segment, raw)
        if placement is None:
            return protocol.UNKNOWN
        if index >= len(placement.holders):
            return protocol.NEVER
        held_by = placement.holders[index].miner
        if held_by == miner:
            return protocol.COMMITTED
        if held_by is not None:
            return protocol.NEVER
        adopted = await self._set(segment, index, None, Holder(miner))
        return protocol.COMMITTED if adopted else protocol.UNKNOWN

    async def _set(
        self, segment: SegmentId, index: int, before: AccountId | None, after: Holder
    ) -> bool:
        """Compare and set one holder; False if it is not `before` any more."""

        def decide(placement: Placement) -> dict[int, Holder]:
            holders = placement.holders
            there = index < len(holders) and holders[index].miner == before
            return {index: after} if there else {}

        return await self._changes.change(segment, decide) is not None


def _guarded(
    handler: Callable[[Any, Caller], Awaitable[R]],
) -> Callable[[Any, Caller], Awaitable[R]]:
    async def guarded(message: Any, caller: Caller) -> R:
        try:
            return await handler(message, caller)
        except RecordsUnavailable as error:
            raise RemoteError(protocol.BUSY, str(error)) from error

    return guarded


class Reports:
    """Losses that readers saw, on their way to the owner. Bounded: the newest are kept."""

    def __init__(self, peers: MinerPeers, directory: MinerDirectory) -> None:
        self._peers = peers
        self._directory = directory
        self._waiting: deque[Missing] = deque(maxlen=_REPORTS_MAX)

    def note(self, missing: Missing) -> None:
        """What a StoragePool takes as `report`. Never blocks."""
        if missing not in self._waiting:
            self._waiting.append(missing)

    async def flush(self, owner: Peer) -> int:
        """Tell miners to check themselves, and the owner what is gone; returns repairs queued.

        A miner that said a moment ago that it has nothing is not asked once more. What cannot be
        delivered stays. A miner that finds its fragment whole is not reported.
        """
        queued = 0
        while self._waiting:
            batch = [self._waiting[i] for i in range(min(64, len(self._waiting)))]
            gone = [missing for missing in batch if not await self._is_whole(missing)]
            if gone:
                try:
                    noted = await owner.ask(ReportMissing(tuple(gone)), timeout=10.0)
                except (RemoteError, Unreachable) as error:
                    log.warning("cannot report %d lost fragments: %s", len(gone), error)
                    return queued
                queued += noted.queued
            for missing in batch:
                self._waiting.remove(missing)
        return queued

    async def run(self, owner: Peer, clock: Clock, *, every: float = 2.0) -> None:
        """Deliver for ever; cancel to end."""
        while True:
            await clock.sleep(every)
            await self.flush(owner)

    async def _is_whole(self, missing: Missing) -> bool:
        miner = self._directory.get(AccountId(missing.miner))
        if miner is None or miner.lost:
            return False
        if (miner.id, missing.segment, missing.index) in self._peers.absences:
            return False
        try:
            checked = await self._peers.ask(
                miner, CheckFragment(missing.segment, missing.index), timeout=30.0, timed=False
            )
        except (RemoteError, Unreachable):
            return False
        return checked.present and checked.whole
