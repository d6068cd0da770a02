"""Replies as ASGI messages, and bodies of requests.

What breaks after the headers ends the connection: no short 200.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from chain.net.transport import Buffer
from gateway.catalog.interface import CatalogUnavailable
from gateway.errors import StoreError
from gateway.ipfs.errors import BlockError, IpfsError
from gateway.ipfs.web.replies import Reply

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-headers", b"Content-Type, Range, User-Agent, X-Requested-With"),
    (
        b"access-control-expose-headers",
        b"Content-Length, Content-Range, Ipfs-Uri, X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, "
        b"X-Stream-Output",
    ),
]
_SMALL = 256 << 10
_GATHERED = 64 << 10


async def received(receive: Receive, limit: int, refusal: Callable[[str], Exception]) -> bytes:
    """A request's whole body. Raises what `refusal` makes where it has more than `limit` bytes, or
    is cut off."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise refusal("the request's body is cut off")
        body += message.get("body", b"")
        if len(body) > limit:
            raise refusal(f"the body has more than {limit} bytes")
        if not message.get("more_body"):
            return bytes(body)


async def begun(
    body: AsyncGenerator[Buffer, None], size: int
) -> tuple[AsyncGenerator[Buffer, None] | bytes, Buffer]:
    """The same stream with its first part fetched, so that what fails at once has a status.

    A small body (`size` known, or 64 KiB do not fill) is fetched whole: no task, one message.
    Returns (body, its first part).
    """
    if 0 <= size <= _SMALL:
        async with aclosing(body):
            whole = b"".join([bytes(part) async for part in body])
            return whole, whole
    pieces = body if size > _SMALL else _gathered(body)
    first = await anext(pieces, b"")
    if size < 0 and len(first) < _GATHERED:
        await pieces.aclose()
        return bytes(first), first
    return _chain(first, pieces), first


async def _gathered(body: AsyncGenerator[Buffer, None]) -> AsyncGenerator[Buffer, None]:
    """The same bytes in pieces of at least 64 KiB, the last one excepted."""
    async with aclosing(body):
        held, size = list[Buffer](), 0
        async for part in body:
            size += len(part)
            if size < _GATHERED:
                held.append(bytes(part))  # a buffer is good until the next one is asked for
                continue
            yield b"".join([*held, part]) if held else part
            held, size = [], 0
        yield b"".join(held)


async def _chain(first: Buffer, rest: AsyncGenerator[Buffer, None]) -> AsyncGenerator[Buffer, None]:
    async with aclosing(rest):
        yield first
        async for part in rest:
            if len(part):
                yield part


async def send_reply(reply: Reply, head: bool, receive: Receive, send: Send, stall: float) -> None:
    """Send the response; a HEAD's body is left out.

    A part of the body that is not had within `stall` seconds ends it.
    """
    if isinstance(reply.body, bytes) and reply.status != HTTPStatus.NOT_MODIFIED:
        # A HEAD may say a length without having the body.
        reply.headers.setdefault("Content-Length", str(len(reply.body)))
    headers = [
        (name.lower().encode("ascii"), value.encode("latin-1", "replace"))
        for name, value in reply.headers.items()
    ]
    await send(
        {"type": "http.response.start", "status": int(reply.status), "headers": headers + _CORS}
    )
    if head or isinstance(reply.body, bytes):
        body = b"" if head or not isinstance(reply.body, bytes) else reply.body
        await send({"type": "http.response.body", "body": body})
        return
    first = await anext(reply.body, b"")  # it is there: `begun` fetched it
    if str(len(first)) == reply.headers.get("Content-Length"):
        # Nothing is waited for: no task that watches whether the client goes.
        async with aclosing(reply.body):
            await send({"type": "http.response.body", "body": first})
        return
    await _stream(_chain(first, reply.body), receive, send, stall)


async def _stream(
    body: AsyncGenerator[Buffer, None], receive: Receive, send: Send, stall: float
) -> None:
    """Send the parts; stop when the client goes; break off when a part cannot be had."""

    async def leave_with_client(sender: asyncio.Task[None]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        sender.cancel()

    async with asyncio.TaskGroup() as group:
        sender = group.create_task(_send_parts(body, send, stall))
        watcher = group.create_task(leave_with_client(sender))
        sender.add_done_callback(lambda _: watcher.cancel())


async def _send_parts(body: AsyncGenerator[Buffer, None], send: Send, stall: float) -> None:
    try:
        async with aclosing(body):
            while True:
                async with asyncio.timeout(stall):
                    part = await anext(body, None)
                if part is None:
                    break
                await send({"type": "http.response.body", "body": part, "more_body": True})
    except (IpfsError, StoreError, CatalogUnavailable, BlockError, TimeoutError) as error:
        # Returning without the last chunk makes the server cut the connection.
        log.warning("a response was broken off: %s", error)
        return
    await send({"type": "http.response.body", "body": b""})
