"""The IPFS path gateway as a raw ASGI 3 application.

Rules: own content in the open only (docs/specs/unixfs-index.md); headers are known before the first
byte is sent; what breaks later ends the connection, never a short 200.
"""

import asyncio
import hashlib
import logging
import mimetypes
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from chain.clock import Clock
from chain.net.transport import Buffer
from gateway.catalog.interface import Catalog, CatalogUnavailable
from gateway.errors import StoreError
from gateway.ipfs import listing
from gateway.ipfs.blocks import BlockIndex, File, Inline, Leaf
from gateway.ipfs.errors import BlockError, IpfsError, NotFound, NotHere
from gateway.ipfs.request import (
    Format,
    GatewayRequest,
    Unsatisfiable,
    etag_matches,
    parse_range,
    parse_request,
)
from gateway.ipfs.stream import CarWriter, content, size_of
from gateway.ipfs.walk import Folder, Resolved, Subtree, Walker
from gateway.objects import ObjectService

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_IMMUTABLE = "public, max-age=29030400, immutable"
_LISTING = "public, max-age=604800, stale-while-revalidate=2678400"
_CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-headers", b"Content-Type, Range, User-Agent, X-Requested-With"),
    (
        b"access-control-expose-headers",
        b"Content-Length, Content-Range, X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, "
        b"X-Stream-Output",
    ),
]
_SMALL = 256 << 10
_mime = mimetypes.MimeTypes()  # its own tables: the same on every machine


@dataclass(frozen=True, slots=True)
class IpfsConfig:
    """`[ipfs]`: what the front end may be told."""

    listing_entries_max: int = 10_000


