"""The IPFS gateway as a raw ASGI 3 application.

A request goes: host → content path (NameSystem.route) → parsed (request.py) → name resolved → path
walked (walk.py) → answered in its format (respond/) → sent (sending.py).

Rules: own content in the open (docs/specs/unixfs-index.md), and of others only what an operator
lets be fetched; headers are known before the first byte is sent; what breaks later ends the
connection, never a short 200.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlencode

from chain.cids import Cid, InvalidCid
from chain.clock import Clock
from gateway.catalog.interface import Catalog, CatalogUnavailable
from gateway.errors import StoreError
from gateway.ipfs.errors import BadRequest, BlockError, Busy, IpfsError, NotFound, TakesTooLong
from gateway.ipfs.foreign.blocks import ForeignBlocks
from gateway.ipfs.foreign.trustless import VIA
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.deny_files import DenyFiles
from gateway.ipfs.index.reader import BlockReader
from gateway.ipfs.index.recent import RecentLeaves
from gateway.ipfs.web import sniff
from gateway.ipfs.web.admission import Admission
from gateway.ipfs.web.formats import Format
from gateway.ipfs.web.replies import Reply, for_browser, refusal, text, told_of, with_charset
from gateway.ipfs.web.request import (
    ContentPath,
    GatewayRequest,
    Target,
    corrected,
    parse_path,
    parse_request,
)
from gateway.ipfs.web.respond.table import respond
from gateway.ipfs.web.sending import Receive, Scope, Send, begun, send_reply
from gateway.ipfs.web.serving import IpfsConfig, NameSystem, NoNames, Rewrite, Serving
from gateway.ipfs.web.walk import Walker
from gateway.objects import ObjectService


class IpfsApp:
    """`/ipfs/CID[/path]` and `/ipns/NAME[/path]` over the object service."""

    def __init__(
        self,
        objects: ObjectService,
        catalog: Catalog,
        config: IpfsConfig,
        clock: Clock,
        names: NameSystem | None = None,
        deny: DenyFiles | None = None,
        *,
        foreign: ForeignBlocks | None = None,
    ) -> None:
        self._clock = clock
        self._names = names or NoNames()
        self._config = config
        self._index = BlockIndex(objects, catalog, deny)
        self._foreign = foreign
        self._recent = RecentLeaves()
        self._admission = Admission(config.requests_max, config.client_requests_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        began = self._clock.monotonic()
        is_head = scope["method"] == "HEAD"
        client = scope.get("client") or ("",)
        try:
            with self._admission.request(client[0]):
                headers = {name.lower(): value for name, value in scope["headers"]}
                reply = await self._in_time(scope, headers)
                if reply.sentence and b"text/html" in headers.get(b"accept", b""):
                    for_browser(reply)
                took = (self._clock.monotonic() - began) * 1e3
                reply.headers["Server-Timing"] = f"total;dur={took:.2f}"
                await send_reply(reply, is_head, receive, send, self._config.timeout)
        except Busy as error:
            reply = refusal(error, only_if_cached=False)
            await send_reply(reply, is_head, receive, send, self._config.timeout)

    async def _in_time(self, scope: Scope, headers: dict[bytes, bytes]) -> Reply:
        try:
            async with asyncio.timeout(self._config.timeout):
                return await self._answer(scope, headers)
        except TimeoutError:
            return refusal(TakesTooLong("the content was not had in time"), only_if_cached=False)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes]) -> Reply:
        method = scope["method"]
        if method == "OPTIONS":
            return Reply(HTTPStatus.OK, {"Allow": "GET, HEAD, OPTIONS"})
        if method not in {"GET", "HEAD"}:
            sentence = "GET, HEAD and OPTIONS are served"
            return text(HTTPStatus.METHOD_NOT_ALLOWED, sentence, **{"Allow": "GET, HEAD, OPTIONS"})
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        told: dict[str, str] = {}
        try:
            target = await self._names.route(
                Target(path, scope["query_string"], path), scope, headers
            )
            if isinstance(target, Reply):
                return target
            if (location := corrected(target)) is not None:
                return Reply(HTTPStatus.MOVED_PERMANENTLY, {"Location": location})
            content = parse_path(target)
            told = told_of(content)
            request = parse_request(target, content, headers, is_head=method == "HEAD")
            reply = await self._serve(request)
            if method == "GET" and not isinstance(reply.body, bytes):
                await _begin(reply)
        except (IpfsError, StoreError, CatalogUnavailable, BlockError) as error:
            reply = refusal(error, _only_if_cached(headers))
        reply.headers |= told
        return reply

    async def _serve(self, request: GatewayRequest) -> Reply:
        """Raises IpfsError, StoreError, CatalogUnavailable, BlockError."""
        if request.format is Format.IPNS_RECORD:
            if request.root is not None:
                raise BadRequest("only /ipns/ names have an ipns-record")
            reply = await self._names.record(request)
        else:
            reply = await self._resolved(request)
        if request.format is not Format.CONTENT:
            reply.headers["X-Content-Type-Options"] = "nosniff"
            reply.headers["Vary"] = "Accept"
            if request.by_accept:
                reply.headers["Content-Location"] = _location(request)
        return reply

    async def _resolved(self, request: GatewayRequest) -> Reply:
        # What another gateway like this one asks for is not asked of a third: nobody asks in rings.
        here = _only_if_cached(request.headers) or VIA in request.headers.get(b"via", b"")
        foreign = None if here else self._foreign
        reader = BlockReader(self._index, self._clock, self._config.walk_blocks_max, foreign)
        serving = Serving(Walker(reader), self._config, self._recent)
        path = request.content
        if request.root is None:
            deny = self._index.deny
            if deny is not None:
                deny.check_name(path.root, path.segments)
            named = await self._names.resolve(path)
            path, request = named.path, replace(request, ttl=named.ttl)
        try:
            return await self._walked(serving, request, path)
        except NotFound:
            if not request.target.isolated or request.format is not Format.CONTENT:
                raise
            answer = await self._names.missing(serving, request, path)
            if answer is None:
                raise
        if isinstance(answer, Rewrite):
            return await self._rewritten(serving, request, answer)
        return answer

    async def _walked(self, serving: Serving, request: GatewayRequest, path: ContentPath) -> Reply:
        root = request.root if path is request.content else None
        resolved = await serving.walker.resolve(root or _root(path), path.segments)
        reply = await respond(serving, request, resolved)
        reply.headers["X-Ipfs-Roots"] = ",".join(map(str, resolved.roots))
        return reply

    async def _rewritten(self, serving: Serving, request: GatewayRequest, to: Rewrite) -> Reply:
        """Another page in place of one that is not there, with its own status."""
        if to.status != HTTPStatus.OK:
            dropped = (b"range", b"if-none-match", b"if-range")
            kept = {n: v for n, v in request.headers.items() if n not in dropped}
            request = replace(request, headers=kept)
        reply = await self._walked(serving, replace(request, content=to.path), to.path)
        if to.status != HTTPStatus.OK:
            reply.status = to.status
        return reply


def _only_if_cached(headers: Mapping[bytes, bytes]) -> bool:
    return b"only-if-cached" in headers.get(b"cache-control", b"")


def _root(path: ContentPath) -> Cid:
    try:
        return Cid.parse(path.root)
    except InvalidCid as error:
        raise BadRequest(f"invalid path: {error}") from None


async def _begin(reply: Reply) -> None:
    """Fetch the first bytes of the body; they say what it is, if nothing else did."""
    assert not isinstance(reply.body, bytes)
    reply.body, first = await begun(reply.body, int(reply.headers.get("Content-Length", -1)))
    if "Content-Type" not in reply.headers:
        kind = sniff.media_type(bytes(memoryview(first)[: sniff.BYTES]))
        reply.headers["Content-Type"] = with_charset(kind)


def _location(request: GatewayRequest) -> str:
    """Where the same bytes are without an Accept header."""
    name = request.format.value
    pairs = parse_qsl(request.query, keep_blank_values=True)
    pairs.append(("format", name))
    given = {key for key, _ in pairs}
    for key, value in request.parameters.items():
        if f"{name}-{key}" not in given:
            pairs.append((f"{name}-{key}", value))
    end = "/" if request.content.trailing_slash else ""
    return f"{request.url_path}{end}?{urlencode(pairs)}"
