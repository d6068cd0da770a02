"""Messages over Unix stream sockets: how processes of one machine speak (`ipc://PATH`).

An ask over libzmq wakes four threads, two on each side, and costs 135 µs of CPU when they sleep
between asks; here the event loops read and write themselves: 30 µs (docs/adr/117). What goes over
the socket is the same head and payload frames (docs/specs/wire.md, "Over a stream").
"""

import asyncio
import contextlib
import logging
import socket as socketlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from chain.ids import AccountId
from chain.net import framing, wire
from chain.net.framing import Frame
from chain.net.greeting import Door, connect
from chain.net.rpc import AddressError, Asks, Limits, Responder, Window
from chain.net.shared import Arena, Guest, Loan, Reference, Room, Rooms
from chain.net.transport import Buffer, Caller, Handlers, Message, Reply

log = logging.getLogger(__name__)

IPC_PATH_MAX = 100
RECONNECT_SECONDS, RECONNECT_MAX_SECONDS = 0.05, 0.5
# A socket's default (208 KiB) makes ten wake-ups on each side of a 2 MiB frame; 1 MiB makes two.
SEND_BUFFER = 1 << 20
# Unsent bytes at which we stop handing over more (asks) or reading more (requests).
WRITE_HIGH = 4 << 20
# Smaller payloads are copied behind the head, so that a message is one write.
JOIN_BYTES = 16 << 10
LINGER_SECONDS = 0.1
# How long cancelled handlers may take to end.
CLOSE_SECONDS = 5.0

_LOCAL = Caller(None, local=True)


class StreamTransport:
    """A Transport for `ipc://` addresses. Make it and use it in one running event loop.

    `arena` is shared with every service that is connected to.
    """

    def __init__(self, *, limits: Limits | None = None, arena: Arena | None = None) -> None:
        self._limits = limits or Limits()
        self._rooms = None if arena is None else Rooms(arena)
        self._codec = wire.Codec()
        self._servers: set[StreamServer] = set()
        self._peers: set[StreamPeer] = set()

    async def serve(self, address: str, handlers: Handlers) -> "StreamServer":
        """See Transport.serve. Raises AddressError."""
        path = socket_path(address)
        _prepare_directory(Path(path).parent)
        responder = Responder(self._codec, handlers)
        server = StreamServer(address, responder, self._limits.handlers)
        server.listen(path)
        server.forget = self._servers.discard
        self._servers.add(server)
        return server

    def connect(self, address: str, identity: AccountId | None = None) -> "StreamPeer":
        """See Transport.connect; who may open the socket is known by its directory's mode."""
        del identity
        path = socket_path(address)
        peer = StreamPeer(address, path, self._codec, self._limits.window, self._rooms)
        peer.forget = self._peers.discard
        self._peers.add(peer)
        return peer

    async def close(self) -> None:
        """See Transport.close. The last replies get a moment to leave."""
        for peer in list(self._peers):
            peer.close()
        for server in list(self._servers):
            await server.close()


def socket_path(address: str) -> str:
    """The path of an `ipc://` address. Raises AddressError."""
    path = address.removeprefix("ipc://")
    if not address.startswith("ipc://") or not path.startswith("/"):
        raise AddressError(f"{address}: not ipc:///PATH or tcp://HOST:PORT")
    if len(path.encode()) >= IPC_PATH_MAX:
        raise AddressError(
            f"{address}: an ipc path is absolute and shorter than {IPC_PATH_MAX} bytes"
        )
    return path


class _Link(asyncio.BufferedProtocol):
    """One connection: frames in, frames out."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.writable = True
        self._reader = framing.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_HIGH)
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socketlib.SOL_SOCKET, socketlib.SO_SNDBUF, SEND_BUFFER)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        del sizehint
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        try:
            messages = self._reader.filled(nbytes)
        except wire.MalformedFrame as error:
            self.refused(error)
            return
        if messages:
            self.received(messages)

    def refused(self, error: wire.MalformedFrame) -> None:
        """The other side does not speak as it should."""
        log.warning("a local connection is ended: %s", error)
        self.transport.abort()

    def received(self, messages: list[list[Frame]]) -> None:
        """Complete messages."""
        raise NotImplementedError

    def send_placed(self, frames: Sequence[Frame], memory: Arena | Guest) -> None:
        """Queue one message; of payloads that lie in the caller's memory only the place."""
        placed: list[Frame] = [
            frame if isinstance(frame, Reference | Room) else memory.reference(frame) or frame
            for frame in frames
        ]
        if not self.transport.is_closing():
            prefix, parts = framing.pack(placed)
            self._write(prefix, parts)

    def send(self, frames: Sequence[Buffer]) -> None:
        """Queue one message."""
        if not self.transport.is_closing():
            self._write(framing.prefix(frames), frames)

    def _write(self, prefix: bytes, frames: Sequence[Buffer]) -> None:
        if len(frames) == 1 or sum(map(len, frames)) <= JOIN_BYTES:
            self.transport.write(b"".join((prefix, *frames)))
        else:
            self.transport.writelines([b"".join((prefix, frames[0])), *frames[1:]])


