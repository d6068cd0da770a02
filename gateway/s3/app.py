"""The S3 front end as an ASGI application: parse, prove, decide, serve, reply.

Raw ASGI: no framework on the hot path. Every reply has x-amz-request-id, x-amz-id-2, Date and
Server; every error is S3's XML. What is not a StoreError is our bug: it is logged with the request
id and answered 500.
"""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from chain.clock import Clock, Entropy, SystemClock, system_entropy
from chain.net.http import ClientDisconnected
from chain.net.http_exchange import FILL
from chain.net.rpc import current_request
from gateway.access_log import AccessLog
from gateway.catalog.interface import CatalogUnavailable
from gateway.errors import (
    AccessDenied,
    DeleteMarker,
    InvalidRange,
    NoSuchKey,
    NoSuchVersion,
    ServiceUnavailable,
    SlowDown,
    StoreError,
)
from gateway.events.origin import Origin, caused_by
from gateway.iam.face import IamFace, is_query
from gateway.model import Bucket
from gateway.replication.rules import REPLICA
from gateway.s3 import cors, xml
from gateway.s3.access import WITH_ROW, Action
from gateway.s3.access_lines import Served, access_lines
from gateway.s3.acls import GIVEN
from gateway.s3.attributes import REPLICATED, Headers
from gateway.s3.auth import Authenticator, Caller
from gateway.s3.body import RequestBody
from gateway.s3.config import S3Config
from gateway.s3.exchange import XML_TYPE, Exchange, Reply
from gateway.s3.forms import read_form
from gateway.s3.handlers import HANDLERS, Handler
from gateway.s3.operations import (
    CreateBucket,
    DeleteObjects,
    Operation,
    PostObject,
    PutObjectLegalHold,
    PutObjectRetention,
    PutObjectTagging,
    PutSetting,
    name_of,
)
from gateway.s3.pacing import Pace
from gateway.s3.permission import Permission
from gateway.s3.request import (
    Receive,
    Request,
    Send,
    parse_request,
    raw_target,
    with_query_headers,
)
from gateway.s3.router import route
from gateway.s3.sigv4 import EMPTY_SHA256, Credentials, no_sessions
from gateway.s3.sites import serve_site
from gateway.s3.tags import HEADER as TAGGING
from gateway.s3.timestamps import http_date
from gateway.s3.unsupported import check_expected_owner
from gateway.s3.versioning import marker_headers

if TYPE_CHECKING:
    from gateway.bodies import Fill
    from gateway.objects import ObjectService
from gateway.transaction import unavailable

log = logging.getLogger(__name__)
SERVER = b"Cumulus"
# Longer bodies are worth a watch for a client that has gone.
WATCHED_BYTES = 4 << 20
_NO_BODY = (204, 304)
_IDENTIFIER_BYTES, _DRAWN = 8, 64
# Policies may ask for what is in their bodies.
_BY_BODY = DeleteObjects | PutObjectTagging | PutObjectRetention | PutObjectLegalHold


