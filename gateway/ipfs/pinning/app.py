"""The pinning service as a raw ASGI 3 application under `/psa`, on the API port.

Its tokens and its rule for browsers are the API's (gateway/ipfs/api/app.py). A request is queued by
a commit; PinWorker does the rest.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from gateway.catalog.interface import CatalogUnavailable
from gateway.errors import NoSuchBucket, StoreError
from gateway.ipfs.api.errors import ApiError, Refused
from gateway.ipfs.pinning.documents import (
    BODY_BYTES_MAX,
    BadDocument,
    error_object,
    parse_filter,
    parse_pin,
    results_object,
    status_object,
)
from gateway.ipfs.pinning.requests import NoSuchRequest, Request, Requests, TooManyRequests
from gateway.ipfs.web.sending import Receive, Scope, Send, received
from gateway.model import Bucket

PREFIX = "/psa"
_PINS = f"{PREFIX}/pins"
_ID_CHARACTERS = 32
# What is told, and by which status and reason.
_TOLD: tuple[tuple[type[Exception], HTTPStatus, str], ...] = (
    (BadDocument, HTTPStatus.BAD_REQUEST, "BAD_REQUEST"),
    (NoSuchRequest, HTTPStatus.NOT_FOUND, "NOT_FOUND"),
    (NoSuchBucket, HTTPStatus.NOT_FOUND, "NOT_FOUND"),
    (TooManyRequests, HTTPStatus.CONFLICT, "INSUFFICIENT_FUNDS"),
    (ApiError, HTTPStatus.CONFLICT, "INSUFFICIENT_FUNDS"),
    (CatalogUnavailable, HTTPStatus.SERVICE_UNAVAILABLE, "INTERNAL_SERVER_ERROR"),
)


class _NotAllowed(Exception):
    """The resource has no such method; the text names those it has."""


class PinningApp:
    """`admit` gives the bucket of a request's token, or raises Refused; `bucket_of` finds it.

    `delegate`: the multiaddress of this node, without any transport.
    """

    def __init__(
        self,
        requests: Requests,
        admit: Callable[[Mapping[bytes, bytes]], str],
        bucket_of: Callable[[str], Awaitable[Bucket]],
        delegate: str,
    ) -> None:
        self._requests = requests
        self._admit = admit
        self._bucket_of = bucket_of
        self._delegate = delegate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        try:
            try:
                name = self._admit(headers)
            except Refused as error:
                browser = b"authorization" not in headers and b"origin" in headers
                status = HTTPStatus.FORBIDDEN if browser else HTTPStatus.UNAUTHORIZED
                await _send(send, status, error_object("UNAUTHORIZED", str(error)))
                return
            await self._answer(scope, receive, send, name)
        except _NotAllowed as error:
            document = error_object("METHOD_NOT_ALLOWED", f"{error} are served here")
            allow = [(b"allow", str(error).encode())]
            await _send(send, HTTPStatus.METHOD_NOT_ALLOWED, document, allow)
        except StoreError as error:
            if isinstance(error, NoSuchBucket):
                await _send(send, HTTPStatus.NOT_FOUND, error_object("NOT_FOUND", error.text))
                return
            await _send(send, error.status, error_object("INTERNAL_SERVER_ERROR", error.text))
        except tuple(kind for kind, _, _ in _TOLD) as error:
            status, reason = next((s, r) for kind, s, r in _TOLD if isinstance(error, kind))
            await _send(send, status, error_object(reason, str(error) or "no such pin request"))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, name: str) -> None:
        path, method = scope["path"].rstrip("/"), scope["method"]
        if path == _PINS:
            handlers = {"GET": self._list, "POST": self._add}
        elif path.startswith(f"{_PINS}/"):
            handlers = {"GET": self._get, "POST": self._replace, "DELETE": self._delete}
        else:
            raise NoSuchRequest
        handler = handlers.get(method)
        if handler is None:
            raise _NotAllowed(", ".join(handlers))
        bucket = await self._bucket_of(name)
        status, document = await handler(bucket, scope, receive)
        await _send(send, status, document)

    async def _list(self, bucket: Bucket, scope: Scope, _: Receive) -> tuple[HTTPStatus, Any]:
        wanted = parse_filter(scope["query_string"])
        count, found = 0, list[dict[str, Any]]()
        async for request in self._requests.all(bucket):
            row = request.row
            if wanted.shows(row.wanted, row.status, row.created_ns):
                count += 1
                if len(found) < wanted.limit:
                    found.append(self._status(request))
        return HTTPStatus.OK, results_object(count, found)

    async def _add(self, bucket: Bucket, _: Scope, receive: Receive) -> tuple[HTTPStatus, Any]:
        request = await self._requests.create(
            bucket, parse_pin(await received(receive, BODY_BYTES_MAX, BadDocument))
        )
        return HTTPStatus.ACCEPTED, self._status(request)

    async def _get(self, bucket: Bucket, scope: Scope, _: Receive) -> tuple[HTTPStatus, Any]:
        return HTTPStatus.OK, self._status(self._requests.get(bucket, _id(scope)))

    async def _replace(
        self, bucket: Bucket, scope: Scope, receive: Receive
    ) -> tuple[HTTPStatus, Any]:
        old = _id(scope)
        self._requests.get(bucket, old)
        wanted = parse_pin(await received(receive, BODY_BYTES_MAX, BadDocument))
        return HTTPStatus.ACCEPTED, self._status(
            await self._requests.create(bucket, wanted, instead=old)
        )

    async def _delete(self, bucket: Bucket, scope: Scope, _: Receive) -> tuple[HTTPStatus, Any]:
        await self._requests.delete(bucket, _id(scope))
        return HTTPStatus.ACCEPTED, None

    def _status(self, request: Request) -> dict[str, Any]:
        row = request.row
        return status_object(
            request.id.hex(), row.wanted, row.status, row.created_ns, row.reason, self._delegate
        )


def _id(scope: Scope) -> bytes:
    """The request that the path names. Raises NoSuchRequest."""
    text = scope["path"].rstrip("/")[len(_PINS) + 1 :]
    if len(text) != _ID_CHARACTERS or not text.isascii():
        raise NoSuchRequest
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise NoSuchRequest from None


async def _send(
    send: Send, status: int, document: Any, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    body = b"" if document is None else json.dumps(document).encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"vary", b"Origin"), *(more or [])]
    if body:
        headers.append((b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
