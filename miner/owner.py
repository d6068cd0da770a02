"""What the owner of a pool's records does: answer miners, note losses, work off deletions."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence

from chain.clock import Clock
from chain.ids import ID_BYTES, AccountId, SegmentId
from chain.net.transport import Caller, Handlers, Peer, RemoteError, Unreachable
from miner import protocol
from miner.client import MinerPeers
from miner.fragment import KEY_BYTES, fragment_key, split_key
from miner.placement import (
    Holder,
    InvalidPlacement,
    MinerDirectory,
    Placement,
    encode_release,
    encode_released,
    parse_release,
    parse_released,
    placement_rows,
)
from miner.protocol import (
    Answers,
    AskCommitted,
    CheckFragment,
    DropFragments,
    Missing,
    Noted,
    ReportMissing,
)
from miner.records import PoolRecords, Row

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_PAGE = 512
_REPORTS_MAX = 4096
_Release = tuple[int, list[tuple[int, AccountId]]]


class PoolOwner:
    """Handlers of the process that hosts the rows."""

    def __init__(self, records: PoolRecords, directory: MinerDirectory) -> None:
        self._records = records
        self._directory = directory

    def handlers(self, handlers: Handlers) -> Handlers:
        """Add what the owner answers."""
        return handlers.on(AskCommitted, self.ask_committed).on(ReportMissing, self.report_missing)

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
        queued = 0
        for missing in message.missing:
            if len(missing.segment) == ID_BYTES and 0 <= missing.index < 255:
                gone = Holder(None)
                queued += await self._change(
                    SegmentId(missing.segment), missing.index, AccountId(missing.miner), gone
                )
        return Noted(queued)

    async def _state(self, miner: AccountId, key: bytes) -> str:
        segment, index = split_key(key)
        raw = self._records.get("placement", segment)
        if raw is None:
            waits = self._records.get("releases", segment) is not None
            return protocol.UNKNOWN if waits else protocol.NEVER
        try:
            placement = Placement.parse(raw)
        except InvalidPlacement:
            log.exception("the placement of %s is damaged", segment.hex())
            return protocol.UNKNOWN
        if index >= len(placement.holders):
            return protocol.NEVER
        held_by = placement.holders[index].miner
        if held_by == miner:
            return protocol.COMMITTED
        if held_by is not None:
            return protocol.NEVER
        adopted = await self._change(segment, index, None, self._adopted(placement, miner))
        return protocol.COMMITTED if adopted else protocol.UNKNOWN

    def _adopted(self, placement: Placement, miner: AccountId) -> Holder:
        return Holder(miner, any(holder.miner == miner for holder in placement.holders))

    async def _change(
        self, segment: SegmentId, index: int, before: AccountId | None, after: Holder
    ) -> bool:
        """Compare and set one holder; False if it is not `before` any more."""
        for _ in range(_ATTEMPTS):
            raw = self._records.get("placement", segment)
            if raw is None:
                return False
            try:
                old = Placement.parse(raw)
            except InvalidPlacement:
                log.exception("the placement of %s is damaged", segment.hex())
                return False
            if index >= len(old.holders) or old.holders[index].miner != before:
                return False
            rows = placement_rows(old.moved({index: after}), old)
            if await self._records.apply([Row("placement", segment, raw)], rows):
                return True
        return False


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

        What cannot be delivered stays. A miner that finds its fragment whole is not reported.
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
        try:
            checked = await self._peers.ask(
                miner, CheckFragment(missing.segment, missing.index), timeout=30.0, timed=False
            )
        except (RemoteError, Unreachable):
            return False
        return checked.present and checked.whole


class Releaser:
    """Works off the `releases` rows: every miner is told, however long it was away."""

    def __init__(
        self, records: PoolRecords, directory: MinerDirectory, peers: MinerPeers, clock: Clock
    ) -> None:
        self._records = records
        self._directory = directory
        self._peers = peers
        self._clock = clock
        self._after = b""

    async def run(self, *, every: float = 1.0) -> None:
        """Work for ever; cancel to end."""
        while True:
            if not await self.step():
                await self._clock.sleep(every)

    async def step(self) -> bool:
        """One page of rows; False at the end of the queue (the next step begins anew)."""
        page = self._records.scan("releases", self._after, _PAGE)
        self._after = page[-1][0] + b"\0" if len(page) == _PAGE else b""
        waiting = _parsed(page)
        per_miner: dict[AccountId, list[bytes]] = {}
        for key, (_, held) in waiting.items():
            for index, miner in held:
                per_miner.setdefault(miner, []).append(fragment_key(SegmentId(key), index))
        done: dict[AccountId, set[bytes]] = {}
        for miner, keys in per_miner.items():
            done[miner] = set(await self._drop(miner, keys))
        await self._work_off(dict(page), waiting, done)
        return len(page) == _PAGE

    async def _work_off(
        self,
        page: Mapping[bytes, bytes],
        waiting: Mapping[bytes, _Release],
        done: Mapping[AccountId, set[bytes]],
    ) -> None:
        """Shorten the rows and count what miners deleted, for the ledger: in one step, so once."""
        expected: list[Row] = []
        changes: list[Row] = []
        freed: dict[AccountId, int] = {}
        for key, (size, held) in waiting.items():
            gone = {
                (index, miner)
                for index, miner in held
                if fragment_key(SegmentId(key), index) in done[miner]
            }
            if not gone:
                continue
            left = [entry for entry in held if entry not in gone]
            expected.append(Row("releases", key, page[key]))
            changes.append(Row("releases", key, encode_release(size, left) if left else None))
            for _, miner in gone:
                freed[miner] = freed.get(miner, 0) + size
        for _ in range(_ATTEMPTS if changes else 0):
            before = [
                Row("released", miner, self._records.get("released", miner)) for miner in freed
            ]
            after = [
                Row("released", row.key, encode_released(_counted(row) + freed[AccountId(row.key)]))
                for row in before
            ]
            if await self._records.apply([*expected, *before], [*changes, *after]):
                return

    async def _drop(self, miner: AccountId, keys: Sequence[bytes]) -> list[bytes]:
        """The keys that need no more telling."""
        info = self._directory.get(miner)
        if info is not None and info.lost:
            return list(keys)
        dropped: list[bytes] = []
        for at in range(0, len(keys), protocol.KEYS_MAX):
            part = keys[at : at + protocol.KEYS_MAX]
            if info is None or not self._peers.is_up(info):
                break
            try:
                await self._peers.ask(info, DropFragments(tuple(part)), timeout=30.0, timed=False)
            except (RemoteError, Unreachable) as error:
                log.info("miner %s does not drop now: %s", miner.hex()[:16], error)
                break
            dropped += part
        return dropped


def _parsed(page: Sequence[tuple[bytes, bytes]]) -> dict[bytes, _Release]:
    """What the rows of a page say; damaged ones are left alone."""
    waiting: dict[bytes, _Release] = {}
    for key, value in page:
        try:
            waiting[key] = parse_release(value)
        except InvalidPlacement:
            log.exception("the release row of %s is damaged", key.hex())
    return waiting


def _counted(row: Row) -> int:
    """Bytes in a `released` row; a damaged one is counted anew."""
    if row.value is None:
        return 0
    try:
        return parse_released(row.value)
    except InvalidPlacement:
        log.exception("the count of released bytes of %s is damaged", row.key.hex())
        return 0