class S3App:
    """An ASGI 3 application.

    `credentials` looks an access key up (in memory: it is called on every signed request).
    `objects` must be open before the first request and is not closed here. `iam` serves IAM and
    STS.
    """

    def __init__(
        self,
        objects: "ObjectService",
        credentials: Credentials,
        config: S3Config | None = None,
        clock: Clock | None = None,
        entropy: Entropy = system_entropy,
        *,
        iam: IamFace | None = None,
        access: AccessLog | None = None,
    ) -> None:
        self._objects = objects
        self._access = access
        self._iam = iam
        self._config = config or S3Config()
        self._clock = clock or SystemClock()
        self._pace = Pace(self._config.workers)
        self._entropy = entropy
        self._identifiers: list[str] = []
        self._authenticator = Authenticator(
            credentials,
            no_sessions if iam is None else iam.sessions.credential,
            region=self._config.region,
            sigv2=self._config.sigv2,
        )

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            raise RuntimeError(f"not an HTTP connection: {scope['type']}")

    # -------------------------------------------------------------- one request
    async def _http(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        identifier = self._identifiers.pop() if self._identifiers else self._draw()
        token = current_request.set(identifier)
        reading = _Tracked(receive, scope)
        try:
            try:
                reply = await self._serve(scope, reading, identifier)
            except Exception as error:  # noqa: BLE001 - the last door: nothing leaves but S3's XML
                reply = self._failure(error, scope, identifier)
            if reading.request is not None and "origin" in reading.request.headers:
                reply.headers = [*reply.headers, *self._cross_origin(reading.request)]
            await self._send(reply, scope, reading, send, identifier)
            if self._access is not None and (reading.bucket is None or reading.bucket.logged):
                self._note_access(reading, reply, identifier)
        finally:
            current_request.reset(token)

    async def _serve(self, scope: Mapping[str, Any], reading: "_Tracked", identifier: str) -> Reply:
        sent = reading.body
        request = parse_request(
            scope, sent.receive, self._config.domains, sent.fill if sent.fills else None
        )
        reading.request = request
        if self._iam is not None and is_query(request):
            return await self._iam.serve(request, identifier)
        reading.began_ns = now_ns = self._clock.now_ns()
        now = now_ns / 1e9
        if request.site:
            return await serve_site(request, self._objects, self._config, now, self._keep_pace)
        caller = reading.caller = self._authenticator.authenticate(request, now)
        if request.query:
            request = with_query_headers(request)
        operation = route(request)
        if isinstance(operation, PostObject):
            request, caller, form = await read_form(request, self._authenticator, now)
            operation = PostObject(request.bucket, request.key, form)
        handler = HANDLERS[type(operation)]
        bucket = None
        if handler.action is not Action.SERVICE:
            bucket = reading.bucket = self._objects.bucket(request.bucket)
            self._keep_pace(bucket)
        permission = reading.permission = Permission(request, caller, self._objects, now)
        _check_access(permission, handler.action, operation, bucket, request)
        if bucket is not None:
            check_expected_owner(request.headers, bucket, "x-amz-expected-bucket-owner")
        body = RequestBody(request, caller)
        _check_empty(request, body)
        exchange = Exchange(
            request, caller, body, self._objects, self._config, bucket, permission, now_ns
        )
        return await _answer(handler, exchange, operation)

    def _draw(self) -> str:
        """A request's id; of the next ones too, as each draw is a system call."""
        drawn = self._entropy(_DRAWN * _IDENTIFIER_BYTES).hex().upper()
        step = 2 * _IDENTIFIER_BYTES
        self._identifiers = [drawn[at : at + step] for at in range(0, len(drawn), step)]
        return self._identifiers.pop()

    def _keep_pace(self, bucket: Bucket) -> None:
        """Count a request against the bucket's limits. Raises SlowDown."""
        if bucket.limited:
            settings = self._objects.settings(bucket)
            self._pace.check(bucket, settings, self._clock.monotonic())

    def _cross_origin(self, request: Request) -> Headers:
        """What the bucket's rules let a page of another origin see of a reply, also of an error."""
        if request.method == "OPTIONS" or not request.bucket:
            return []
        try:
            bucket = self._objects.bucket(request.bucket)
            raw = self._objects.setting(bucket, "cors")
        except (StoreError, CatalogUnavailable):
            return []
        if raw is None:
            return []
        headers = request.headers
        # Some pages say what they ask for with the request itself, and not in a preflight.
        method = headers.get("access-control-request-method", request.method)
        return cors.reply_headers(cors.decode_rules(raw), headers["origin"], method)

    def _note_access(self, reading: "_Tracked", reply: Reply, identifier: str) -> None:
        """A line for the bucket's access log, if it has one."""
        request, bucket, caller = reading.request, reading.bucket, reading.caller
        assert self._access is not None
        if request is None or not request.bucket:
            return
        if bucket is None:  # a website's visitor, or refused before it was looked up
            if reply.status < 400 and not request.site:
                return
            try:
                bucket = self._objects.bucket(request.bucket)
            except (StoreError, CatalogUnavailable):
                return
        if bucket.logged:
            ended_ns = self._clock.now_ns()
            served = Served(
                identifier,
                _host_id(identifier),
                reading.began_ns or ended_ns,
                ended_ns,
                reading.permission is not None and reading.permission.by_list,
            )
            for line in access_lines(request, reply, bucket, _requester(caller), served):
                self._access.note(bucket, served.began_ns, line)

    # -------------------------------------------------------------- errors
    def _failure(self, error: Exception, scope: Mapping[str, Any], identifier: str) -> Reply:
        if isinstance(error, CatalogUnavailable):
            error = unavailable(error)
        if not isinstance(error, StoreError):
            log.error(
                "request %s failed: %s %r", identifier, scope["method"], raw_target(scope)[:256],
                exc_info=error,
            )  # fmt: skip
            error = StoreError()
        headers = [XML_TYPE]
        if isinstance(error, InvalidRange) and "ActualObjectSize" in error.details:
            size = error.details["ActualObjectSize"]
            headers.append((b"content-range", f"bytes */{size}".encode()))
        if isinstance(error, DeleteMarker):
            headers += marker_headers(error)
        if isinstance(error, SlowDown | ServiceUnavailable):
            headers.append((b"retry-after", b"1"))
        resource = raw_target(scope).decode("utf-8", "replace")
        document = xml.error(
            error.code, error.text, error.details,
            resource=resource, request_id=identifier, host_id=_host_id(identifier),
        )  # fmt: skip
        return Reply(int(error.status), headers, document)

    # -------------------------------------------------------------- replies
    async def _send(
        self,
        reply: Reply,
        scope: Mapping[str, Any],
        reading: "_Tracked",
        send: Send,
        identifier: str,
    ) -> None:
        headers = [
            (b"x-amz-request-id", identifier.encode()),
            (b"x-amz-id-2", _host_id(identifier).encode()),
            *reply.headers,
        ]
        if self._config.server_headers:
            headers.append((b"date", http_date(self._clock.now_ns() // 1_000_000_000)))
            headers.append((b"server", SERVER))
        head = scope["method"] == "HEAD"
        if reply.status not in _NO_BODY:
            length = len(reply.body) if reply.length is None else reply.length
            headers.append((b"content-length", b"%d" % length))
        if not reading.body.started and _awaits_continue(scope, reading.request):
            # Whether the body follows is not known: the connection cannot be used again.
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        body = b"" if head or reply.status in _NO_BODY else reply.body
        if reply.stream is None:
            await send({"type": "http.response.body", "body": body})
            return
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await self._stream(reply, reading, send, identifier)

    async def _stream(self, reply: Reply, reading: "_Tracked", send: Send, identifier: str) -> None:
        try:
            if (reply.length or 0) >= WATCHED_BYTES:
                await _send_watched(reply, reading, send)
            else:
                await _send_stream(reply, send)
        except Exception as error:
            if _is_departure(error):
                raise ClientDisconnected from None
            # The status is out: all that is left is to end the connection early, so that the
            # client sees a short body. Leaving without the last message does that.
            log.exception("request %s broke off while sending", identifier)


class _Body:
    """The request's body, and whether it was asked for."""

    __slots__ = ("_receive", "fills", "started")

    def __init__(self, receive: Receive, scope: Mapping[str, Any]) -> None:
        self._receive = receive
        # The server can read the body to where it belongs.
        self.fills: Fill | None = scope.get("extensions", {}).get(FILL)
        self.started = False

    async def receive(self) -> Any:
        self.started = True
        return await self._receive()

    async def fill(self, place: memoryview) -> int:
        assert self.fills is not None
        self.started = True
        return await self.fills(place)


class _Tracked:
    """Remembers what is known of the request.

    `request` holds `body.receive`, and nothing of `body` leads back here: a cycle would keep each
    request with all that it made until the collector comes, out of the processor's caches.
    """

    __slots__ = ("began_ns", "body", "bucket", "caller", "permission", "request")

    def __init__(self, receive: Receive, scope: Mapping[str, Any]) -> None:
        self.body = _Body(receive, scope)
        self.request: Request | None = None
        self.began_ns = 0
        self.caller: Caller | None = None
        self.bucket: Bucket | None = None
        self.permission: Permission | None = None


async def _answer(handler: Handler, exchange: Exchange, operation: Operation) -> Reply:
    """The handler's reply; a missing key is only told to who may know."""
    bucket, permission = exchange.found, exchange.permission
    serving = handler.serve(exchange, operation)
    if bucket is not None and (bucket.watched or isinstance(operation, PutSetting)):
        serving = caused_by(_origin(exchange, operation), serving)
    try:
        reply = await serving
    except (NoSuchKey, NoSuchVersion):
        if bucket is not None:
            permission.hide_missing(bucket, exchange.request.key)
        raise
    if not permission.judged:
        raise RuntimeError(f"{name_of(operation)} was served without asking whether it may be")
    if permission.charged:
        reply.headers.append((b"x-amz-request-charged", b"requester"))
    return reply


def _check_access(
    permission: Permission,
    action: Action,
    operation: Operation,
    bucket: Bucket | None,
    request: Request,
) -> None:
    """Raises AccessDenied. What needs the object's row or the body is asked by its handler."""
    if action in WITH_ROW:
        return
    if not permission.asks_policies(bucket):
        permission.check(action, bucket, "")
        return
    if isinstance(operation, _BY_BODY):
        return
    version_id = getattr(operation, "version_id", None)
    permission.check(action, bucket, name_of(operation), request.key, version_id)
    listed = any(name in request.headers for name in GIVEN)
    if isinstance(operation, CreateBucket) and listed:
        permission.check(action, bucket, "PutBucketAcl")
    if not request.key:
        return
    if TAGGING in request.headers:
        permission.check(action, bucket, "PutObjectTagging", request.key)
    if action is Action.WRITE and listed:
        # An account that may put may give the list, unless a statement denies it; who acts for it
        # needs the right.
        given = permission.decide(action, bucket, "PutObjectAcl", request.key)
        if given.explicit or (permission.is_identity and not given.allowed):
            raise AccessDenied


def _origin(exchange: Exchange, operation: Operation) -> Origin:
    """Whom events of the request's changes name."""
    identifier, caller = current_request.get(), exchange.caller
    account = caller.account.id if caller.account else ""
    return Origin(
        # (a form is asked for as PutObject, and has an event of its own)
        "PostObject" if isinstance(operation, PostObject) else name_of(operation),
        f"AWS:{caller.identity.id}" if caller.identity else account,
        exchange.request.client,
        identifier,
        _host_id(identifier),
        replica=exchange.request.headers.get(REPLICATED) == REPLICA,
    )


def _requester(caller: Caller | None) -> str:
    """Whom an access log names."""
    if caller is None or caller.account is None:
        return ""
    return caller.identity.arn if caller.identity else caller.account.id


def _is_departure(error: Exception) -> bool:
    """Whether the client went away and nothing else happened."""
    if isinstance(error, ExceptionGroup):
        return all(_is_departure(one) for one in error.exceptions)
    return isinstance(error, ClientDisconnected)


async def _send_stream(reply: Reply, send: Send) -> None:
    assert reply.stream is not None
    async with aclosing(reply.stream):
        async for piece in reply.stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send_watched(reply: Reply, reading: _Tracked, send: Send) -> None:
    """Send, and stop reading from the miners when the client has gone."""
    gone = asyncio.Event()

    async def watch() -> None:
        while (await reading.body.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    assert reply.stream is not None
    async with aclosing(reply.stream), asyncio.TaskGroup() as group:
        watcher = group.create_task(watch())
        async for piece in reply.stream:
            if gone.is_set():
                break
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        else:
            await send({"type": "http.response.body", "body": b""})
        watcher.cancel()


def _awaits_continue(scope: Mapping[str, Any], request: Request | None) -> bool:
    if request is not None:
        return "expect" in request.headers
    return b"expect" in dict(scope["headers"])


def _host_id(identifier: str) -> str:
    return b64encode(identifier.encode()).decode()


def _check_empty(request: Request, body: RequestBody) -> None:
    """A signed payload hash of a request without a body must be that of nothing."""
    if request.method in ("GET", "HEAD", "DELETE") and body.sha256 not in (None, EMPTY_SHA256):
        nothing = request.headers.get("content-length", "0") == "0" and not body.chunked_transfer
        if nothing:
            body.check_hash(b"")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
