"""The storage pool: the layer's front door. Sealed segments in, sealed ranges out.

The pool writes nothing to its records: rows are returned, so that the caller puts them into the
commit of the object that they belong to. See docs/specs/placement.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chain.clock import Clock, Deadline, Entropy
from chain.ids import SegmentId
from chain.net.transport import Buffer
from miner.client import MinerPeers
from miner.company import Company
from miner.fragment import SEGMENT_MAX
from miner.hedging import ReadCounts, ReadSettings
from miner.placement import (
    RECORD_ROOM,
    SEED_BYTES,
    Choice,
    InvalidPlacement,
    MinerDirectory,
    Placement,
    choose,
    placement_rows,
    released_rows,
)
from miner.range_read import Report
from miner.reading import Readers
from miner.records import PoolRecords, Row
from miner.segments import Arrived, Profile, Segment, SegmentUnavailable
from miner.sending import SMALL
from miner.writing import BelowQuorum, FragmentReceipt, SegmentWrite, WriteSettings

__all__ = ["BelowQuorum", "Placed", "PoolSettings", "Release", "StoragePool"]

# A miner asks about fragments that are staged for 24 h; the commit must come well before.
_COMMIT_WITHIN = 20 * 3600.0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How long to wait for miners."""

    write: WriteSettings = field(default_factory=WriteSettings)
    read: ReadSettings = field(default_factory=ReadSettings)


class Placed(NamedTuple):
    """A stored segment. It exists once `rows` are committed, by `deadline`."""

    placement: Placement
    rows: list[Row]
    receipts: list[FragmentReceipt]
    deadline: Deadline

    @property
    def missing(self) -> list[int]:
        """Indices that are in the repair queue."""
        return self.placement.missing


class Release(NamedTuple):
    """Rows to commit with a deletion, on condition that `expected` rows still hold."""

    expected: list[Row]
    changes: list[Row]


class StoragePool:
    """A SegmentSource that also stores. One per process; used from one event loop."""

    def __init__(
        self,
        directory: MinerDirectory,
        peers: MinerPeers,
        records: PoolRecords,
        clock: Clock,
        entropy: Entropy,
        *,
        settings: PoolSettings | None = None,
        report: Report | None = None,
    ) -> None:
        """`report` hears of fragments that are lost or wrong (see Reports in miner/owner.py)."""
        self._directory = directory
        self._peers = peers
        self._records = records
        self._clock = clock
        self._entropy = entropy
        self._settings = settings or PoolSettings()
        self._company = Company()
        self._readers = Readers(
            peers, directory, clock, self._settings.read, report or (lambda _: None)
        )

    async def write(self, segment: Segment, shards: Sequence[Buffer]) -> Placed:
        """Store all n shards (data first, each `segment.shard_bytes` long, ids as in `segment`).

        Returns at all n stored, or soon after quorum when miners lag or fail; missing indices are
        in the repair row. The shards must not change until it returns. Raises BelowQuorum.
        """
        profile = segment.profile
        assert len(shards) == profile.n
        assert 1 <= segment.length <= SEGMENT_MAX
        assert all(len(shard) == segment.shard_bytes for shard in shards)
        choice = self._choose(profile, segment.shard_bytes + RECORD_ROOM)
        deadline = Deadline.after(self._clock, _COMMIT_WITHIN)
        write = SegmentWrite(self._peers, self._clock, self._settings.write, segment, choice)
        if segment.shard_bytes > SMALL:
            written = await write.run(shards)
        else:
            async with self._company:
                written = await write.run(shards)
        placement = Placement(segment, written.holders)
        return Placed(placement, placement_rows(placement), written.receipts, deadline)

    async def read(
        self,
        segment: Segment,
        ranges: Sequence[tuple[int, int]],
        *,
        verify: bool = False,
        arrived: Arrived | None = None,
    ) -> list[Buffer]:
        """See SegmentSource.read."""
        assert all(0 <= start <= end <= segment.length for start, end in ranges)
        try:
            placement = self.placement(segment.id)
        except InvalidPlacement as error:
            raise SegmentUnavailable(f"segment {segment.id.hex()}: {error}") from error
        if placement is None or placement.segment != segment:
            raise SegmentUnavailable(f"segment {segment.id.hex()} is not placed")
        return await self._readers.read(placement, ranges, verify=verify, arrived=arrived)

    def placement(self, segment: SegmentId) -> Placement | None:
        """Where the segment lies by the committed rows. Raises InvalidPlacement."""
        raw = self._records.get("placement", segment)
        return None if raw is None else Placement.parse(raw)

    def release_rows(self, segment: SegmentId) -> Release:
        """What to commit when the last reference to a segment goes; empty if it is not placed."""
        raw = self._records.get("placement", segment)
        if raw is None:
            return Release([], [])
        return Release([Row("placement", segment, raw)], released_rows(Placement.parse(raw)))

    @property
    def read_counts(self) -> ReadCounts:
        """What reads asked of miners; counts on."""
        return self._readers.counts

    def can_write(self, quorum: int) -> bool:
        """Whether miners of `quorum` distinct domains are up (readiness)."""
        up = {miner.domain for miner in self._directory.all() if self._peers.is_up(miner)}
        return len(up) >= quorum

    def close(self) -> None:
        """Close the connections to miners."""
        self._peers.close()

    def _choose(self, profile: Profile, room: int) -> Choice:
        """Miners that are up; below quorum those left alone too, else they are spares."""
        seed = self._entropy(SEED_BYTES)
        known = self._directory.all()
        up = [miner for miner in known if self._peers.is_up(miner)]
        best = choose(up, profile.n, room, seed)
        if len(up) == len(known):
            return best
        domains = {miner.domain for miner in best.chosen}
        alone = [m for m in known if not self._peers.is_up(m) and m.domain not in domains]
        rest = choose(alone, profile.n - len(best.chosen), room, seed)
        if len(best.chosen) < profile.quorum:
            return Choice(best.chosen + rest.chosen, best.spares + rest.spares)
        return Choice(best.chosen, best.spares + rest.chosen + rest.spares)
