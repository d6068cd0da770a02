"""EdgeClient: an edge elsewhere, as a SegmentSource with another one to fall back on."""

from collections.abc import Iterator, Sequence

from cdn.protocol import ASK_BYTES_MAX, RANGE_BYTES_MAX, RANGES_MAX, read_message
from chain.clock import Clock
from chain.net.transport import Buffer, Payload, Peer, RemoteError, Unreachable
from miner.segments import Arrived, Segment, SegmentSource, SegmentUnavailable

_PAUSE_MIN, _PAUSE_MAX = 1.0, 60.0

Range = tuple[int, int]


class EdgeClient:
    """Reads through an edge; when it does not answer, from `behind` (None: raises)."""

    def __init__(
        self, peer: Peer, behind: SegmentSource | None, clock: Clock, *, timeout: float = 10.0
    ) -> None:
        self._peer = peer
        self._behind = behind
        self._clock = clock
        self._timeout = timeout
        self._pause = _PAUSE_MIN
        self._paused_until = float("-inf")

    async def read(
        self,
        segment: Segment,
        ranges: Sequence[Range],
        *,
        verify: bool = False,
        arrived: Arrived | None = None,
    ) -> list[Buffer]:
        """See SegmentSource.read. Raises SegmentUnavailable."""
        if self._behind is not None and self._clock.monotonic() < self._paused_until:
            return await self._behind.read(segment, ranges, verify=verify, arrived=arrived)
        try:
            buffers = await self._ask(segment, ranges, verify)
        except (Unreachable, RemoteError) as error:
            if isinstance(error, Unreachable):
                self._leave_alone()
            if self._behind is None:
                raise SegmentUnavailable(f"the edge: {error}") from None
            return await self._behind.read(segment, ranges, verify=verify, arrived=arrived)
        self._pause = _PAUSE_MIN
        return buffers

    def _leave_alone(self) -> None:
        self._paused_until = self._clock.monotonic() + self._pause
        self._pause = min(2 * self._pause, _PAUSE_MAX)

    async def _ask(self, segment: Segment, ranges: Sequence[Range], verify: bool) -> list[Buffer]:
        """All pieces, joined only where one message cannot carry a range whole."""
        pieces: list[Buffer] = []
        for batch in _batches(ranges):
            reply = await self._peer.ask(
                read_message(segment, batch, verify), timeout=self._timeout
            )
            _check(batch, reply.ranges)
            pieces += [payload.buffer for payload in reply.ranges]
        out: list[Buffer] = []
        at = 0
        for start, end in ranges:
            count = max(1, -(-(end - start) // RANGE_BYTES_MAX))
            taken = pieces[at : at + count]
            at += count
            out.append(taken[0] if count == 1 else b"".join(taken))
        return out


def _batches(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """Cut ranges to pieces that one message may carry, and group them by message."""
    batch: list[Range] = []
    total = 0
    for start, end in ranges:
        for at in range(start, max(end, start + 1), RANGE_BYTES_MAX):
            piece = (at, min(at + RANGE_BYTES_MAX, end))
            size = piece[1] - piece[0]
            if batch and (len(batch) == RANGES_MAX or total + size > ASK_BYTES_MAX):
                yield batch
                batch, total = [], 0
            batch.append(piece)
            total += size
    if batch:
        yield batch


def _check(asked: Sequence[Range], got: Sequence[Payload]) -> None:
    """The reply must have the asked lengths. Raises RemoteError."""
    if [end - start for start, end in asked] != [len(payload) for payload in got]:
        raise RemoteError("BadReply", "the edge answered other lengths than were asked for")
