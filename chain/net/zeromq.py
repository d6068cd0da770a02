"""The ZeroMQ transport: `tcp://` with CURVE, between machines.

Sockets are used without blocking from the event loop's own thread, woken by ZMQ_FD. That costs
less than a thread of our own (no second GIL hand-over for each message) and far less than
zmq.asyncio (docs/adr/010-zeromq-on-the-loop.md). ZMQ_FD is edge-triggered: after every send and
receive the socket's events are asked for again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import zmq
from zmq.utils.monitor import parse_monitor_message

from chain.ids import AccountId
from chain.keys import curve
from chain.keys.identity import Identity
from chain.net import wire
from chain.net.rpc import (
    AddressError,
    Asks,
    Authorise,
    Limits,
    Responder,
    Window,
    refuse_everyone,
)
from chain.net.sockets import (
    DONTWAIT,
    EVENTS,
    POLLOUT,
    Readable,
    receive_authenticated,
    receive_frames,
    send_frames,
)
from chain.net.transport import Buffer, Caller, Handlers, Message, Reply
from chain.net.zap import ZAP_ADDRESS, ZAP_DOMAIN, ZapServer

# Messages a socket holds for one peer; above every Window.in_flight, since a ROUTER drops at it.
HIGH_WATER = 512
RECONNECT_MS, RECONNECT_MAX_MS = 50, 500
# After the other side refused our identity.
REFUSED_SECONDS = 1.0
_REFUSED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 5_000, 15_000
LINGER_MS = 100
# How long cancelled handlers may take to end.
CLOSE_SECONDS = 5.0


class ZeroMqTransport:
    """A Transport. Make it and use it in one running event loop.

    `identity` is this node on `tcp://`; `authorise` says who may ask what we serve there. `plain`
    allows `tcp://` without CURVE (tests only).
    """

    def __init__(
        self,
        identity: Identity | None = None,
        *,
        authorise: Authorise = refuse_everyone,
        limits: Limits | None = None,
        plain: bool = False,
    ) -> None:
        self._identity = identity
        self._authorise = authorise
        self._limits = limits or Limits()
        self._plain = plain
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 8192)
        self._codec = wire.Codec()
        self._servers: set[ZeroMqServer] = set()
        self._peers: set[ZeroMqPeer] = set()
        self._zap: tuple[ZapServer, Readable] | None = None

    async def serve(self, address: str, handlers: Handlers) -> "ZeroMqServer":
        """See Transport.serve. Raises AddressError."""
        curve_on = self._check(address)
        if curve_on:
            self._start_zap()
        socket = self._socket(zmq.ROUTER, address)
        if curve_on:
            assert self._identity is not None
            socket.curve_server = True
            socket.curve_secretkey = curve.curve_secret(self._identity)
            socket.zap_domain = ZAP_DOMAIN
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        try:
            socket.bind(address[:-1] + "*" if address.endswith(":0") else address)
        except zmq.ZMQError as error:
            socket.close(0)
            raise AddressError(f"cannot listen at {address}: {error.strerror}") from None
        responder = Responder(self._codec, handlers)
        server = ZeroMqServer(
            socket, responder, self._authorise if curve_on else None, self._limits.handlers
        )
        server.forget = self._servers.discard
        self._servers.add(server)
        return server

    def connect(self, address: str, identity: AccountId | None = None) -> "ZeroMqPeer":
        """See Transport.connect. Raises AddressError."""
        curve_on = self._check(address)
        socket = self._socket(zmq.DEALER, address)
        # A connection that breaks takes its unsent messages with it; we fail those asks.
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        try:
            if curve_on:
                assert self._identity is not None
                if identity is None:
                    raise AddressError(f"{address}: whose address is it? An identity is needed")
                socket.curve_serverkey = curve.curve_public(identity)
                socket.curve_publickey = curve.curve_public(self._identity.id)
                socket.curve_secretkey = curve.curve_secret(self._identity)
            peer = ZeroMqPeer(socket, address, self._codec, self._limits.window)
        except (AddressError, curve.InvalidCurveKey, zmq.ZMQError) as error:
            socket.close(0)
            raise AddressError(f"cannot connect to {address}: {error}") from None
        if curve_on and self._identity is not None:
            peer.asks.flags = wire.FLAG_ODD if curve.is_odd(self._identity.id) else 0
        peer.forget = self._peers.discard
        self._peers.add(peer)
        return peer

    async def close(self) -> None:
        """See Transport.close. The last replies get a moment to leave."""
        for peer in list(self._peers):
            peer.close()
        for server in list(self._servers):
            await server.close()
        if self._zap is not None:
            self._zap[1].close()
            self._zap[0].socket.close(0)
            self._zap = None
        await asyncio.to_thread(self._context.term)

    def _check(self, address: str) -> bool:
        """Whether this address speaks CURVE. Raises AddressError."""
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        if not address.startswith("tcp://") or not host or not port.isdecimal():
            raise AddressError(f"{address}: not tcp://HOST:PORT")
        if self._identity is None and not self._plain:
            raise AddressError(f"{address}: tcp needs an identity")
        return self._identity is not None

    def _socket(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.linger = LINGER_MS
        socket.set_hwm(HIGH_WATER)
        socket.setsockopt(zmq.MAXMSGSIZE, wire.FRAME_MAX)
        socket.setsockopt(zmq.IPV6, int("[" in address))
        # A peer whose machine vanished.
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        return socket

    def _start_zap(self) -> None:
        if self._zap is None:
            socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
            socket.bind(ZAP_ADDRESS)
            zap = ZapServer(socket, self._authorise)
            self._zap = zap, Readable(socket, zap.step)


class ZeroMqPeer:
    """One DEALER to one peer, with a monitor that tells when the connection stands and breaks."""

    def __init__(
        self, socket: zmq.Socket[bytes], address: str, codec: wire.Codec, window: Window
    ) -> None:
        self._socket = socket
        self._address = address
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self.forget: Callable[[ZeroMqPeer], None] = lambda _: None
        self.asks = Asks(codec, window, self._send, address)
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _REFUSED
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(events)
        self._connection = Readable(self._monitor, self._on_event)
        self._messages = Readable(socket, self._on_message, self._on_idle)
        socket.connect(address)

    async def ask(self, message: Message[Reply], *, timeout: float = 30.0) -> Reply:  # noqa: ASYNC109
        """See Peer.ask."""
        return await self.asks.ask(message, timeout)

    def close(self) -> None:
        """See Peer.close."""
        if self._closed:
            return
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        self.asks.close()
        self._messages.close()
        self._connection.close()
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        self.forget(self)

    def _send(self, frames: list[Buffer]) -> bool:
        sent = send_frames(self._socket, frames)
        self._messages.wake()
        return sent

    def _on_message(self) -> bool:
        frames = receive_frames(self._socket)
        if frames is not None:
            self.asks.receive(frames)
        return not self._closed

    def _on_idle(self) -> None:
        """The socket may take again what it refused: nobody else says so when no reply is due."""
        if self.asks.blocked and int(self._socket.get(EVENTS)) & POLLOUT:
            self.asks.flush()

    def _on_event(self) -> bool:
        message = parse_monitor_message(self._monitor.recv_multipart(DONTWAIT))
        event = message["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.asks.opened()
        elif event & _REFUSED and self._again is None:
            # libzmq takes a refusal as final; ours may end: who is on the ledger changes.
            self._again = self._loop.call_later(REFUSED_SECONDS, self._reconnect)
        elif event == zmq.EVENT_DISCONNECTED:
            self._messages.drain_now()  # replies that came before the end still count
            self.asks.lost("connection lost")
        return not self._closed

    def _reconnect(self) -> None:
        self._again = None
        if self._closed:
            return
        with contextlib.suppress(zmq.ZMQError):  # libzmq may have forgotten the endpoint already
            self._socket.disconnect(self._address)
        self._socket.connect(self._address)


class ZeroMqServer:
    """One ROUTER and the handlers that run for it."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        responder: Responder,
        authorise: Authorise | None,
        handlers_max: int,
    ) -> None:
        self._socket = socket
        self._responder = responder
        self._authorise = authorise
        self._handlers_max = handlers_max
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.forget: Callable[[ZeroMqServer], None] = lambda _: None
        self._address = str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        self._messages = Readable(socket, self._on_message)

    @property
    def address(self) -> str:
        """See Server.address."""
        return self._address

    async def close(self) -> None:
        """See Server.close: running handlers are cancelled."""
        if self._closed:
            return
        self._closed = True
        self._messages.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        self._socket.close(LINGER_MS)
        self.forget(self)

    def _on_message(self) -> bool:
        if len(self._tasks) >= self._handlers_max:
            return False  # the rest waits in the sockets; a finished handler wakes us
        route = self._socket.recv(DONTWAIT)
        caller: Caller | None = Caller(None, local=False)
        if self._authorise is None:
            frames = receive_frames(self._socket)
        else:
            frames, user = receive_authenticated(self._socket)
            caller = None if frames is None else _caller_of(frames, user, self._authorise)
            if frames is not None and caller is None:
                self._refuse(route, frames)
                return True
        if frames is not None and caller is not None:
            task = self._loop.create_task(self._answer(route, frames, caller))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        return True

    def _refuse(self, route: bytes, frames: list[Buffer]) -> None:
        with contextlib.suppress(wire.MalformedFrame):
            number = wire.parse_head(frames[0]).request
            reply = self._responder.refuse(number, "not_authorised", "this identity may not ask")
            send_frames(self._socket, [route, *reply])
            self._messages.wake()

    async def _answer(self, route: bytes, frames: Sequence[Buffer], caller: Caller) -> None:
        reply = await self._responder.answer(frames, caller)
        if reply is not None and not self._closed:
            send_frames(self._socket, [route, *reply])
            self._messages.wake()

    def _done(self, task: asyncio.Task[None]) -> None:
        full = len(self._tasks) >= self._handlers_max
        self._tasks.discard(task)
        if full:
            self._messages.wake()


def _caller_of(frames: list[Buffer], user: str, authorise: Authorise) -> Caller | None:
    """The account behind a ZAP user id and the request's sign bit; None when it may not ask."""
    try:
        odd = bool(wire.parse_head(frames[0]).flags & wire.FLAG_ODD)
        account = AccountId(bytes.fromhex(user)[32 * odd : 32 * odd + 32])
    except ValueError:
        return None
    return Caller(account, local=False) if account and authorise(account) else None
