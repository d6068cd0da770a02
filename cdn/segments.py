"""EdgeCache: a SegmentSource in front of another SegmentSource. What it keeps: docs/specs/edge.md.

A read that is not in RAM or on disk costs a ghost-list entry per MiB beyond the fetch behind it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cdn.policy import Ghost
from cdn.shelf import SLICE_BYTES, DiskShelf, Extent, RamShelf, own_memory
from chain.ids import SegmentId
from chain.net.transport import Buffer
from miner.segments import Arrived, Segment, SegmentSource

_GHOSTS_MAX = 1 << 18  # some 40 MiB of names
_WRITES_MAX = 64  # extents waiting for the disk; they are in RAM anyway

Range = tuple[int, int]


class BadRange(ValueError):
    """A range that does not lie in the segment: the caller's bug."""


@dataclass(slots=True)
class EdgeCounters:
    """Ranges and bytes answered, by where they came from."""

    ram_hits: int = 0
    disk_hits: int = 0
    joined: int = 0  # waited for somebody else's fetch
    misses: int = 0
    hit_bytes: int = 0
    miss_bytes: int = 0
    complaints: int = 0  # reads with verify=True
    slices_written: int = 0


class _Flight:
    """A range on its way from behind. `done` holds the extent, an error, or None (cancelled)."""

    __slots__ = ("done", "end", "fit", "keep", "start")

    def __init__(self, start: int, end: int, keep: bool) -> None:
        self.start, self.end, self.keep = start, end, keep
        self.fit = True  # false once a reader complained about the segment
        self.done: asyncio.Future[Extent | Exception | None] = (
            asyncio.get_running_loop().create_future()
        )

    def tell(self, number: int, wanted: Range, arrived: Arrived) -> None:
        """Let `arrived` know of the range `wanted` in it, as its `number`, once it is there."""

        def landed(done: "asyncio.Future[Extent | Exception | None]") -> None:
            extent = done.result()
            if isinstance(extent, Extent):
                arrived(number, _part(extent, wanted))

        self.done.add_done_callback(landed)


