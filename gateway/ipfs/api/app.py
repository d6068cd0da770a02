"""The API port as a raw ASGI 3 application: Kubo's RPC, docs/ipfs-api.md, and `/psa`.

Rules: POST only; no browser on a loopback bind, where nobody needs a token; elsewhere a token,
always. A reply's status is sent with its first part; what breaks later ends the connection.
"""

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from chain.net.transport import Buffer
from gateway.catalog.interface import CatalogUnavailable
from gateway.errors import StoreError
from gateway.ipfs.api.call import Call, Lines, Reply, Value, parse_command, parse_query
from gateway.ipfs.api.errors import TOLD, ApiError, BadCall, Refused, UnknownCommand
from gateway.ipfs.api.node import Node, peer_id
from gateway.ipfs.pinning.app import PREFIX as PSA
from gateway.ipfs.pinning.app import PinningApp
from gateway.ipfs.web.sending import Headers, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

Handler = Callable[[Node, Call], Awaitable[Reply]]

_EXPOSED = b"X-Stream-Output, X-Chunked-Output, X-Content-Length"
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, X-Requested-With"),
    (b"access-control-max-age", b"600"),
]


class ApiApp:
    """`/api/v0/…` over the commands of a table. `open`: whoever reaches the port needs no token."""

    def __init__(self, node: Node, commands: Mapping[str, Handler], *, open: bool) -> None:
        self._node = node
        self._commands = commands
        self._open = open
        delegate = f"/p2p/{peer_id(node.public_key)}"
        self._pinning = PinningApp(node.requests, self._admit, node.bucket_named, delegate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        headers = {name.lower(): value for name, value in scope["headers"]}
        method = scope["method"]
        if not self._open:
            send = _to_browsers(send)
        try:
            if method == "OPTIONS" and not self._open:
                await _send_head(send, HTTPStatus.NO_CONTENT, _PREFLIGHT)
                await send({"type": "http.response.body", "body": b""})
                return
            if scope["path"].startswith(f"{PSA}/"):
                await self._pinning(scope, receive, send)
                return
            bucket = self._admit(headers)
            command = parse_command(scope.get("raw_path") or scope["path"].encode())
            handler = self._commands.get(command)
            if handler is None:
                raise UnknownCommand("404 page not found")
            if method != "POST":
                await _send_error(send, HTTPStatus.METHOD_NOT_ALLOWED, 0, "POST is served")
                return
            arguments, options = parse_query(scope["query_string"])
            call = Call(
                command,
                arguments,
                options,
                headers.get(b"content-type", b"").decode("latin-1"),
                _body(receive),
                bucket,
            )
            reply = await handler(self._node, call)
            await _send_reply(reply, send)
        except TOLD as error:
            await _send_error(send, *_told(error))

    def _admit(self, headers: Mapping[bytes, bytes]) -> str:
        """The bucket that the client's token writes to; "" for the default. Raises Refused."""
        if self._open and (b"origin" in headers or b"referer" in headers):
            raise Refused("403 - Forbidden: browsers are not served here")
        kind, _, token = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer":
            bucket = self._node.tokens.bucket_of(token.strip())
            if bucket is None:
                raise Refused("403 - Forbidden: this token is not valid")
            return bucket
        if not self._open:
            raise Refused("403 - Forbidden: Authorization: Bearer TOKEN is needed")
        return ""


def _to_browsers(send: Send) -> Send:
    """Replies that the pages of any origin may read: who shows a token brought it himself."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"access-control-allow-origin", b"*")]
        await send(message)

    return answer


async def _body(receive: Receive) -> AsyncGenerator[Buffer, None]:
    """The request's body. Raises BadCall if the client breaks off."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BadCall("the request's body is cut off")
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


def _told(error: Exception) -> tuple[HTTPStatus, int, str]:
    """(status, code, text) of an error."""
    match error:
        case ApiError():
            return error.status, error.code, str(error)
        case StoreError() if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return error.status, 0, error.text
        case StoreError():
            return HTTPStatus.INTERNAL_SERVER_ERROR, 0, error.text
        case CatalogUnavailable():
            return HTTPStatus.SERVICE_UNAVAILABLE, 0, "the catalog is away"
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR, 0, str(error)


async def _send_head(send: Send, status: HTTPStatus, headers: Headers) -> None:
    common = [(b"vary", b"Origin"), (b"access-control-expose-headers", _EXPOSED)]
    await send({"type": "http.response.start", "status": int(status), "headers": headers + common})


async def _send_error(send: Send, status: HTTPStatus, code: int, text: str) -> None:
    body = json.dumps({"Message": text, "Code": code, "Type": "error"}).encode() + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append((b"allow", b"POST, OPTIONS"))
    await _send_head(send, status, headers)
    await send({"type": "http.response.body", "body": body})


async def _send_reply(reply: Reply, send: Send) -> None:
    if isinstance(reply, Value):
        body = _line(reply.value) if reply.value is not None else b""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await _send_head(send, HTTPStatus.OK, headers)
        await send({"type": "http.response.body", "body": body})
        return
    if isinstance(reply, Lines):
        headers = [(b"content-type", b"application/json"), (b"x-chunked-output", b"1")]
        parts: AsyncGenerator[Buffer, None] = _lines(reply.values)
    else:
        headers = [
            (b"content-type", reply.content_type.encode("latin-1")),
            (b"x-stream-output", b"1"),
        ]
        if reply.size is not None:
            headers.append((b"x-content-length", b"%d" % reply.size))
        parts = reply.body
    async with aclosing(parts):
        # The first part decides on the status.
        first = await anext(parts, b"")
        await _send_head(send, HTTPStatus.OK, headers)
        try:
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except TOLD as error:
            # Returning without the last chunk makes the server cut the connection.
            log.warning("a reply was broken off: %s", error)
            return
    await send({"type": "http.response.body", "body": b""})


async def _lines(values: AsyncGenerator[Any, None]) -> AsyncGenerator[Buffer, None]:
    async with aclosing(values):
        async for value in values:
            yield _line(value)


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
