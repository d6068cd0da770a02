"""The handler table of the segment face: whatever SegmentSource is behind it."""

from cdn.errors import BUSY, UNAVAILABLE
from cdn.protocol import EdgeState, EdgeStatus, ReadSegment, SegmentRanges, parse_read
from cdn.segments import EdgeCache
from chain.net.transport import Caller, Handlers, Payload, RemoteError
from miner.segments import SegmentSource, SegmentUnavailable

READS_MAX = 256


class SegmentService:
    """Answers ReadSegment from any SegmentSource: an edge's cache, or a gateway's pool."""

    def __init__(self, source: SegmentSource, *, reads_max: int = READS_MAX) -> None:
        self._source = source
        self._reads_left = reads_max

    def handlers(self) -> Handlers:
        """The table to serve."""
        return Handlers().on(ReadSegment, self.read)

    async def read(self, message: ReadSegment, caller: Caller) -> SegmentRanges:  # noqa: ARG002 - sealed bytes are for every peer
        """Raises RemoteError: BadRequest, Unavailable, Busy."""
        segment = parse_read(message)
        if self._reads_left <= 0:
            raise RemoteError(BUSY, "too many reads at once")
        self._reads_left -= 1
        try:
            buffers = await self._source.read(segment, message.ranges, verify=message.verify)
        except SegmentUnavailable as error:
            raise RemoteError(UNAVAILABLE, str(error)[:200]) from None
        finally:
            self._reads_left += 1
        return SegmentRanges([Payload(buffer) for buffer in buffers])


class EdgeService(SegmentService):
    """The face of an edge: reads through its cache, and its counters."""

    def __init__(self, cache: EdgeCache, *, reads_max: int = READS_MAX) -> None:
        super().__init__(cache, reads_max=reads_max)
        self._cache = cache

    def handlers(self) -> Handlers:
        return super().handlers().on(EdgeStatus, self.status)

    async def status(self, message: EdgeStatus, caller: Caller) -> EdgeState:  # noqa: ARG002 - nothing to tell apart
        """The counters since the start."""
        ram, disk, counters = self._cache.ram, self._cache.disk, self._cache.counters
        return EdgeState(
            ram_used=ram.used,
            ram_max=ram.capacity,
            disk_used=disk.used if disk else 0,
            disk_max=disk.capacity if disk else 0,
            disk_failures=disk.failures if disk else 0,
            ram_hits=counters.ram_hits,
            disk_hits=counters.disk_hits,
            misses=counters.misses,
            hit_bytes=counters.hit_bytes,
            miss_bytes=counters.miss_bytes,
            complaints=counters.complaints,
        )