class EdgeCache:
    """Keeps what is read more than once. One per event loop.

    Run `write_behind()` in a task to fill the disk shelf; without it only RAM is filled.
    """

    def __init__(
        self, behind: SegmentSource, *, ram_bytes: int, disk: DiskShelf | None = None
    ) -> None:
        self._behind = behind
        self._ram = RamShelf(ram_bytes)
        self._disk = disk
        budget = ram_bytes + (disk.capacity if disk else 0)
        self._ghost = Ghost[tuple[SegmentId, int]](
            min(_GHOSTS_MAX, max(1024, 2 * budget // SLICE_BYTES))
        )
        self._flights: dict[SegmentId, list[_Flight]] = {}
        self._writes: asyncio.Queue[Extent] = asyncio.Queue(_WRITES_MAX)
        self._unwritten: set[Extent] = set()  # in that queue, or being written
        self.counters = EdgeCounters()

    @property
    def ram(self) -> RamShelf:
        return self._ram

    @property
    def disk(self) -> DiskShelf | None:
        return self._disk

    async def read(
        self,
        segment: Segment,
        ranges: Sequence[Range],
        *,
        verify: bool = False,
        arrived: Arrived | None = None,
    ) -> list[Buffer]:
        """See SegmentSource.read. Raises SegmentUnavailable, BadRange."""
        for start, end in ranges:
            if not 0 <= start <= end <= segment.length:
                raise BadRange(f"[{start}, {end}) of a segment of {segment.length} bytes")
        name = segment.id
        if verify:
            return await self._reread(segment, name, ranges)
        found = await self._kept(segment, name, ranges)
        if arrived is not None:
            for at, view in enumerate(found):
                if view is not None:
                    arrived(at, view)
        missing = [at for at, view in enumerate(found) if view is None]
        if missing:
            tell = None if arrived is None else _renumbered(arrived, missing)
            fetched = await self._fetch(segment, name, [ranges[at] for at in missing], tell)
            for at, view in zip(missing, fetched, strict=True):
                found[at] = view
        return found  # type: ignore[return-value]  # no None is left

    # ------------------------------------------------------------------ hits
    async def _kept(
        self, segment: Segment, name: SegmentId, ranges: Sequence[Range]
    ) -> list[Buffer | None]:
        """Each range from RAM or disk; None for what is not there."""
        found = [self._from_ram(name, wanted) for wanted in ranges]
        if None in found and self._disk is not None and name in self._disk:
            for at, wanted in enumerate(ranges):
                if found[at] is None:
                    found[at] = await self._from_disk(segment, name, wanted)
        return found

    def _from_ram(self, name: SegmentId, wanted: Range) -> Buffer | None:
        start, end = wanted
        if start == end:
            return b""
        found = self._ram.find(name, start, end)
        if found is None:
            return None
        view, extent = found
        self.counters.ram_hits += 1
        self.counters.hit_bytes += end - start
        if self._disk is not None and not extent.settled and not self._disk.paused:
            try:
                self._writes.put_nowait(extent)
                extent.settled = True
                self._unwritten.add(extent)
            except asyncio.QueueFull:
                pass  # a later hit will try again
        return view

    async def _from_disk(self, segment: Segment, name: SegmentId, wanted: Range) -> Buffer | None:
        start, end = wanted
        disk = self._disk
        if disk is None or not disk.holds(name, start, end):
            return None
        flight = _Flight(start, end, keep=True)  # so that a complaint meanwhile is seen
        flights = self._flights.setdefault(name, [])
        flights.append(flight)
        try:
            read = await asyncio.to_thread(disk.read, name, start, end, segment.length)
        finally:
            flight.done.set_result(None)
            self._land(name, [flight])
        base = start // SLICE_BYTES * SLICE_BYTES
        if not flight.fit:
            return None
        if read is None:
            for index in range(base // SLICE_BYTES, -(-end // SLICE_BYTES)):
                disk.discard((name, index))
            return None
        extent = Extent(name, base, read.toreadonly(), segment.length)
        extent.settled = True
        self._ram.keep(extent)
        self.counters.disk_hits += 1
        self.counters.hit_bytes += end - start
        return extent.view[start - base : end - base]

    # ------------------------------------------------------------------ misses
    async def _fetch(
        self,
        segment: Segment,
        name: SegmentId,
        ranges: Sequence[Range],
        arrived: Arrived | None,
    ) -> list[Buffer]:
        """Fetch each range once, however many readers wait for it."""
        keeps = self._known(name, ranges)
        views: list[Buffer | None] = [None] * len(ranges)
        waiting = list(range(len(ranges)))
        while waiting:
            joined: list[tuple[int, _Flight]] = []
            led: list[tuple[int, _Flight]] = []
            for at in waiting:
                flight = self._flight_over(name, ranges[at], keeps[at])
                if flight is not None:
                    joined.append((at, flight))
                else:
                    wanted = self._run_from(at, ranges) if keeps[at] else ranges[at]
                    led.append((at, self._start(segment, name, wanted, keeps[at])))
            if arrived is not None:
                for at, flight in (*led, *joined):
                    flight.tell(at, ranges[at], arrived)
            if led:
                await self._lead(segment, name, [flight for _, flight in led])
            for at, flight in (*led, *joined):
                extent = await asyncio.shield(flight.done)
                if isinstance(extent, Exception):
                    raise extent
                if extent is not None:
                    views[at] = _part(extent, ranges[at])
            own = {flight for _, flight in led}
            self.counters.joined += sum(flight not in own for _, flight in joined)
            waiting = [at for at, _ in joined if views[at] is None]  # its leader was cancelled
        return views  # type: ignore[return-value]  # no None is left

    def _known(self, name: SegmentId, ranges: Sequence[Range]) -> list[bool]:
        """Whether all of each range was asked for before (it is from now on).

        Ranges of one request may meet within a slice: that is not asking twice.
        """
        seen: dict[int, bool] = {}
        known: list[bool] = []
        for start, end in ranges:
            slices = range(start // SLICE_BYTES, -(-end // SLICE_BYTES))
            for index in slices:
                if index not in seen:
                    seen[index] = self._ghost.seen((name, index))
            known.append(all(seen[index] for index in slices))
        return known

    def _run_from(self, at: int, ranges: Sequence[Range]) -> Range:
        """A range that will be kept in whole slices, with those that go on where it ends."""
        start, end = ranges[at]
        if self._is_kept_as_it_is(start, end):
            return start, end
        for following in ranges[at + 1 :]:
            if following[0] != end:
                break
            end = following[1]
        return start, end

    def _is_kept_as_it_is(self, start: int, end: int) -> bool:
        """Long ranges are a shard each, and their own frame: only a disk needs whole slices."""
        return self._disk is None and end - start >= SLICE_BYTES

    def _flight_over(self, name: SegmentId, wanted: Range, keep: bool) -> _Flight | None:
        for flight in self._flights.get(name, ()):
            if (
                flight.fit
                and not flight.done.done()
                and flight.start <= wanted[0]
                and wanted[1] <= flight.end
            ):
                flight.keep |= keep
                return flight
        return None

    def _start(self, segment: Segment, name: SegmentId, wanted: Range, keep: bool) -> _Flight:
        start, end = wanted
        if keep and not self._is_kept_as_it_is(start, end):
            start = start // SLICE_BYTES * SLICE_BYTES
            end = min(-(-end // SLICE_BYTES) * SLICE_BYTES, segment.length)
        flight = _Flight(start, end, keep)
        self._flights.setdefault(name, []).append(flight)
        self.counters.misses += 1
        self.counters.miss_bytes += end - start
        return flight

    async def _lead(self, segment: Segment, name: SegmentId, flights: list[_Flight]) -> None:
        outcome: Exception | None = None

        def came(number: int, buffer: Buffer) -> None:
            flight = flights[number]
            if not flight.done.done():
                flight.done.set_result(self._extent(flight, name, segment, buffer))

        try:
            wanted = [(flight.start, flight.end) for flight in flights]
            buffers = await self._behind.read(segment, wanted, arrived=came)
            for number, buffer in enumerate(buffers):
                came(number, buffer)
        except Exception as error:  # noqa: BLE001 - every waiter gets it, this one too
            outcome = error
        finally:
            for flight in flights:
                if not flight.done.done():
                    flight.done.set_result(outcome)
            self._land(name, flights)

    def _extent(self, flight: _Flight, name: SegmentId, segment: Segment, buffer: Buffer) -> Extent:
        if len(buffer) != flight.end - flight.start:
            raise ValueError(f"{len(buffer)} bytes for [{flight.start}, {flight.end})")
        if not (flight.keep and flight.fit):
            return Extent(name, flight.start, memoryview(buffer), segment.length)
        extent = Extent(name, flight.start, own_memory(buffer), segment.length)
        self._ram.keep(extent)
        return extent

    def _land(self, name: SegmentId, flights: list[_Flight]) -> None:
        left = [flight for flight in self._flights.get(name, ()) if flight not in flights]
        if left:
            self._flights[name] = left
        else:
            self._flights.pop(name, None)

    # ------------------------------------------------------------------ complaints
    async def _reread(
        self, segment: Segment, name: SegmentId, ranges: Sequence[Range]
    ) -> list[Buffer]:
        self.counters.complaints += 1
        kept = self._forget(name)
        buffers = await self._behind.read(segment, ranges, verify=True)
        self._forget(name)  # what others fetched meanwhile may come from the same wrong shard
        if kept:
            for (start, end), buffer in zip(ranges, buffers, strict=True):
                if start < end:
                    self._ram.keep(Extent(name, start, own_memory(buffer), segment.length))
        return buffers

    def _forget(self, name: SegmentId) -> bool:
        for flight in self._flights.get(name, ()):
            flight.fit = False
        for extent in self._unwritten:
            if extent.segment == name:
                extent.alive = False
        in_ram = self._ram.drop(name)
        on_disk = self._disk is not None and self._disk.drop(name)
        return in_ram or on_disk

    # ------------------------------------------------------------------ disk
    async def write_behind(self) -> None:
        """Write confirmed extents to disk, one at a time, until cancelled."""
        while True:
            extent = await self._writes.get()
            try:
                await self._write(extent)
            finally:
                self._unwritten.discard(extent)
                self._writes.task_done()

    async def flush(self) -> None:
        """Return when everything that waited for the disk was written or given up."""
        await self._writes.join()

    async def _write(self, extent: Extent) -> None:
        disk = self._disk
        assert disk is not None
        for index in extent.slices():
            if extent.is_wrong():
                return
            if disk.paused:
                extent.settled = False  # a hit after the pause tries again
                return
            body = extent.slice(index)
            key = (extent.segment, index)
            written = await asyncio.to_thread(disk.write, key, body)
            disk.settle(key, len(body), written)
            self.counters.slices_written += written
            if extent.is_wrong():
                disk.discard(key)


def _part(extent: Extent, wanted: Range) -> memoryview:
    start, end = wanted
    return extent.view[start - extent.start : end - extent.start]


def _renumbered(arrived: Arrived, numbers: Sequence[int]) -> Arrived:
    def tell(number: int, buffer: Buffer) -> None:
        arrived(numbers[number], buffer)

    return tell
