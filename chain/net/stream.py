"""Messages over Unix stream sockets: how processes of one machine speak (`ipc://PATH`).

An ask over libzmq wakes four threads, two on each side, and costs 135 µs of CPU when they sleep
between asks; here the event loops read and write themselves: 30 µs (docs/adr/117). What goes over
the socket is the same head and payload frames (docs/specs/wire.md, "Over a stream").
"""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from chain.ids import AccountId
from chain.net import wire
from chain.net.framing import Frame
from chain.net.greeting import connect
from chain.net.rpc import AddressError, Asks, Limits, Responder, Window
from chain.net.shared import Arena, Loan, Rooms
from chain.net.stream_link import StreamLink
from chain.net.stream_server import StreamServer
from chain.net.transport import Buffer, Handlers, Message, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

IPC_PATH_MAX = 100
RECONNECT_SECONDS, RECONNECT_MAX_SECONDS = 0.05, 0.5


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


class _Asking(StreamLink):
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
