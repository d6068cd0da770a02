"""Ask and serve over frames, whatever carries them: used by every transport.

`Asks` is the caller's half for one peer: request ids, deadlines, the credit window and a bounded
queue. `Responder` is the service's half: frames in, frames out. Neither does I/O.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from chain.ids import AccountId
from chain.net import wire
from chain.net.transport import (
    Buffer,
    Caller,
    Handlers,
    Message,
    QueueFull,
    RemoteError,
    Reply,
    Unreachable,
)

log = logging.getLogger(__name__)

# The user's request that this work belongs to; travels with every ask and stands in every log line.
current_request: ContextVar[str] = ContextVar("current_request", default="")


class AddressError(ValueError):
    """This address cannot be served or reached."""


@dataclass(frozen=True, slots=True)
class Window:
    """How much one peer may be owed."""

    # Credits: asks at the peer. Its receive queue is deeper, so a ROUTER never drops for us.
    in_flight: int = 128
    in_flight_bytes: int = 64 << 20
    # Asks that wait here for a credit or for the connection.
    queued: int = 1024
    queued_bytes: int = 256 << 20
    # How long an ask waits for a connection before it is Unreachable.
    connect_grace: float = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one transport."""

    window: Window = field(default_factory=Window)
    # Handlers running at once for one served address; the rest waits in the sockets.
    handlers: int = 256


class Lent(Protocol):
    """Memory lent to one ask for the payload of its reply (chain/net/shared.py)."""

    @property
    def room(self) -> Any:
        """The frame that tells the other side where it is."""
        ...

    def frames(self, frames: Sequence[Any]) -> Sequence[Buffer]:
        """A reply's frames, those that lie in the room as views. Raises MalformedFrame."""
        ...

    def answered(self) -> None:
        """The other side is done with it, or never got it."""
        ...

    def lost(self) -> None:
        """It will never be known when the other side is done."""
        ...


@dataclass(slots=True, eq=False)
class _Ask:
    frames: list[Buffer]
    size: int
    reply: type[msgspec.Struct]
    future: asyncio.Future[Any]
    deadline: asyncio.TimerHandle
    wanted: int  # bytes of memory to lend for the reply
    lent: Lent | None = None
    sent: bool = field(default=False)


