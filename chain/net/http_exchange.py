"""One HTTP request and its reply, as an ASGI application sees them (spec 2.4).

Differences from uvicorn's cycle: the head of a reply leaves together with its first body bytes;
a body is handed over in the pieces it arrived in when these are large, joined when small; a reply
may be sent before the request's body is read; `send` raises ClientDisconnected once the client is
gone, so that a long download stops.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import ClientDisconnected

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]
AsgiMessage = MutableMapping[str, Any]
App = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[AsgiMessage]],
        Callable[[AsgiMessage], Awaitable[None]],
    ],
    Awaitable[None],
]
# (status, code, message) -> (headers without length and connection, body)
ErrorBody = Callable[[int, str, str], tuple[Headers, bytes]]

# An ASGI extension of requests with a Content-Length: `async fill(place: memoryview) -> int`.
FILL = "cumulus.http.fill"
# A piece this large goes to the application as it came; smaller ones are joined.
PIECE_BYTES = 64 << 10
# Reading goes on when no more than this is left: resuming for every piece costs two system calls.
RESUME_BYTES = 256 << 10
# A first body piece up to this size is copied behind the head, so both leave in one write.
JOIN_BYTES = 64 << 10
# After this much of a reply the other connections get their turn.
YIELD_BYTES = 1 << 20
SPECIAL = frozenset((b"connection", b"content-length", b"date", b"transfer-encoding"))
BODILESS = frozenset((204, 304))


class Connection(Protocol):
    """What an exchange asks of its connection."""

    transport: asyncio.Transport
    flow: FlowControl

    @property
    def error_body(self) -> ErrorBody:
        """Forms the replies that the protocol itself gives."""
        ...

    def date_header(self) -> bytes:
        """The line."""
        ...

    def may_reuse(self, exchange: "Exchange") -> bool:
        """Whether the connection can serve another request after this reply."""
        ...

    def on_reply(self, exchange: "Exchange") -> None:
        """The reply is complete."""
        ...


def plain_error(status: int, code: str, message: str) -> tuple[Headers, bytes]:
    """The body of a protocol error where nobody asked for another form."""
    del status
    body = f"{code}: {message}\n".encode()
    return [(b"content-type", b"text/plain; charset=utf-8")], body


class Exchange:
    """State of one request; `receive` and `send` are what the application gets."""

    def __init__(
        self, connection: Connection, scope: MutableMapping[str, Any], *, keep_alive: bool,
        expects_continue: bool, remaining: int | None,
    ) -> None:  # fmt: skip
        self.connection = connection
        # What the application gets; ours until it runs, as it may name us.
        self.scope: MutableMapping[str, Any] | None = scope
        self.keep_alive = keep_alive
        # The client waits for `100 Continue`; it is sent when the application starts to read.
        self.expects_continue = expects_continue
        # Body bytes still to arrive by Content-Length; None when chunked.
        self.remaining = remaining
        if remaining:
            scope["extensions"] = {FILL: self.fill}
        self.more_body = True
        self.disconnected = False
        # The client closed its sending half: `receive` tells, `send` still works.
        self.half_closed = False
        self.response_started = False
        self.response_complete = False
        # Where `fill` wants what is read next.
        self.place: memoryview | None = None
        self._placed = 0
        self.buffered = 0
        self._pieces: deque[bytes] = deque()
        self._end_given = False
        self._event = asyncio.Event()
        self._unyielded = 0
        self._head: bytes | None = None
        self._is_head = scope["method"] == "HEAD"
        self._version = scope["http_version"]
        self._bodiless = self._is_head
        self._chunked = False
        self._left: int | None = None

    # ------------------------------------------------------------------ request body
    def feed(self, piece: bytes) -> None:
        """A piece of the request's body arrived."""
        self._pieces.append(piece)
        self.buffered += len(piece)
        if self.remaining is not None:
            self.remaining -= len(piece)
        self._event.set()

    def placed(self, count: int) -> bool:
        """So much arrived in `place`; whether that is full."""
        assert self.place is not None
        assert self.remaining is not None
        self.remaining -= count
        self._placed += count
        self.place = self.place[count:] or None
        if self.place is None:
            self._event.set()
        return self.place is None

    def end_body(self) -> None:
        """The request's body is complete."""
        self.more_body = False
        self._event.set()

    def half_close(self) -> None:
        """The client sends nothing more; it may be gone, or wait for the reply."""
        self.half_closed = True
        self.keep_alive = False
        self._event.set()

    def disconnect(self) -> None:
        """The client is gone, or its request is broken: nothing more is read or sent."""
        self.disconnected = True
        self.place = None
        self._event.set()
        self.connection.flow.resume_writing()

    async def receive(self) -> AsgiMessage:
        """ASGI receive."""
        self._ask_for_body()
        while not (self.disconnected or self.response_complete):
            if self._pieces or not (self.more_body or self._end_given):
                body = self._take()
                self._end_given = not self.more_body and not self._pieces
                return {"type": "http.request", "body": body, "more_body": not self._end_given}
            if self.half_closed:
                break
            if self.more_body:
                self.connection.flow.resume_reading()
            self._event.clear()
            await self._event.wait()
        return {"type": "http.disconnect"}

    async def fill(self, place: memoryview) -> int:
        """Put the body's next bytes in `place`, fewer than fit only at the body's end; how many.

        The scope's extension FILL. What has not arrived yet is read there from the socket, and
        nothing is read between two calls. `place` must not be touched until this returns. Raises
        ClientDisconnected.
        """
        self._ask_for_body()
        size = len(place)
        while place:
            if self.disconnected or self.response_complete:
                raise ClientDisconnected
            if self._pieces:
                place = place[self._move(place) :]
            elif not self.more_body:
                break
            elif self.half_closed:
                raise ClientDisconnected
            else:
                place = await self._read_to(place)
        return size - len(place)

    def _move(self, place: memoryview) -> int:
        """Move bytes of the first piece to `place`; how many."""
        piece = memoryview(self._pieces[0])[: len(place)]
        count = len(piece)
        place[:count] = piece
        if count < len(self._pieces[0]):
            self._pieces[0] = self._pieces[0][count:]
        else:
            self._pieces.popleft()
        self.buffered -= count
        return count

    async def _read_to(self, place: memoryview) -> memoryview:
        """Have `place` filled until that, or the body, ends; what is left of it."""
        self.place, self._placed = place, 0
        self._event.clear()
        self.connection.flow.resume_reading()
        try:
            await self._event.wait()
            return place[self._placed :]
        finally:
            self.place = None

    def _ask_for_body(self) -> None:
        if self.expects_continue and not self.response_started and not self.disconnected:
            self.expects_continue = False
            self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take(self) -> bytes:
        pieces = self._pieces
        if not pieces:
            return b""
        if len(pieces) == 1 or len(pieces[0]) >= PIECE_BYTES:
            body = pieces.popleft()
        else:
            body = b"".join(pieces)
            pieces.clear()
        self.buffered -= len(body)
        if self.more_body and self.buffered <= RESUME_BYTES:
            self.connection.flow.resume_reading()
        return body

    # ------------------------------------------------------------------ reply
    async def send(self, message: AsgiMessage) -> None:
        """ASGI send. Raises ClientDisconnected."""
        if self.connection.flow.write_paused and not self.disconnected:
            await self.connection.flow.drain()
        if self._unyielded >= YIELD_BYTES:
            # A broken transport swallows writes and never pauses us: a loop of sends would keep
            # the event loop from ever telling that the client is gone.
            self._unyielded = 0
            await asyncio.sleep(0)
        if self.disconnected or self.connection.transport.is_closing():
            raise ClientDisconnected
        kind = message["type"]
        if kind == "http.response.start" and self._head is None and not self.response_started:
            self._head = self._reply_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and not self.response_complete:
            if self._head is None and not self.response_started:
                raise RuntimeError("a reply's body before its head")
            self._send_body(message.get("body", b""), bool(message.get("more_body")))
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def _reply_head(self, status: int, headers: Any) -> bytes:
        lines = [STATUS_LINE[status][:-2]]
        special: dict[bytes, bytes] = {}
        for name, value in headers:
            lowered = name.lower()
            if lowered in SPECIAL:
                special[lowered] = value
            else:
                lines.append(lowered + b": " + value)
        self._frame(status, special, lines)
        lines.append(self.connection.date_header() if b"date" not in special else
                     b"date: " + special[b"date"])  # fmt: skip
        if special.get(b"connection", b"").lower() == b"close":
            self.keep_alive = False
        self.keep_alive = self.keep_alive and self.connection.may_reuse(self)
        if not self.keep_alive:
            lines.append(b"connection: close")
        head = b"\r\n".join(lines)
        # One look at the whole head: no name or value may bring a line of its own.
        breaks = len(lines) - 1
        if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
            raise RuntimeError("a reply header holds a control character")
        return head + b"\r\n\r\n"

    def _frame(self, status: int, special: dict[bytes, bytes], lines: list[bytes]) -> None:
        """Decide how the reply's body is delimited (RFC 9112 section 6.3)."""
        self._bodiless = self._is_head or status in BODILESS
        self._chunked = False
        self._left = None
        if b"content-length" in special:
            length = special[b"content-length"]
            lines.append(b"content-length: " + length)
            self._left = None if self._bodiless else int(length)
        elif not self._bodiless:
            if self._version == "1.0":
                self.keep_alive = False
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked")

    def _send_body(self, body: Any, more: bool) -> None:
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("the reply's body is longer than its Content-Length")
        self._unyielded += len(body)
        write = self.connection.transport.write
        if self._bodiless:
            body = b""
        elif self._chunked:
            end = b"" if more else b"0\r\n\r\n"
            body = b"".join((b"%x\r\n" % len(body), body, b"\r\n", end)) if body else end
        head, self._head = self._head, None
        self.response_started = True
        if head is not None:
            if len(body) <= JOIN_BYTES:
                write(b"".join((head, body)))
            else:
                write(head)
                write(body)
        elif body:
            write(body)
        if not more:
            if self._left:
                raise RuntimeError("the reply's body is shorter than its Content-Length")
            self._finish()

    def _finish(self) -> None:
        self.response_complete = True
        self.place = None
        self._pieces.clear()
        self.buffered = 0
        self._event.set()
        self.connection.on_reply(self)

    # ------------------------------------------------------------------ the application
    async def run(self, app: App) -> None:
        """Run the application; whatever it does, the client gets a reply or a closed connection."""
        scope, self.scope = self.scope, None
        assert scope is not None
        try:
            await app(scope, self.receive, self.send)
        except ClientDisconnected:
            return  # its connection ends; there is nobody to tell
        except Exception:
            if not self.disconnected:
                log.exception("the application failed")
        if self.disconnected or self.response_complete:
            return
        if self.response_started:
            log.error("the application left its reply incomplete")
            self.connection.transport.abort()  # the client must not take it for complete
            return
        self._head = None
        self.fail(500, "InternalError", "We encountered an internal error. Please try again.")

    def fail(self, status: int, code: str, message: str) -> None:
        """Reply with an error of the protocol and close; the application sees a disconnect."""
        self.keep_alive = False
        headers, body = self.connection.error_body(status, code, message)
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        self._head = self._reply_head(status, headers)
        self._send_body(body, more=False)
        self.disconnected = True