@dataclass(slots=True)
class Reply:
    """A response before its first byte: status, headers, body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: AsyncGenerator[Buffer, None] | bytes = b""


class IpfsApp:
    """`/ipfs/CID[/path]` over the object service."""

    def __init__(
        self,
        objects: ObjectService,
        catalog: Catalog,
        config: IpfsConfig,
        clock: Clock,
    ) -> None:
        self._config = config
        self._clock = clock
        self._index = BlockIndex(objects, catalog)
        self._walker = Walker(self._index)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        began = self._clock.monotonic()
        headers = {name.lower(): value for name, value in scope["headers"]}
        reply = await self._answer(scope, headers)
        reply.headers["Server-Timing"] = f"total;dur={(self._clock.monotonic() - began) * 1e3:.2f}"
        await _send(reply, scope["method"] == "HEAD", receive, send)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes]) -> Reply:
        if scope["method"] == "OPTIONS":
            return Reply(HTTPStatus.OK)
        if scope["method"] not in {"GET", "HEAD"}:
            reply = _text(HTTPStatus.METHOD_NOT_ALLOWED, "GET, HEAD and OPTIONS are served")
            reply.headers["Allow"] = "GET, HEAD, OPTIONS"
            return reply
        raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
        try:
            request = parse_request(raw_path, scope["query_string"], headers)
            reply = await self._serve(request, headers)
            if scope["method"] == "GET" and not isinstance(reply.body, bytes):
                reply.body = await _begun(reply.body, int(reply.headers.get("Content-Length", -1)))
        except (IpfsError, StoreError, CatalogUnavailable, BlockError) as error:
            reply = _refusal(error, b"only-if-cached" in headers.get(b"cache-control", b""))
        return reply

    async def _serve(self, request: GatewayRequest, headers: dict[bytes, bytes]) -> Reply:
        resolved = self._walker.resolve(request.root, request.path)
        if request.format is Format.RAW:
            reply = await self._raw(request, resolved, headers)
        elif request.format is Format.CAR:
            reply = await self._car(request, resolved, headers)
        elif isinstance(resolved.entity, Folder):
            reply = await self._folder(request, resolved.entity, headers)
        else:
            name = request.path[-1] if request.path else ""
            reply = await self._file(request, resolved.entity, name, headers)
        reply.headers.setdefault("X-Ipfs-Path", request.raw_path)
        reply.headers["X-Ipfs-Roots"] = ",".join(str(cid) for cid in resolved.roots)
        if request.format is not Format.CONTENT:
            reply.headers["X-Content-Type-Options"] = "nosniff"
            reply.headers["Vary"] = "Accept"
            if request.by_accept:
                mark = "&" if request.query else ""
                reply.headers["Content-Location"] = (
                    f"{request.raw_path}?{request.query}{mark}format={request.format.value}"
                )
        return reply

    # ------------------------------------------------------------------ formats
    async def _raw(
        self, request: GatewayRequest, resolved: Resolved, headers: dict[bytes, bytes]
    ) -> Reply:
        cid = resolved.roots[-1]
        block = self._index.block(cid)
        if block is None:
            raise NotFound(f"{cid} is not held by this network")
        out = {
            "Content-Type": "application/vnd.ipld.raw",
            "Content-Disposition": _disposition("attachment", request.filename or f"{cid}.bin"),
        }
        return await self._ranged(block, f'"{cid}.raw"', out, headers)

    async def _car(
        self, request: GatewayRequest, resolved: Resolved, headers: dict[bytes, bytes]
    ) -> Reply:
        cid, options = resolved.roots[-1], request.car
        asked = repr((request.root.raw, request.path, options)).encode("utf-8", "replace")
        tag = f'W/"{cid}.car.{hashlib.sha256(asked).hexdigest()[:16]}"'
        duplicates = "y" if options.duplicates else "n"
        out = {
            "Content-Type": f"application/vnd.ipld.car; version=1; order=dfs; dups={duplicates}",
            "Content-Disposition": _disposition("attachment", request.filename or f"{cid}.car"),
            "Accept-Ranges": "none",
            "Cache-Control": _IMMUTABLE,
            "Etag": tag,
        }
        if etag_matches(headers.get(b"if-none-match", b""), [tag]):
            return Reply(HTTPStatus.NOT_MODIFIED, _revalidated(out))
        body = CarWriter(self._index, self._walker, options).frames(resolved)
        return Reply(HTTPStatus.OK, out, body)

    async def _folder(
        self,
        request: GatewayRequest,
        folder: Folder,
        headers: dict[bytes, bytes],
    ) -> Reply:
        if not request.trailing_slash:
            query = f"?{request.query}" if request.query else ""
            return Reply(HTTPStatus.MOVED_PERMANENTLY, {"Location": f"{request.raw_path}/{query}"})
        try:
            index = self._walker.resolve(folder.cid, ("index.html",)).entity
        except NotFound:
            index = None
        if index is not None and not isinstance(index, Folder):
            return await self._file(request, index, "index.html", headers)
        tag = listing.etag(folder.cid)
        out = {
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": _LISTING,
            "Etag": tag,
        }
        if etag_matches(headers.get(b"if-none-match", b""), [tag, f'"{folder.cid}"']):
            return Reply(HTTPStatus.NOT_MODIFIED, _revalidated(out))
        entries = self._walker.entries(folder)
        limit = self._config.listing_entries_max
        pieces = listing.page(folder.cid, request.root_text, request.path, entries, limit)
        return Reply(HTTPStatus.OK, out, b"".join(pieces))

    async def _file(
        self,
        request: GatewayRequest,
        entity: File | Leaf | Inline | Subtree,
        name: str,
        headers: dict[bytes, bytes],
    ) -> Reply:
        out = {"Content-Type": _content_type(entity, request.filename or name)}
        if request.download:
            out["Content-Disposition"] = _disposition(
                "attachment", request.filename or name or str(entity.cid)
            )
        elif request.filename:
            out["Content-Disposition"] = _disposition("inline", request.filename)
        return await self._ranged(entity, f'"{entity.cid}"', out, headers)

    async def _ranged(
        self,
        entity: File | Leaf | Inline | Subtree,
        tag: str,
        out: dict[str, str],
        headers: dict[bytes, bytes],
    ) -> Reply:
        """200, 206, 304 or 416 for bytes of known length."""
        out |= {"Etag": tag, "Cache-Control": _IMMUTABLE, "Accept-Ranges": "bytes"}
        if etag_matches(headers.get(b"if-none-match", b""), [tag]):
            return Reply(HTTPStatus.NOT_MODIFIED, _revalidated(out))
        size = size_of(entity)
        wanted = headers.get(b"range", b"")
        if headers.get(b"if-range", tag.encode()) != tag.encode():
            wanted = b""
        try:
            part = parse_range(wanted, size) if wanted else None
        except Unsatisfiable:
            reply = _text(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "the range is behind the end")
            reply.headers["Content-Range"] = f"bytes */{size}"
            return reply
        start, end, status = 0, size, HTTPStatus.OK
        if part is not None:
            start, end, status = part.start, part.end, HTTPStatus.PARTIAL_CONTENT
            out["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        out["Content-Length"] = str(end - start)
        return Reply(status, out, content(self._index, entity, start, end))


# ---------------------------------------------------------------------- replies
def _refusal(error: Exception, only_if_cached: bool) -> Reply:
    """The reply to what could not be served."""
    match error:
        case NotFound() if only_if_cached:
            return _text(NotHere.status, str(error))
        case IpfsError():
            return _text(error.status, str(error))
        case StoreError():
            return _text(error.status, error.text, **{"Retry-After": "1"})
        case CatalogUnavailable():
            return _text(
                HTTPStatus.SERVICE_UNAVAILABLE, "the catalog is away", **{"Retry-After": "1"}
            )
        case _:
            log.error("a stored block is damaged: %s", error)
            return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "a stored block is damaged")


def _text(status: HTTPStatus, text: str, **headers: str) -> Reply:
    safe = text.encode("utf-8", "replace") + b"\n"
    return Reply(
        status,
        {
            "Content-Type": "text/plain; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **headers,
        },
        safe,
    )


def _revalidated(headers: dict[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in ("Etag", "Cache-Control") if name in headers}


def _disposition(kind: str, name: str) -> str:
    """RFC 6266: an ASCII name for old clients, the true one beside it."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    return (
        f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    )