class _Served(_Link):
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
        self._responder = responder
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
            reply = await self._responder.answer(frames, _LOCAL)
            if reply is not None:
                link.send(reply)
            return
        reply = await self._responder.answer(frames, Caller(None, local=True, room=room))
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


class _Asking(_Link):
    """The connection of a peer."""

    def __init__(self, peer: "StreamPeer") -> None:
        super().__init__()
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._peer.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        del exc
        self._peer.lost(self)

    def received(self, messages: list[list[Frame]]) -> None:
        """Answers."""
        for frames in messages:
            try:
                self._peer.asks.receive(frames)
            except Exception:
                log.exception("a message was passed over")

    def pause_writing(self) -> None:
        """See asyncio.Protocol: asks wait in their queue."""
        self.writable = False

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.writable = True
        if self._peer.asks.blocked:
            self._peer.asks.flush()


class StreamPeer:
    """One server as its callers hold it; connects again for as long as it is open."""

    def __init__(
        self, address: str, path: str, codec: wire.Codec, window: Window, rooms: Rooms | None
    ) -> None:
        self._path = path
        self._rooms = rooms
        self._loop = asyncio.get_running_loop()
        self._link: _Asking | None = None
        self._closed = False
        self.forget: Callable[[StreamPeer], None] = lambda _: None
        lend = None if rooms is None else self._lend
        self.asks = Asks(codec, window, self._send, address, lend)
        self._connecting = self._loop.create_task(self._connect())

    async def ask(self, message: Message[Reply], *, timeout: float = 30.0) -> Reply:  # noqa: ASYNC109
        """See Peer.ask."""
        return await self.asks.ask(message, timeout)

    async def _connect(self) -> None:
        delay = RECONNECT_SECONDS
        while True:
            try:
                arena = None if self._rooms is None else self._rooms.arena
                await connect(self._path, arena, lambda: _Asking(self))
            except OSError:
                await asyncio.sleep(delay)
                delay = min(2 * delay, RECONNECT_MAX_SECONDS)
            else:
                return

    def _send(self, frames: list[Frame]) -> bool:
        link = self._link
        if link is None or not link.writable:
            return False
        if self._rooms is None or len(frames) == 1:
            link.send(cast("list[Buffer]", frames))
        else:
            link.send_placed(frames, self._rooms.arena)
        return True

    def _lend(self, size: int) -> Loan | None:
        assert self._rooms is not None
        return self._rooms.lend(self, size)

    def opened(self, link: _Asking) -> None:
        """The connection stands."""
        if self._closed:
            link.transport.abort()
            return
        self._link = link
        self.asks.opened()

    def lost(self, link: _Asking) -> None:
        """The connection ended: asks on their way fail; try to get another one."""
        if self._closed or link is not self._link:
            return
        self._link = None
        self.asks.lost("connection lost")
        self._connecting = self._loop.create_task(self._connect())

    def close(self) -> None:
        """See Peer.close."""
        if self._closed:
            return
        self._closed = True
        self._connecting.cancel()
        self.asks.close()
        if self._link is not None:
            self._link.transport.close()
        if self._rooms is not None:
            self._rooms.forget(self)
        self.forget(self)


def _prepare_directory(directory: Path) -> None:
    """A socket's directory belongs to this user alone. Raises AddressError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = directory.stat().st_mode
    except OSError as error:
        raise AddressError(f"cannot use {directory}: {error.strerror}") from None
    if mode & 0o077:
        raise AddressError(f"{directory}: others may enter it; a socket's directory has mode 0700")