class Asks:
    """The asks of one peer.

    `send(frames)` hands a message to the socket and says whether it was taken. The owner calls
    `opened` when the connection stands, `lost` when it breaks, `receive` for every message.
    `lend(size)` gives memory for a long reply, if there is some.
    """

    def __init__(
        self,
        codec: wire.Codec,
        window: Window,
        send: Callable[[list[Any]], bool],
        name: str,
        lend: Callable[[int], Lent | None] | None = None,
    ) -> None:
        self._codec = codec
        self._window = window
        self._send = send
        self._lend = lend
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._kinds: dict[type[Message[Any]], tuple[bytes, type[msgspec.Struct]]] = {}
        self._asks: dict[int, _Ask] = {}
        # What was lent to asks that were given up: the other side may still write there.
        self._late: dict[int, Lent] = {}
        self._queue: deque[int] = deque()
        self._queued_bytes = 0
        self._flying = 0
        self._flying_bytes = 0
        self._open = False
        self._closed = False
        # The socket took no more: its owner flushes when it does again.
        self.blocked = False
        self._since = self._loop.time()
        self._grace: asyncio.TimerHandle | None = None
        self.flags = 0

    async def ask(self, message: Message[Reply], timeout: float) -> Reply:  # noqa: ASYNC109
        """See Peer.ask."""
        if self._closed:
            raise Unreachable(f"{self._name}: closed")
        kind = type(message)
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = wire.tag_of(kind), kind.reply_type()
        tag, reply = known
        number = next(self._ids)
        body, payloads = self._codec.encode(message)
        head = wire.pack_head(
            wire.REQUEST, number, body, len(payloads), tag=tag,
            trace=current_request.get(), flags=self.flags,
        )  # fmt: skip
        size = len(head) + sum(map(len, payloads)) if payloads else len(head)
        self._admit(size)
        future: asyncio.Future[Reply] = self._loop.create_future()
        deadline = self._loop.call_later(timeout, self._expire, number, timeout)
        wanted = 0 if self._lend is None else message.reply_bytes()
        entry = _Ask([head, *payloads], size, reply, future, deadline, wanted)
        self._asks[number] = entry
        self._queue.append(number)
        self._queued_bytes += size
        self.flush()
        try:
            return await future
        finally:
            deadline.cancel()
            self._forget(number)
            # An error that was raised here holds this frame, and the future holds the error: with
            # them the caller's frames, and what those had received, waited for the collector.
            del entry, future

    def _admit(self, size: int) -> None:
        window = self._window
        if len(self._queue) >= window.queued or self._queued_bytes + size > window.queued_bytes:
            raise QueueFull(f"{self._name}: queue full")
        if self._open:
            return
        waited = self._loop.time() - self._since
        if waited >= window.connect_grace:
            raise Unreachable(f"{self._name}: not connected")
        if self._grace is None:
            self._grace = self._loop.call_later(window.connect_grace - waited, self._give_up)

    def flush(self) -> None:
        """Send what the credit window allows."""
        window = self._window
        self.blocked = False
        while self._open and self._queue and self._flying < window.in_flight:
            number = self._queue[0]
            entry = self._asks[number]
            if self._flying and self._flying_bytes + entry.size > window.in_flight_bytes:
                return
            if not self._send(self._with_room(entry) if entry.wanted else entry.frames):
                self.blocked = True
                return
            self._queue.popleft()
            self._queued_bytes -= entry.size
            self._flying += 1
            self._flying_bytes += entry.size
            entry.sent = True
            entry.frames = []

    def _with_room(self, entry: _Ask) -> list[Any]:
        if entry.lent is None and self._lend is not None:
            entry.lent = self._lend(entry.wanted)
        return entry.frames if entry.lent is None else [*entry.frames, entry.lent.room]

    def opened(self) -> None:
        """The connection stands."""
        self._open = True
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self.flush()

    def lost(self, reason: str) -> None:
        """The connection broke: asks on their way fail now, queued ones wait for the grace."""
        if self._open:
            self._open = False
            self._since = self._loop.time()
            if self._queue and self._grace is None:
                self._grace = self._loop.call_later(self._window.connect_grace, self._give_up)
        self._fail([number for number, ask in self._asks.items() if ask.sent], reason)
        self._lose_late()

    def receive(self, frames: Sequence[Any]) -> None:
        """A message from the peer. What answers no waiting ask (late, replayed) is dropped."""
        try:
            head = wire.parse_head(frames[0])
        except wire.MalformedFrame as error:
            log.warning("%s: dropped a message: %s", self._name, error)
            return
        entry = self._asks.get(head.request)
        if entry is None or not entry.sent or entry.future.done():
            self._answered_late(head.request)
            return
        lent, entry.lent = entry.lent, None
        try:
            if lent is not None:
                frames = lent.frames(frames)
            wire.check_payloads(head, frames[1:])
            if head.kind == wire.REPLY:
                reply = self._codec.decode(entry.reply, head.body, frames[1:])
                entry.future.set_result(reply)
            elif head.kind == wire.ERROR:
                refusal = self._codec.decode(wire.Refusal, head.body, ())
                entry.future.set_exception(RemoteError(refusal.code, refusal.reason))
            else:
                raise wire.MalformedFrame("a request where a reply belongs")
        except wire.MalformedFrame as error:
            entry.future.set_exception(RemoteError("malformed_reply", str(error)))
        finally:
            if lent is not None:
                lent.answered()
        self._forget(head.request)

    def _answered_late(self, number: int) -> None:
        entry = self._asks.get(number)
        if entry is not None and entry.sent and entry.lent is not None:
            lent, entry.lent = entry.lent, None
            lent.answered()
        elif (late := self._late.pop(number, None)) is not None:
            late.answered()

    def _lose_late(self) -> None:
        late, self._late = self._late, {}
        for lent in late.values():
            lent.lost()

    def close(self) -> None:
        """Fail every ask."""
        self._closed = True
        self._open = False
        self._fail(list(self._asks), "closed")
        self._lose_late()
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _give_up(self) -> None:
        self._grace = None
        self._fail([number for number, ask in self._asks.items() if not ask.sent], "not connected")

    def _expire(self, number: int, timeout: float) -> None:
        self._fail([number], f"no answer within {timeout:g} s")

    def _fail(self, numbers: list[int], reason: str) -> None:
        for number in numbers:
            entry = self._asks.get(number)
            if entry is not None and not entry.future.done():
                entry.future.set_exception(Unreachable(f"{self._name}: {reason}"))
            self._forget(number)

    def _forget(self, number: int) -> None:
        """Take an ask off the books; its credit is free again."""
        entry = self._asks.pop(number, None)
        if entry is None:
            return
        lent, entry.lent = entry.lent, None
        if entry.sent:
            self._flying -= 1
            self._flying_bytes -= entry.size
            if lent is not None:
                self._late[number] = lent
        else:
            self._queue.remove(number)
            self._queued_bytes -= entry.size
            if lent is not None:
                lent.answered()
        if self._queue:
            self.flush()


