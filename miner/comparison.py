"""What placements name and what miners hold, compared both ways.

A page of placements and every miner's own list for the same range of keys:
- a placement names a fragment that its miner has not: it is missing, and queued for repair;
- a miner holds a fragment that is missing or doubtful: it is checked and adopted;
- a miner holds a fragment that another holds, or that no placement names: it is dropped, unless it
  is staged and may still be committed (the miner's sweep asks about those).

Rules:
1. Placements are read before lists, and again before anything is done: whatever was committed or
   moved between the two is seen.
2. A segment that repair works on is left alone, and claimed while a copy of it is dropped: else a
   stale copy could be dropped that repair has just made the right one.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from enum import Enum, auto

from chain.ids import AccountId, SegmentId
from chain.net.transport import RemoteError, Unreachable
from miner.changes import PlacementChanges, parse_or_log
from miner.client import MinerPeers
from miner.fragment import FRAGMENTS_MAX, KEY_BYTES, fragment_key, split_key
from miner.placement import Holder, MinerDirectory, MinerInfo, Placement, repair_row
from miner.protocol import (
    KEYS_MAX,
    CheckFragment,
    DropFragments,
    Listed,
    ListFragments,
)
from miner.records import PoolRecords, Row
from miner.releaser import released_more

log = logging.getLogger(__name__)

_PAGE = 256
# Of one range of keys: no miner holds 10⁷ fragments between 256 segments of ours.
_LISTS_MAX = 10_000
_ATTEMPTS = 5
BAD_REPLY = "bad_reply"
_LIST_SECONDS, _CHECK_SECONDS = 10.0, 30.0
# Behind every fragment of a segment: no index is so high.
_BEHIND = bytes([FRAGMENTS_MAX])


class _Verdict(Enum):
    KEEP = auto()
    ADOPT = auto()
    DROP = auto()


class Comparison:
    """One page at a time; the owner of a Comparison says when and for which miners."""

    def __init__(
        self,
        records: PoolRecords,
        directory: MinerDirectory,
        peers: MinerPeers,
        claims: set[SegmentId],
    ) -> None:
        self._records = records
        self._directory = directory
        self._peers = peers
        self._claims = claims
        self._changes = PlacementChanges(records, directory)

    async def page(self, after: bytes, miners: Iterable[AccountId]) -> bytes:
        """Compare the segments behind `after`; where the next page begins, empty at the end.

        A miner that does not answer is passed over.
        """
        rows = self._records.scan("placement", after, _PAGE)
        until = rows[-1][0] + _BEHIND if len(rows) == _PAGE else b""
        named: dict[AccountId, set[bytes]] = {}
        for key, raw in rows:
            placement = parse_or_log(key, raw)
            if placement is None:
                continue
            await self._queue(placement, raw)
            for index, holder in enumerate(placement.holders):
                if holder.miner is not None:
                    named.setdefault(holder.miner, set()).add(fragment_key(SegmentId(key), index))
        for miner in miners:
            info = self._directory.get(miner)
            if info is not None and self._peers.is_up(info):
                await self._compare(info, named.get(miner, set()), after, until)
        return until

    async def _queue(self, placement: Placement, raw: bytes) -> None:
        """A segment that wants something is in the queue, whoever forgot it."""
        wanted = repair_row(placement)
        if wanted is not None and self._records.get("repairs", wanted.key) != wanted.value:
            await self._records.apply([Row("placement", placement.segment.id, raw)], [wanted])

    async def _compare(
        self, miner: MinerInfo, named: set[bytes], after: bytes, until: bytes
    ) -> None:
        absent = set(named)
        try:
            async for listed in self._lists(miner, after, until):
                absent.difference_update(each.key for each in listed)
                await self._settle(miner, [each for each in listed if each.key not in named])
            for key in sorted(absent):
                await self._note_absent(miner, key)
        except (RemoteError, Unreachable) as error:
            log.info("miner %s is compared another time: %s", miner.id.hex()[:16], error)

    async def _lists(
        self, miner: MinerInfo, after: bytes, until: bytes
    ) -> AsyncIterator[Sequence[Listed]]:
        """The miner's own list, page by page. Raises RemoteError, Unreachable.

        What is no list of keys in order ends it: nothing is concluded from the rest.
        """
        for _ in range(_LISTS_MAX):
            message = ListFragments(after, until, KEYS_MAX)
            page = await self._peers.ask(miner, message, timeout=_LIST_SECONDS, timed=False)
            keys = [after, *(each.key for each in page.listed)]
            if any(len(key) != KEY_BYTES for key in keys[1:]) or keys != sorted(set(keys)):
                raise RemoteError(BAD_REPLY, "keys in order were asked for")
            yield page.listed
            if len(page.listed) < KEYS_MAX:
                return
            after = keys[-1]
        raise RemoteError(BAD_REPLY, "more fragments than a miner has")

    # ------------------------------------------------------------------ named, not there
    async def _note_absent(self, miner: MinerInfo, key: bytes) -> None:
        """Raises RemoteError, Unreachable."""
        segment, index = split_key(key)
        if segment in self._claims or await self._is_whole(miner, segment, index):
            return

        def decide(placement: Placement) -> dict[int, Holder]:
            there = placement.holders[index].miner == miner.id
            return {index: Holder(None)} if there else {}

        if await self._changes.change(segment, decide) is not None:
            log.warning("miner %s has lost fragment %s", miner.id.hex()[:16], key.hex())

    async def _is_whole(self, miner: MinerInfo, segment: SegmentId, index: int) -> bool:
        message = CheckFragment(segment, index)
        checked = await self._peers.ask(miner, message, timeout=_CHECK_SECONDS, timed=False)
        return checked.present and checked.whole

    # ------------------------------------------------------------------ there, not named
    async def _settle(self, miner: MinerInfo, strays: Sequence[Listed]) -> None:
        """Adopt or drop what the placements read before did not name there.

        Raises RemoteError, Unreachable.
        """
        claimed: set[SegmentId] = set()
        dropped: list[Listed] = []
        try:
            for each in strays:
                segment, index = split_key(each.key)
                if segment in self._claims and segment not in claimed:
                    continue
                verdict = self._verdict(miner.id, segment, index, confirmed=each.confirmed)
                if verdict is _Verdict.KEEP:
                    continue
                self._claims.add(segment)
                claimed.add(segment)
                if verdict is _Verdict.DROP:
                    dropped.append(each)
                else:
                    await self._adopt(miner, segment, index)
            if dropped:
                await self._drop(miner, dropped)
        finally:
            self._claims.difference_update(claimed)

    async def _drop(self, miner: MinerInfo, copies: Sequence[Listed]) -> None:
        """Raises RemoteError, Unreachable."""
        message = DropFragments(tuple([each.key for each in copies]))
        done = await self._peers.ask(miner, message, timeout=_CHECK_SECONDS, timed=False)
        if done.count:
            log.info("miner %s dropped %d stale copies", miner.id.hex()[:16], done.count)
        if done.count < len(copies):
            return  # some are others': how many bytes of ours went is not known
        # Confirmed ones belonged to an object, so a receipt of theirs was counted.
        size = sum(each.size for each in copies if each.confirmed)
        for _ in range(_ATTEMPTS if size else 0):
            before, after = released_more(self._records, {miner.id: size})
            if await self._records.apply(before, after):
                return

    def _verdict(
        self, miner: AccountId, segment: SegmentId, index: int, *, confirmed: bool
    ) -> _Verdict:
        unnamed = _Verdict.DROP if confirmed else _Verdict.KEEP
        raw = self._records.get("placement", segment)
        if raw is None:
            waits = self._records.get("releases", segment) is not None
            return _Verdict.KEEP if waits else unnamed
        placement = parse_or_log(segment, raw)
        if placement is None:
            return _Verdict.KEEP
        if index >= len(placement.holders):
            return unnamed
        holder = placement.holders[index]
        if holder.miner == miner:
            return _Verdict.KEEP
        return _Verdict.DROP if self._stands(holder) else _Verdict.ADOPT

    def _stands(self, holder: Holder) -> bool:
        info = None if holder.miner is None else self._directory.get(holder.miner)
        return info is not None and not info.gone

    async def _adopt(self, miner: MinerInfo, segment: SegmentId, index: int) -> None:
        """Raises RemoteError, Unreachable."""
        if not await self._is_whole(miner, segment, index):
            return

        def decide(placement: Placement) -> dict[int, Holder]:
            stands = self._stands(placement.holders[index])
            return {} if stands else {index: Holder(miner.id)}

        if await self._changes.change(segment, decide) is not None:
            log.info("fragment %d of %s is at %s", index, segment.hex(), miner.id.hex()[:16])
