"""TrustlessGateway: the Source behind an http(s) address. Bounded in size and time, no proxies.

http.client in threads of our own, as gateway/iam/fetching.py: a gateway that does not answer holds
up nothing else. A redirect is followed to a subdomain of the same gateway only.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from chain.cids import Cid
from chain.clock import Clock
from chain.net.transport import Buffer
from gateway.ipfs.codecs.dagpb import BLOCK_BYTES_MAX
from gateway.ipfs.foreign.blocks import FetchFailed

WAIT_SECONDS = 30.0  # for the network, each time
CAR_SECONDS, BLOCK_SECONDS = 3600.0, 60.0  # for a whole reply
CAR_BYTES_MAX = 80 << 30
REDIRECTS_MAX = 2
THREADS = 16  # waits at once, of one process
_PIECE = 256 << 10
VIA = b"cumulus"  # how these requests name themselves (RFC 9110, 7.6.3)
_CAR = "application/vnd.ipld.car; version=1; order=dfs; dups=n"
_RAW = "application/vnd.ipld.raw"


class _Limits(NamedTuple):
    seconds: float
    bytes: int


def gateways(urls: Sequence[str], clock: Clock, stack: AsyncExitStack) -> "list[TrustlessGateway]":
    """Those of `[ipfs] fetch_from`; `stack` ends their threads."""
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch")
    stack.callback(threads.shutdown, wait=False, cancel_futures=True)
    return [TrustlessGateway(url, threads, clock) for url in urls]


class TrustlessGateway:
    """One of `[ipfs] fetch_from`."""

    def __init__(self, url: str, threads: Executor, clock: Clock) -> None:
        self._url = url.rstrip("/")
        self._threads = threads
        self._clock = clock

    def car(self, cid: Cid) -> AsyncGenerator[Buffer, None]:
        """See Source."""
        path = f"/ipfs/{cid}?format=car&dag-scope=all"
        return self._get(path, _CAR, _Limits(CAR_SECONDS, CAR_BYTES_MAX))

    async def block(self, cid: Cid) -> bytes:
        """See Source."""
        limits = _Limits(BLOCK_SECONDS, BLOCK_BYTES_MAX)
        async with aclosing(self._get(f"/ipfs/{cid}?format=raw", _RAW, limits)) as parts:
            return b"".join([bytes(part) async for part in parts])

    async def _get(self, path: str, accept: str, limits: _Limits) -> AsyncGenerator[Buffer, None]:
        """The body of a 200 with this media type. Raises FetchFailed."""
        loop = asyncio.get_running_loop()
        until = self._clock.monotonic() + limits.seconds
        left = limits.bytes
        try:
            connection, response = await loop.run_in_executor(
                self._threads, _opened, self._url + path, accept
            )
            with closing(connection), response:
                while True:
                    data = await loop.run_in_executor(self._threads, response.read1, _PIECE)
                    if not data:
                        break
                    left -= len(data)
                    if left < 0 or self._clock.monotonic() > until:
                        raise FetchFailed(f"{self._url} sends too much or takes too long")
                    yield data
                if response.length:  # what was announced and did not come
                    raise FetchFailed(f"{self._url} broke off")
        except (OSError, HTTPException, ValueError) as error:
            raise FetchFailed(f"{self._url}: {error or type(error).__name__}"[:200]) from None


def _opened(url: str, accept: str) -> tuple[HTTPConnection, HTTPResponse]:
    """In a thread: the connection and the head of a good reply."""
    host = urlsplit(url).hostname or ""
    for _ in range(REDIRECTS_MAX + 1):
        connection = _connection(url)
        try:
            parts = urlsplit(url)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(
                "GET", target, headers={"Accept": accept, "Via": f"1.1 {VIA.decode()}"}
            )
            response = connection.getresponse()
            moved = response.getheader("Location")
            if response.status in (301, 302, 307, 308) and moved:
                url = urljoin(url, moved)
                name = urlsplit(url).hostname or ""
                if name != host and not name.endswith(f".{host}"):
                    raise FetchFailed(f"{host} sends us to another host")
                connection.close()
                continue
            kind = (response.getheader("Content-Type") or "").partition(";")[0].strip()
            if response.status != 200 or kind != accept.partition(";")[0]:
                raise FetchFailed(f"{host} answers {response.status} {kind}"[:200])
            return connection, response
        except BaseException:
            connection.close()
            raise
    raise FetchFailed(f"{host} redirects again and again")


def _connection(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise FetchFailed("not an http(s) address")
    if parts.scheme == "http":
        return HTTPConnection(parts.hostname, parts.port, timeout=WAIT_SECONDS)
    return HTTPSConnection(
        parts.hostname, parts.port, timeout=WAIT_SECONDS, context=ssl.create_default_context()
    )