def _content_type(entity: File | Leaf | Inline | Subtree, name: str) -> str:
    """By the name's extension, else what the object says of itself."""
    kind, encoding = _mime.guess_type(f"x/{name}")
    if encoding == "gzip":
        kind = "application/gzip"
    if kind is None:
        kind = "application/octet-stream"
        if isinstance(entity, File):
            own = entity.version.attributes.content_type
            if own != "binary/octet-stream" and own.isascii() and own.isprintable():
                kind = own
    if kind.startswith("text/") and "charset" not in kind:
        kind += "; charset=utf-8"
    return kind


async def _begun(
    body: AsyncGenerator[Buffer, None], size: int
) -> AsyncGenerator[Buffer, None] | bytes:
    """The same stream with its first part fetched, so that what fails at once has a status.

    A small body (`size` known) is fetched whole: no task, one message.
    """
    if 0 <= size <= _SMALL:
        async with aclosing(body):
            return b"".join([bytes(part) async for part in body])
    try:
        first = await anext(body)
    except StopAsyncIteration:
        first = b""
    return _chain(first, body)


async def _chain(first: Buffer, rest: AsyncGenerator[Buffer, None]) -> AsyncGenerator[Buffer, None]:
    async with aclosing(rest):
        if first:
            yield first
        async for part in rest:
            yield part


async def _send(reply: Reply, head: bool, receive: Receive, send: Send) -> None:
    if isinstance(reply.body, bytes) and reply.status != HTTPStatus.NOT_MODIFIED:
        reply.headers["Content-Length"] = str(len(reply.body))
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
    await _stream(reply.body, receive, send)


async def _stream(body: AsyncGenerator[Buffer, None], receive: Receive, send: Send) -> None:
    """Send the parts; stop when the client goes; break off when a part cannot be had."""

    async def leave_with_client(sender: asyncio.Task[None]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        sender.cancel()

    async with asyncio.TaskGroup() as group:
        sender = group.create_task(_send_parts(body, send))
        watcher = group.create_task(leave_with_client(sender))
        sender.add_done_callback(lambda _: watcher.cancel())


async def _send_parts(body: AsyncGenerator[Buffer, None], send: Send) -> None:
    try:
        async with aclosing(body):
            async for part in body:
                await send({"type": "http.response.body", "body": part, "more_body": True})
    except (IpfsError, StoreError, CatalogUnavailable, BlockError) as error:
        # Returning without the last chunk makes the server cut the connection.
        log.warning("a response was broken off: %s", error)
        return
    await send({"type": "http.response.body", "body": b""})
