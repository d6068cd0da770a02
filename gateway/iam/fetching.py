"""GET of one small document over http(s): no redirects, no proxies, bounded in size and time."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from chain.clock import Clock
from gateway.iam.issuers import FetchFailed

BODY_MAX = 128 << 10
SECONDS = 5.0  # for everything; each wait for the network is bounded too
_THREADS = 2  # of their own: a name server that does not answer holds up nothing else


class Fetcher:
    """Fetches in threads, a few at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="issuer")
        self._running = asyncio.Semaphore(_THREADS)

    async def fetch(self, url: str) -> bytes:
        """The body of a 200. Raises FetchFailed."""
        loop, request = asyncio.get_running_loop(), _Get(url, self._clock.monotonic)
        try:
            async with asyncio.timeout(SECONDS), self._running:
                return await loop.run_in_executor(self._threads, request.run)
        except TimeoutError:
            request.abort()
            raise FetchFailed("it takes too long") from None

    def close(self) -> None:
        """Leave threads that still wait to themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Get:
    """One request: `run` in a thread, `abort` from outside."""

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        self._url = url
        self._now = now
        self._connection: HTTPConnection | None = None

    def run(self) -> bytes:
        """Raises FetchFailed."""
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FetchFailed("not an http(s) address")
        try:
            if parts.scheme == "https":
                context = ssl.create_default_context()
                connection: HTTPConnection = HTTPSConnection(
                    parts.hostname, parts.port, timeout=SECONDS, context=context
                )
            else:
                connection = HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
            self._connection = connection
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            with closing(connection):
                connection.request("GET", target, headers={"Accept": "application/json"})
                with connection.getresponse() as response:
                    return self._body(response)
        except (OSError, HTTPException, ValueError) as error:
            raise FetchFailed(str(error)[:200]) from None

    def abort(self) -> None:
        """Free the thread of a server that sends a byte now and then."""
        held = self._connection.sock if self._connection is not None else None
        if held is not None:
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    def _body(self, response: HTTPResponse) -> bytes:
        if response.status != 200:
            raise FetchFailed(f"it answers {response.status}")
        body, until = bytearray(), self._now() + SECONDS
        while piece := response.read1(16 << 10):
            body += piece
            if len(body) > BODY_MAX:
                raise FetchFailed(f"more than {BODY_MAX} bytes")
            if self._now() > until:
                raise FetchFailed("it takes too long")
        return bytes(body)
