"""Reading ranges of a segment from its miners: which windows of which shards, read together.

How one such read goes is in miner/range_read.py.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from chain.clock import Clock
from chain.net.transport import Buffer
from miner.client import MinerPeers
from miner.hedging import HedgeBudget, ReadCounts, ReadSettings
from miner.placement import MinerDirectory, Placement
from miner.range_read import Range, RangeRead, ReadMeans, Report, joined
from miner.segments import Arrived, SegmentUnavailable


class Readers:
    """Reads of one process."""

    def __init__(
        self,
        peers: MinerPeers,
        directory: MinerDirectory,
        clock: Clock,
        settings: ReadSettings,
        report: Report,
    ) -> None:
        budget = HedgeBudget(settings.hedge_share)
        self._means = ReadMeans(peers, directory, clock, settings, report, budget)

    @property
    def counts(self) -> ReadCounts:
        """What reads asked of miners so far."""
        return self._means.budget.counts

    async def read(
        self,
        placement: Placement,
        ranges: Sequence[Range],
        *,
        verify: bool,
        arrived: Arrived | None = None,
    ) -> list[Buffer]:
        """The bytes of each range [start, end) of the segment. Raises SegmentUnavailable.

        Ranges that touch different shards are read together, so that one set of k serves them all.
        `arrived` hears of ranges that lie within one shard.
        """
        size = placement.segment.shard_bytes
        cuts = [_windows(start, end, size) for start, end in ranges]
        batches, where = _batches(cuts, size, verify=verify)
        tell: list[Arrived | None] = [None] * len(batches)
        if arrived is not None and not verify:
            tell = [_teller(number, cuts, where, arrived) for number in range(len(batches))]
        reads = [
            RangeRead(self._means, placement, batch, verify=verify, arrived=told)
            for batch, told in zip(batches, tell, strict=True)
        ]
        if len(reads) == 1:
            results = [await reads[0].run()]
        else:
            results = await _all([read.run() for read in reads])
        found: list[Buffer] = []
        for windows, number in zip(cuts, where, strict=True):
            wanted, got = batches[number], results[number]
            views = [
                got[shard][lo - wanted[shard][0] : hi - wanted[shard][0]]
                for shard, (lo, hi) in windows.items()
            ]
            size = sum(map(len, views))
            found.append(views[0] if len(views) == 1 else joined(views, size) if views else b"")
        return found

    async def restore(
        self, placement: Placement, indices: Sequence[int], *, verify: bool
    ) -> dict[int, memoryview]:
        """Whole shards, data or parity: from their holders where `placement` names one, else from
        k others. The caller checks them; with `verify` every shard that is read is checked too,
        and a wrong one reported and replaced. Raises SegmentUnavailable.
        """
        whole = (0, placement.segment.shard_bytes)
        return await RangeRead(
            self._means, placement, dict.fromkeys(indices, whole), verify=verify
        ).run()


def _windows(start: int, end: int, size: int) -> dict[int, Range]:
    """The part of each data shard that lies in [start, end)."""
    if start == end:
        return {}
    return {
        shard: (max(start - shard * size, 0), min(end - shard * size, size))
        for shard in range(start // size, (end - 1) // size + 1)
    }


def _batches(
    cuts: Sequence[dict[int, Range]], size: int, *, verify: bool
) -> tuple[list[dict[int, Range]], list[int]]:
    """Windows to read together, at most one of each shard, and each range's batch."""
    if verify:
        return [{shard: (0, size) for windows in cuts for shard in windows}], [0] * len(cuts)
    batches: list[dict[int, Range]] = []
    where: list[int] = []
    for windows in cuts:
        for number, batch in enumerate(batches):
            if batch.keys().isdisjoint(windows):
                batch.update(windows)
                where.append(number)
                break
        else:
            where.append(len(batches))
            batches.append(dict(windows))
    return batches, where


def _teller(
    batch: int, cuts: Sequence[dict[int, Range]], where: Sequence[int], arrived: Arrived
) -> Arrived:
    """Tells of the ranges of a batch that are all of a shard's window."""
    numbers = {
        shard: number
        for number, windows in enumerate(cuts)
        if where[number] == batch and len(windows) == 1
        for shard in windows
    }

    def tell(shard: int, window: Buffer) -> None:
        if shard in numbers:
            arrived(numbers[shard], window)

    return tell


async def _all(
    reads: list[Coroutine[Any, Any, dict[int, memoryview]]],
) -> list[dict[int, memoryview]]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read) for read in reads]
    except* SegmentUnavailable as failed:
        raise SegmentUnavailable(str(failed.exceptions[0])) from None
    return [task.result() for task in tasks]
