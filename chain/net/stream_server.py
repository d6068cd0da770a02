"""The serving side of stream sockets: connections, and the handlers that run for them."""

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING

from chain.net import wire
from chain.net.framing import Frame
from chain.net.greeting import Door
from chain.net.rpc import AddressError, Responder
from chain.net.shared import VIEW_MIN, Guest, Reference, Room
from chain.net.stream_link import StreamLink
from chain.net.transport import Buffer, Caller

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

LINGER_SECONDS = 0.1
# How long cancelled handlers may take to end.
CLOSE_SECONDS = 5.0

_LOCAL = Caller(None, local=True)


class _Served(StreamLink):
    """A connection of a server. `memory` is the caller's, if it shares some."""

    def __init__(self, server: "StreamServer", memory: Guest | None) -> None:
        super().__init__()
        self.server = server
        self.memory = memory
        self.waiting: deque[list[Frame]] = deque()
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self.server.links.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol: replies to it are dropped."""
        del exc
        self.waiting.clear()
        self.server.lost(self)
        if self.memory is not None:
            self.memory.close()

    def received(self, messages: list[list[Frame]]) -> None:
        """Start as many handlers as may run; the rest waits, and so does the socket."""
        self.waiting.extend(messages)
        self.work()

    def work(self) -> None:
        """Go on with what waits."""
        while self.waiting and not self.server.full:
            try:
                frames, room = self._opened(self.waiting.popleft())
            except wire.MalformedFrame as error:
                self.refused(error)
                return
            self.server.start(self, frames, room)
        if self.waiting:
            self.server.stalled.append(self)
        self._read(not self.waiting and self.writable)

    def _opened(self, frames: list[Frame]) -> tuple[list[Buffer], memoryview | None]:
        """A message's own frames, and the room that was lent with it. Raises MalformedFrame."""
        own: list[Buffer] = []
        room = None
        for frame in frames:
            if not isinstance(frame, Reference | Room):
                own.append(frame)
            elif self.memory is None:
                raise wire.MalformedFrame("a place in memory that is not shared")
            elif isinstance(frame, Room):
                room = self.memory.room(frame)
            elif frame.size >= VIEW_MIN and self.server.responder.in_place(own[0]):
                own.append(self.memory.view(frame))
            else:
                own.append(self.memory.copy(frame))
        return own, room

    def pause_writing(self) -> None:
        """A caller that does not take its replies is not read any further."""
        self.writable = False
        self._read(False)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.writable = True
        self._read(not self.waiting)

    def _read(self, on: bool) -> None:
        if on is self._paused and not self.transport.is_closing():
            self._paused = not on
            (self.transport.resume_reading if on else self.transport.pause_reading)()


class StreamServer:
    """A listening socket and the handlers that run for its callers."""

    def __init__(self, address: str, responder: Responder, handlers_max: int) -> None:
        self._address = address
        self.responder = responder
        self._handlers_max = handlers_max
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._door: Door | None = None
        self.links: set[_Served] = set()
        self.stalled: deque[_Served] = deque()
        self.forget: Callable[[StreamServer], None] = lambda _: None
        self._gone = asyncio.Event()
        self._closed = False

    def listen(self, path: str) -> None:
        """Begin to serve. Raises AddressError."""
        try:
            self._door = Door(path, lambda memory: _Served(self, memory))
        except OSError as error:
            raise AddressError(f"cannot listen at {self._address}: {error.strerror}") from None

    @property
    def address(self) -> str:
        """See Server.address."""
        return self._address

    @property
    def full(self) -> bool:
        """Whether no more handlers may run: as many do, or the server is closed."""
        return self._closed or len(self._tasks) >= self._handlers_max

    def start(self, link: _Served, frames: list[Buffer], room: memoryview | None) -> None:
        """Answer one message."""
        task = self._loop.create_task(self._answer(link, frames, room))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _answer(self, link: _Served, frames: list[Buffer], room: memoryview | None) -> None:
        if room is None or link.memory is None:
            reply = await self.responder.answer(frames, _LOCAL)
            if reply is not None:
                link.send(reply)
            return
        reply = await self.responder.answer(frames, Caller(None, local=True, room=room))
        if reply is not None:
            link.send_placed(reply, link.memory)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        while self.stalled and not self.full:
            self.stalled.popleft().work()

    def lost(self, link: _Served) -> None:
        """A connection ended."""
        self.links.discard(link)
        self._gone.set()

    async def close(self) -> None:
        """See Server.close: running handlers are cancelled, replies get a moment to leave."""
        door, self._door = self._door, None
        if door is None:
            return
        door.close()
        self._closed = True
        self.stalled.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for link in list(self.links):
            link.transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self.links:
                    self._gone.clear()
                    await self._gone.wait()
        for link in list(self.links):
            link.transport.abort()
        self.forget(self)