class Responder:
    """A handler table behind frames."""

    def __init__(self, codec: wire.Codec, handlers: Handlers) -> None:
        self._codec = codec
        self._table = {wire.tag_of(kind): (kind, call) for kind, call in handlers.table.items()}
        if len(self._table) != len(handlers.table):
            raise ValueError("two messages of one service share a name")

    def in_place(self, head: Buffer) -> bool:
        """Whether this request's handler takes payloads where the caller has them."""
        try:
            found = self._table.get(wire.parse_head(head).tag)
        except wire.MalformedFrame:
            return False  # said when it is answered
        return found is not None and found[0].in_place

    async def answer(self, frames: Sequence[Buffer], caller: Caller) -> list[Buffer] | None:
        """The reply's frames; None for what is no request at all. Only cancellation is raised."""
        try:
            head = wire.parse_head(frames[0])
        except wire.MalformedFrame as error:
            log.warning("dropped a message: %s", error)
            return None
        if head.kind != wire.REQUEST:
            return None
        token = current_request.set(head.trace)
        try:
            body, payloads = self._codec.encode(await self._handle(head, frames[1:], caller))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # something that the handler waited for was cancelled, not the handler
            return self.refuse(head.request, *_refusal_of(error, head.tag))
        except Exception as error:  # noqa: BLE001 - whatever a handler does, its caller is answered
            return self.refuse(head.request, *_refusal_of(error, head.tag))
        finally:
            current_request.reset(token)
        return [wire.pack_head(wire.REPLY, head.request, body, len(payloads)), *payloads]

    async def _handle(
        self, head: wire.Head, payloads: Sequence[Buffer], caller: Caller
    ) -> msgspec.Struct:
        found = self._table.get(head.tag)
        if found is None:
            raise RemoteError("unknown_message", head.tag.decode("ascii", "replace"))
        wire.check_payloads(head, payloads)
        kind, call = found
        return await call(self._codec.decode(kind, head.body, payloads), caller)

    def refuse(self, request: int, code: str, reason: str) -> list[Buffer]:
        """An error's frames."""
        refusal = wire.Refusal(code[: wire.CODE_MAX], reason[: wire.REASON_MAX])
        body, _ = self._codec.encode(refusal)
        return [wire.pack_head(wire.ERROR, request, body, 0)]


def _refusal_of(error: BaseException, tag: bytes) -> tuple[str, str]:
    """Code and reason for the caller; what is our own fault goes to the log, not over the wire."""
    match error:
        case RemoteError():
            return error.code, error.reason
        case wire.MalformedFrame():
            return "malformed", str(error)
        case Unreachable():
            return "unreachable", str(error)
        case wire.OversizeMessage():
            log.error("reply to %s: %s", tag.decode("latin-1"), error)
            return "oversize", "the reply is too large"
    log.error("handler of %s failed", tag.decode("latin-1"), exc_info=error)
    return "internal", "the handler failed; see this node's log"


Authorise = Callable[[AccountId], bool]


def refuse_everyone(_: AccountId) -> bool:
    """The policy of a node that was told nothing."""
    return False
