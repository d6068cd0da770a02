"""Deletions on their way to the miners: works off the `releases` rows."""

import logging
from collections.abc import Mapping, Sequence

from chain.clock import Clock
from chain.ids import AccountId, SegmentId
from chain.net.transport import RemoteError, Unreachable
from miner import protocol
from miner.client import MinerPeers
from miner.fragment import fragment_key
from miner.placement import (
    InvalidPlacement,
    MinerDirectory,
    encode_release,
    encode_released,
    parse_release,
    parse_released,
)
from miner.protocol import DropFragments
from miner.records import PoolRecords, Row

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_PAGE = 512
_Release = tuple[int, list[tuple[int, AccountId]]]


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
            before, after = released_more(self._records, freed)
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


def released_more(
    records: PoolRecords, freed: Mapping[AccountId, int]
) -> tuple[list[Row], list[Row]]:
    """Rows to expect and rows to put, so that the ledger hears of so many bytes more per miner."""
    before = [Row("released", miner, records.get("released", miner)) for miner in freed]
    after = [
        Row("released", row.key, encode_released(_counted(row) + freed[AccountId(row.key)]))
        for row in before
    ]
    return before, after


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
