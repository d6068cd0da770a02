"""Bodies on their way in: bytes that are put where they belong, as many as there should be."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, runtime_checkable

from chain.net.transport import Buffer
from gateway.errors import EntityTooLarge, IncompleteBody

STREAM_MAX = 5 << 30  # S3: of a PUT and of a part
# Puts a body's next bytes in a place: as many as fit, fewer only at its end; tells how many.
Fill = Callable[[memoryview], Awaitable[int]]


@runtime_checkable
class Direct(Protocol):
    """A body that may be able to put its bytes in place itself, without a copy on their way."""

    @property
    def fill(self) -> Fill | None:
        """How, if it can; else it is iterated over."""
        ...


class Pieces:
    """Copies what an iterator brings to where it belongs."""

    def __init__(self, body: AsyncIterator[Buffer]) -> None:
        self._body = body
        self._rest = memoryview(b"")
        self._ended = False

    async def fill(self, place: memoryview) -> int:
        """See Fill."""
        done = 0
        while done < len(place) and not self._ended:
            if self._rest:
                count = min(len(self._rest), len(place) - done)
                place[done : done + count] = self._rest[:count]
                self._rest = self._rest[count:]
                done += count
                continue
            try:
                self._rest = memoryview(await anext(self._body)).cast("B")
            except StopAsyncIteration:
                self._ended = True
        return done


class Intake:
    """A body's bytes, neither more nor fewer than `length` where that is known.

    `size` counts what came; `ended` is true once that is all.
    """

    def __init__(self, body: AsyncIterator[Buffer], length: int | None) -> None:
        """Raises EntityTooLarge."""
        if length is not None and length > STREAM_MAX:
            raise EntityTooLarge
        direct = body.fill if isinstance(body, Direct) else None
        self._fill = direct or Pieces(body).fill
        self._length = length
        self._ahead = b""  # of a body of unknown length: the byte that says that it goes on
        self.size = 0
        self.ended = False

    async def fill(self, place: memoryview) -> int:
        """See Fill. Raises IncompleteBody, EntityTooLarge."""
        if self._length is None:
            return await self._fill_any(place)
        place = place[: self._length - self.size]
        count = await self._fill(place) if place else 0
        self.size += count
        if count < len(place):
            raise IncompleteBody
        if self.size == self._length:
            if await self._peek():
                raise IncompleteBody("The body has more bytes than it was said to have")
            self.ended = True
        return count

    async def _fill_any(self, place: memoryview) -> int:
        begun = len(self._ahead)
        place[:begun] = self._ahead
        count = begun + await self._fill(place[begun:])
        self.size += count
        if self.size > STREAM_MAX:
            raise EntityTooLarge
        self._ahead = await self._peek() if count == len(place) else b""
        self.ended = not self._ahead
        return count

    async def _peek(self) -> bytes:
        """The next byte, if there is one."""
        byte = bytearray(1)
        return bytes(byte[: await self._fill(memoryview(byte))])
