"""One HTTP/1.1 connection: uvicorn's HttpToolsProtocol with limits and strict framing."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from chain.net.http_exchange import App, ErrorBody, Exchange
from chain.net.http_target import RefusedRequest, decode_path, split_target


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of every connection. Bytes and seconds."""

    head_bytes: int = 64 << 10
    head_timeout: float = 30.0
    idle_timeout: float = 60.0
    # A body that we are ready to take must bring this many bytes a second over the window.
    body_rate: int = 1 << 10
    body_window: float = 30.0
    # A client that takes nothing of a reply for this long is cut off.
    write_timeout: float = 60.0
    # Body bytes held for the application; reading pauses above (measured: docs/adr/013-http.md).
    body_buffer: int = 1 << 20
    write_buffer: int = 1 << 20
    # A body nobody reads: what is left of it is discarded up to this, else the connection closes.
    drain_bytes: int = 256 << 10
    # After a closing reply: how long, and how much, the client may still send before the end.
    linger_seconds: float = 2.0
    linger_bytes: int = 16 << 20
    connections: int = 4096
    pipeline: int = 64
    # CONNECT opens a tunnel whose far end is this server, whatever it names: a client that uses a
    # gateway as its proxy speaks HTTP to it all the same.
    tunnels: bool = False
    # Less than chain/process.py STOP_SECONDS, which ends the process hard.
    shutdown: float = 6.0
    # How often all of these times are looked at.
    sweep: float = 1.0


class HttpProtocol(HttpToolsProtocol):
    """A connection. `self.cycle` is the newest request, `self.active` the one being answered."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        *,
        limits: HttpLimits,
        error_body: ErrorBody,
        date_header: Callable[[], bytes],
    ) -> None:
        super().__init__(config, server_state, {})
        self.limits = limits
        self.error_body = error_body
        self.date_header = date_header
        self.cycle: Exchange = None  # type: ignore[assignment]
        self.active: Exchange | None = None
        self.waiting: deque[Exchange] = deque()
        # Where the parser stands: in a head (also before its first byte) or in a body.
        self._in_head = True
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
        super().connection_made(transport)
        transport.set_write_buffer_limits(self.limits.write_buffer)
        if len(self.connections) > self.limits.connections:
            self._fail(503, "TooManyConnections", "This server has too many connections.")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        del exc
        self.connections.discard(self)
        self._deaf = True
        for exchange in (self.active, self.cycle, *self.waiting):
            if exchange is not None and not exchange.response_complete:
                exchange.disconnect()
        self.waiting.clear()
        if self.flow is not None:
            self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that has sent its whole request may close its half and still be answered."""
        active = self.active
        if active is None or active.more_body or self.scheme == "https":
            return None
        active.half_close()
        self._deaf = True
        return True

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._deaf:
            self._linger(len(data))
            return
        if self._in_head:
            if not self._head_started:
                self._head_started = True
                self._since = self.loop.time()
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as end:
            if self._tunnelling:
                self._enter(data[end.args[0] :])
                return
            # No other protocol is spoken here: answer this request, read nothing behind it.
            if self.cycle is not None:
                self.cycle.keep_alive = False
            self._deaf = True
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, RefusedRequest):
                self._fail(*cause.failure)
            else:
                self._fail(400, "BadRequest", "The request is not valid HTTP.")
            return
        if self._in_head and self._head_bytes > self.limits.head_bytes:
            self._fail(*_HEAD_TOO_LARGE)

    # ------------------------------------------------------------------ parser callbacks
    def on_message_begin(self) -> None:
        """A request starts."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer (which is counted and dropped)."""
        if not self._in_head:
            self._head_bytes += len(name) + len(value)
            if self._head_bytes > self.limits.head_bytes:
                raise RefusedRequest(*_HEAD_TOO_LARGE)
            return
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """A head is complete: check it and start, or queue, its request."""
        version = self.parser.get_http_version()
        method = self.parser.get_method().decode("ascii")
        if version not in {"1.1", "1.0"}:
            raise RefusedRequest(505, "HttpVersionNotSupported", "This server speaks HTTP/1.1.")
        remaining = self._check_headers(version)
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
            expects_continue=self.expect_100_continue and version == "1.1",
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

    def _enter(self, rest: bytes) -> None:
        """The far end of a client's tunnel is here: go on with a new parser, once."""
        self._tunnelling, self._tunnelled = False, True
        self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self.parser = httptools.HttpRequestParser(self)
        self._head_started = False
        self._head_bytes = 0
        self._since = self.loop.time()
        if rest:
            self.data_received(rest)

    # ------------------------------------------------------------------ exchanges
    def _start(self, exchange: Exchange) -> None:
        self.active = exchange
        app: App = self.app
        task = self.loop.create_task(exchange.run(app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

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
        self.server_state.total_requests += 1
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

    def _check_headers(self, version: str) -> int | None:
        """Framing that every reader understands alike; the body's length, None when chunked."""
        size = len(self.url)
        length: int | None = 0
        hosts = 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                length = int(value) if length is not None else None
            elif name == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise RefusedRequest(
                        501, "NotImplemented", "Only chunked transfer coding is known."
                    )
                length = None
            elif name == b"expect":
                if value.strip().lower() != b"100-continue":
                    raise RefusedRequest(417, "ExpectationFailed", "Only 100-continue is known.")
                self.expect_100_continue = True
        if size > self.limits.head_bytes:
            raise RefusedRequest(*_HEAD_TOO_LARGE)
        if hosts > 1 or (not hosts and version == "1.1"):
            raise RefusedRequest(400, "BadRequest", "A request has one Host header.")
        return length


_HEAD_TOO_LARGE = (431, "RequestHeaderSectionTooLarge", "The request's head is too large.")
