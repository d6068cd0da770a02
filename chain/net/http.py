"""The HTTP/1.1 server of every port: uvicorn's httptools protocol, hardened.

What uvicorn alone does not do: bound the head (64 KiB), its time, a body's rate, idle and stalled
connections and their number; refuse ambiguous framing; reply before a refused body is read; keep
the request target as it was sent; never write an error into the middle of a reply. Timeouts are
looked at once a second for all connections, so that a request costs no timer.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path

from uvicorn.protocols.utils import ClientDisconnected

from chain.clock import Clock, SystemClock
from chain.net.http_exchange import App, ErrorBody, plain_error
from chain.net.http_limits import HttpLimits
from chain.net.http_protocol import HttpProtocol, Site

__all__ = ["ClientDisconnected", "HttpLimits", "reload_certificate", "serve", "tls_context"]

log = logging.getLogger(__name__)

BACKLOG = 2048
TLS_HANDSHAKE_SECONDS = 15.0
CANCEL_SECONDS = 1.0


def _tick(site: Site, clock: Clock) -> None:
    """Once a sweep: the Date header, and every connection's timeouts."""
    site.date = b"date: " + formatdate(clock.now_ns() / 1e9, usegmt=True).encode()
    now = asyncio.get_running_loop().time()
    for connection in list(site.connections):
        connection.check(now)


async def serve(
    app: App,
    sockets: Sequence[socket.socket],
    *,
    tls: ssl.SSLContext | None = None,
    limits: HttpLimits | None = None,
    stop: asyncio.Event,
    error_body: ErrorBody = plain_error,
    clock: Clock | None = None,
) -> None:
    """Serve `app` (raw ASGI; no lifespan events) on listening sockets until `stop` is set.

    Then: no new connections, idle ones are closed, requests in flight get `limits.shutdown`
    seconds. `error_body` forms the replies that the protocol itself gives. Returns with every
    connection closed and every task ended; the sockets are closed.
    """
    limits, clock = limits or HttpLimits(), clock or SystemClock()
    site = Site(app, limits, error_body)
    _tick(site, clock)
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    handshake = TLS_HANDSHAKE_SECONDS if tls else None
    try:
        for listener in sockets:
            server = await loop.create_server(
                lambda: HttpProtocol(site), sock=listener, ssl=tls, backlog=BACKLOG,
                ssl_handshake_timeout=handshake,
            )  # fmt: skip
            servers.append(server)
        while not stop.is_set():
            _tick(site, clock)
            try:
                async with asyncio.timeout(limits.sweep):
                    await stop.wait()
            except TimeoutError:
                continue
    finally:
        for server in servers:
            server.close()
        for listener in sockets:
            listener.close()
        await _finish(site, clock)


async def _finish(site: Site, clock: Clock) -> None:
    """Let requests in flight end, then end them."""
    for connection in list(site.connections):
        connection.shutdown()
    try:
        async with asyncio.timeout(site.limits.shutdown):
            while site.connections or site.tasks:
                _tick(site, clock)
                await asyncio.sleep(0.02)
    except TimeoutError:
        log.warning("shutdown: %d requests were cut off", len(site.tasks))
    finally:
        for task in list(site.tasks):
            task.cancel()
        for connection in list(site.connections):
            connection.transport.abort()
        if site.tasks:
            await asyncio.wait(list(site.tasks), timeout=CANCEL_SECONDS)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or newer, HTTP/1.1. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key)
    return context


def reload_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Use a new certificate for new connections; a bad pair changes nothing and raises."""
    tls_context(certificate, key)
    context.load_cert_chain(certificate, key)
