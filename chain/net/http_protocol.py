"""One HTTP/1.1 connection: httptools with limits and strict framing.

The parser says where a head ends and how long its body is. What is left of a long body then goes
by: it is read, exactly so many bytes, to where the application wants it, and a new parser goes on
behind it. See docs/adr/223.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from chain.net.http_exchange import PIECE_BYTES, App, ErrorBody, Exchange
from chain.net.http_head import (
    HEAD_TOO_LARGE,
    RefusedRequest,
    check_headers,
    decode_path,
    split_target,
)
from chain.net.http_limits import HttpLimits

# What is read at a time where no application has said where to: heads and small bodies.
SCRATCH_BYTES = 256 << 10


@dataclass(slots=True, eq=False)
class Site:
    """What all connections of one server share; all of one event loop."""

    app: App
    limits: HttpLimits
    error_body: ErrorBody
    date: bytes = b""  # the header
    connections: "set[HttpProtocol]" = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    # Nothing stays in it: what is read is used before the next read.
    scratch: memoryview = field(default_factory=lambda: memoryview(bytearray(SCRATCH_BYTES)))


class HttpProtocol(asyncio.BufferedProtocol):
    """A connection. `self.cycle` is the newest request, `self.active` the one being answered."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.limits = site.limits
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.flow: FlowControl = None  # type: ignore[assignment]
        self.server: tuple[str, int | None] | None = None
        self.client: tuple[str, int] | None = None
        self.scheme = "http"
        self.parser = self._new_parser()
        # Of the request that is being parsed.
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.cycle: Exchange = None  # type: ignore[assignment]
        self.active: Exchange | None = None
        self.waiting: deque[Exchange] = deque()
        # Where the parser stands: in a head (also before its first byte) or in a body.
        self._in_head = True
        # What is left of a body passes the parser by.
        self._passing = False
        self._head_started = False
        self._head_bytes = 0
        self._since = self.loop.time()
        self._window_bytes = 0
        self._window_seconds = 0.0
        self._checked = self._since
        self._written_left = 0
        self._write_stalled = 0.0
        # Set when nothing more will be parsed; the failure to report once replies are out.
        self._deaf = False
        self._failure: tuple[int, str, str] | None = None
        self._linger_until: float | None = None
        self._lingered = 0
        self._stopping = False
        self._tunnelling = self._tunnelled = False

    # ------------------------------------------------------------------ transport
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        self.site.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        transport.set_write_buffer_limits(self.limits.write_buffer)
        if len(self.site.connections) > self.limits.connections:
            self._fail(503, "TooManyConnections", "This server has too many connections.")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        del exc
        self.site.connections.discard(self)
        self._deaf = True
        for exchange in (self.active, self.cycle, *self.waiting):
            if exchange is not None and not exchange.response_complete:
                exchange.disconnect()
        self.waiting.clear()
        if self.flow is not None:
            self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.flow.resume_writing()

    @property
    def error_body(self) -> ErrorBody:
        """See Connection."""
        return self.site.error_body

    def date_header(self) -> bytes:
        """See Connection."""
        return self.site.date

    def eof_received(self) -> bool | None:
        """A client that has sent its whole request may close its half and still be answered."""
        active = self.active
        if active is None or active.more_body or self.scheme == "https":
            return None
        active.half_close()
        self._deaf = True
        return True

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to: never more than a body that passes by still has."""
        del sizehint
        if not self._passing or self._deaf:
            return self.site.scratch
        exchange = self.cycle
        place = self.site.scratch if exchange.place is None else exchange.place
        return place[: exchange.remaining]

    def buffer_updated(self, nbytes: int) -> None:
        """So much was read to where `get_buffer` said."""
        if self._passing and not self._deaf:
            self._pass(nbytes)
        else:
            self._received(self.site.scratch[:nbytes])

    def _pass(self, count: int) -> None:
        """More of a body whose length is known, and nothing else."""
        exchange = self.cycle
        if exchange.place is None:
            self.on_body(bytes(self.site.scratch[:count]))
        else:
            self._window_bytes += count
            if exchange.placed(count) and exchange.remaining:
                self.flow.pause_reading()
        if not exchange.remaining:
            self._passing = False
            self.on_message_complete()

    def _received(self, data: memoryview) -> None:
        if self._deaf:
            self._linger(len(data))
            return
        if self._in_head:
            if not self._head_started:
                self._head_started = True
                self._since = self.loop.time()
            self._head_bytes += len(data)
        if not self._parse(data):
            return
        if self._in_head:
            if self._head_bytes > self.limits.head_bytes:
                self._fail(*HEAD_TOO_LARGE)
        elif (self.cycle.remaining or 0) >= PIECE_BYTES:
            self._passing = True
            self.parser = self._new_parser()

    def _parse(self, data: memoryview) -> bool:
        """Whether the parser goes on."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as end:
            if self._tunnelling:
                self._enter(data[end.args[0] :])
                return False
            # No other protocol is spoken here: answer this request, read nothing behind it.
            if self.cycle is not None:
                self.cycle.keep_alive = False
            self._deaf = True
            return False
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, RefusedRequest):
                self._fail(*cause.failure)
            else:
                self._fail(400, "BadRequest", "The request is not valid HTTP.")
            return False
        return True

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # What follows a request that asked to close is answered by closing, not with an error.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    # ------------------------------------------------------------------ parser callbacks
    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self.url += url

    def on_message_begin(self) -> None:
        """A request starts."""
        self.url = b""
        self.headers = []
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer (which is counted and dropped)."""
        if not self._in_head:
            self._head_bytes += len(name) + len(value)
            if self._head_bytes > self.limits.head_bytes:
                raise RefusedRequest(*HEAD_TOO_LARGE)
            return
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """A head is complete: check it and start, or queue, its request."""
        version = self.parser.get_http_version()
        method = self.parser.get_method().decode("ascii")
        if version not in {"1.1", "1.0"}:
            raise RefusedRequest(505, "HttpVersionNotSupported", "This server speaks HTTP/1.1.")
        remaining, expects_continue = check_headers(
            self.headers, version, self.limits.head_bytes - len(self.url)
        )
        if len(self.waiting) >= self.limits.pipeline:
            raise RefusedRequest(400, "BadRequest", "Too many requests in a pipeline.")
        if method == "CONNECT" and self.limits.tunnels and remaining == 0 and self._may_tunnel():
            self._tunnelling = True
            return
        raw_path, query, authority = split_target(self.url, method)
        if authority:
            others = [header for header in self.headers if header[0] != b"host"]
            self.headers = [(b"host", authority), *others]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": method,
            "root_path": "",
            "path": decode_path(raw_path),
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": {},
        }
        keep_alive = version == "1.1" and self.parser.should_keep_alive() and not self._stopping
        exchange = Exchange(
            self, scope, keep_alive=keep_alive, remaining=remaining,
            expects_continue=expects_continue and version == "1.1",
        )  # fmt: skip
        self._in_head = False
        self._head_started = False
        self._head_bytes = 0
        self._window_bytes = 0
        self._window_seconds = 0.0
        self.cycle = exchange
        if self.active is None:
            self._start(exchange)
        else:
            self.flow.pause_reading()
            self.waiting.append(exchange)

    def on_body(self, body: bytes) -> None:
        """Body bytes: kept for the application, or dropped once the reply is out."""
        self._window_bytes += len(body)
        exchange = self.cycle
        if exchange.response_complete:
            if exchange.remaining is not None:
                exchange.remaining -= len(body)
            self._linger(len(body))
            return
        exchange.feed(body)
        if exchange.buffered >= self.limits.body_buffer:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """A request is complete."""
        if self._tunnelling:
            return
        self._in_head = True
        self._head_started = False
        self._head_bytes = 0
        self._since = self.loop.time()
        self.cycle.end_body()
        if self.cycle.response_complete and not self.cycle.keep_alive:
            self.transport.close()

    # ------------------------------------------------------------------ tunnels
    def _may_tunnel(self) -> bool:
        return not (self._tunnelled or self._stopping or self.active is not None)

    def _enter(self, rest: memoryview) -> None:
        """The far end of a client's tunnel is here: go on with a new parser, once."""
        self._tunnelling, self._tunnelled = False, True
        self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self.parser = self._new_parser()
        self._head_started = False
        self._head_bytes = 0
        self._since = self.loop.time()
        if rest:
            self._received(rest)

    # ------------------------------------------------------------------ exchanges
    def _start(self, exchange: Exchange) -> None:
        self.active = exchange
        task = self.loop.create_task(exchange.run(self.site.app))
        self.site.tasks.add(task)
        task.add_done_callback(self.site.tasks.discard)

    def may_reuse(self, exchange: Exchange) -> bool:
        """See Connection: not when too much of a refused body is still to come."""
        if self._stopping:
            return False
        if not exchange.more_body:
            return True
        # A client that waits for `100 Continue` may or may not send its body after a final reply.
        left = exchange.remaining
        return (
            not exchange.expects_continue and left is not None and left <= self.limits.drain_bytes
        )

    def on_reply(self, exchange: Exchange) -> None:
        """See Connection."""
        if self.active is exchange:
            self.active = None
        if self.transport.is_closing():
            return
        self._since = self.loop.time()
        self.flow.resume_reading()
        if not exchange.keep_alive or self._stopping:
            self._close_gently(exchange.more_body)
        elif self.waiting:
            self._start(self.waiting.popleft())
            if self.waiting:
                self.flow.pause_reading()
        elif self._failure is not None:
            self._write_failure(*self._failure)

    def _close_gently(self, more_to_come: bool) -> None:
        """Close; but a client that is still sending must not lose the reply to a reset."""
        for exchange in self.waiting:
            exchange.disconnect()
        self.waiting.clear()
        self._deaf = True
        if not more_to_come:
            self.transport.close()
            return
        self._linger_until = self.loop.time() + self.limits.linger_seconds
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _linger(self, count: int) -> None:
        """Discard what a client sends after its reply, within bounds."""
        self._lingered += count
        if self._lingered > self.limits.linger_bytes:
            self.transport.close()

    # ------------------------------------------------------------------ failures
    def _fail(self, status: int, code: str, message: str) -> None:
        """This connection's input is broken: report it where a reply still fits, then close."""
        self._deaf = True
        active = self.active
        broken = None if self._in_head else self.cycle
        if broken is not None and broken.response_complete:
            self.transport.close()  # its reply is out; this was the rest of its body
        elif active is None:
            self._write_failure(status, code, message)
        elif active is broken:
            if active.response_started:
                active.disconnect()
                self.transport.close()
            else:
                active.fail(status, code, message)
                active.disconnect()
        else:
            if broken is not None and broken in self.waiting:
                self.waiting.remove(broken)
            self._failure = (status, code, message)

    def _write_failure(self, status: int, code: str, message: str) -> None:
        scope = {"method": "GET", "http_version": "1.1"}
        exchange = Exchange(
            self, scope, keep_alive=False, expects_continue=False, remaining=None
        )  # fmt: skip
        exchange.fail(status, code, message)

    # ------------------------------------------------------------------ time
    def check(self, now: float) -> None:
        """Called once a second: cut off whoever is over its time."""
        elapsed, self._checked = now - self._checked, now
        limits = self.limits
        if self.flow.write_paused or self.transport.is_closing():
            self._check_writing(elapsed)
            return
        if self._linger_until is not None and now >= self._linger_until:
            self.transport.close()
            return
        self._write_stalled = 0.0
        if self._deaf:
            return
        if self._in_head:
            if self._head_started:
                if self.flow.read_paused:
                    self._since += elapsed
                if now - self._since >= limits.head_timeout:
                    self._fail(408, "RequestTimeout", "The request's head took too long.")
            elif self.active is None and now - self._since >= limits.idle_timeout:
                self.transport.close()
        elif not self.flow.read_paused and not self.cycle.expects_continue:
            self._check_body(elapsed)

    def _check_body(self, elapsed: float) -> None:
        """The window's clock runs only while we are ready to take bytes."""
        self._window_seconds += elapsed
        if self._window_seconds < self.limits.body_window:
            return
        if self._window_bytes < self.limits.body_rate * self._window_seconds:
            self._fail(408, "RequestTimeout", "The request's body came too slowly.")
        self._window_bytes = 0
        self._window_seconds = 0.0

    def _check_writing(self, elapsed: float) -> None:
        left = self.transport.get_write_buffer_size()
        self._write_stalled = self._write_stalled + elapsed if left == self._written_left else 0.0
        self._written_left = left
        if self._write_stalled >= self.limits.write_timeout:
            self.transport.abort()

    def shutdown(self) -> None:
        """No further request on this connection."""
        self._stopping = True
        if self.active is None:
            self.transport.close()
