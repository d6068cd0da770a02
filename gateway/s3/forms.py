"""POST of a browser's form: read as the PUT that it describes.

The fields before the file become a request's headers and key, and prove who asks; the file is its
body, which goes on being read while it is stored. Fields behind the file are ignored.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html and RFC 7578.
"""

from collections import deque
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from chain.net.transport import Buffer
from gateway.errors import (
    EntityTooLarge,
    EntityTooSmall,
    IncompleteBody,
    InvalidArgument,
    KeyTooLong,
)
from gateway.model import Digests, Verifier
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.addressing import KEY_BYTES_MAX
from gateway.s3.auth import Authenticator, Caller
from gateway.s3.body import PUT_MAX
from gateway.s3.errors import MalformedPOSTRequest, MaxPostPreDataLengthExceeded
from gateway.s3.exchange import XML_TYPE, Exchange, Reply
from gateway.s3.post_policy import PostPolicy, check_post_policy, parse_post_policy
from gateway.s3.request import Message, Receive, Request
from gateway.s3.sigv4 import require_fields
from gateway.s3.tags import OBJECT_TAGS_MAX, parse_tags
from gateway.s3.writing import store_upload

# All that comes before the file, as on AWS.
FIELDS_MAX = 20_000
_CONTENT = frozenset({
    "cache-control", "content-type", "content-disposition", "content-encoding", "content-language",
    "content-md5", "expires",
})  # fmt: skip
# Of the POST itself; all else that it says is about the form and not about the object.
_KEPT = ("host", "origin", "user-agent", "referer", "expect")
# They prove who asks, and are no headers of the PUT.
_PROOF = frozenset({
    "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token",
})  # fmt: skip
_NO_POLICY = PostPolicy(0.0, ())


# ------------------------------------------------------------------ the form itself
class FormBody:
    """A form on its way in: first `fields`, then the file by `receive`, as an ASGI body."""

    def __init__(self, receive: Receive, content_type: str) -> None:
        """Raises MalformedPOSTRequest for a form without a usable boundary."""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not 1 <= len(boundary) <= 256:
            raise MalformedPOSTRequest("The boundary of the form is missing or too long.")
        self._receive = receive
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        )
        self._fields: list[tuple[str, bytes]] = []
        self._seen = 0  # bytes of the message, but the file's
        self._more = True
        self._name = self._filename = ""
        self._header, self._disposition = bytearray(), bytearray()
        self._value = bytearray()
        self._file: deque[bytes] = deque()
        self._in_file = self._had_file = False

    async def fields(self) -> tuple[dict[str, bytes], str]:
        """The fields before the file by lower-case name, and the file's name.

        Raises MalformedPOSTRequest, MaxPostPreDataLengthExceeded, InvalidArgument without a file.
        """
        while not self._had_file:
            if not self._more:
                raise InvalidArgument(
                    "POST requires exactly one file upload per request.",
                    ArgumentName="file",
                    ArgumentValue="0",
                )
            await self._read()
        found: dict[str, bytes] = {}
        for name, value in self._fields:
            if name in found:
                raise InvalidArgument(
                    "POST must not contain a field twice.", ArgumentName=name, ArgumentValue=""
                )
            found[name] = value
        return found, self._filename

    async def receive(self) -> Message:
        """The file's bytes. Raises MalformedPOSTRequest, IncompleteBody."""
        while not self._file:
            if not self._more:
                return {"type": "http.request", "body": b"", "more_body": False}
            await self._read()
        return {"type": "http.request", "body": self._file.popleft(), "more_body": True}

    async def _read(self) -> None:
        message = await self._receive()
        if message["type"] != "http.request":
            raise IncompleteBody
        data = bytes(message.get("body", b""))
        self._more = message.get("more_body", False)
        self._seen += len(data)
        try:
            self._parser.write(data)
            if not self._more:
                self._parser.finalize()
        except FormParserError:
            raise MalformedPOSTRequest from None
        if not self._more and (self._in_file or self._name):
            raise MalformedPOSTRequest
        if self._seen > FIELDS_MAX:
            raise MaxPostPreDataLengthExceeded

    # What the parser tells.
    def _begin(self) -> None:
        self._header, self._disposition, self._value = bytearray(), bytearray(), bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition += data[start:end]

    def _header_end(self) -> None:
        self._header = bytearray()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(bytes(self._disposition))
        self._name = options.get(b"name", b"").decode("utf-8", "replace").lower()
        if not self._name:
            raise MalformedPOSTRequest
        if self._name == "file" and not self._had_file:
            self._filename = options.get(b"filename", b"").decode("utf-8", "replace")
            self._in_file = self._had_file = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._file.append(data[start:end])
            self._seen -= end - start
        elif not self._had_file:
            self._value += data[start:end]

    def _end(self) -> None:
        if not self._had_file:
            self._fields.append((self._name, bytes(self._value)))
        self._in_file, self._name = False, ""


# ------------------------------------------------------------------ the PUT that it describes
class Form(msgspec.Struct, frozen=True):
    """What a form says beside the object: how large it may be, and what to answer."""

    least: int
    most: int
    status: str = ""
    redirect: str = ""


async def read_form(
    request: Request, authenticator: Authenticator, now: float
) -> tuple[Request, Caller, Form]:
    """The PUT, who asks for it, and the rest. The file is still to be read.

    Raises what FormBody does, AuthError, InvalidPolicyDocument, PolicyViolated, InvalidArgument,
    KeyTooLong.
    """
    body = FormBody(request.receive, request.headers["content-type"])
    raw, filename = await body.fields()
    filename = filename.replace("\\", "/").rpartition("/")[2]
    fields = {
        name: _text(name, value).replace("${filename}", filename) for name, value in raw.items()
    }
    caller = authenticator.authenticate_form(fields, now)
    policy = _NO_POLICY
    if "policy" in fields:
        policy = parse_post_policy(fields["policy"])
        check_post_policy(policy, fields | {"bucket": request.bucket}, now)
    require_fields(fields, "key")
    key = fields["key"]
    if len(key.encode()) > KEY_BYTES_MAX:
        raise KeyTooLong(Size=str(len(key.encode())), MaxSizeAllowed=str(KEY_BYTES_MAX))
    described = msgspec.structs.replace(
        request,
        key=key,
        headers=_headers(request, fields),
        receive=body.receive,
        fill=None,
    )
    form = Form(
        policy.least,
        min(policy.most, PUT_MAX),
        fields.get("success_action_status", ""),
        fields.get("success_action_redirect") or fields.get("redirect", ""),
    )
    return described, caller, form


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(
            "A field of the form is not UTF-8.", ArgumentName=name, ArgumentValue=""
        ) from None


def _headers(request: Request, fields: Mapping[str, str]) -> dict[str, str]:
    """Headers, Latin-1 images of UTF-8 like those of any request."""
    headers = {name: request.headers[name] for name in _KEPT if name in request.headers}
    for name, value in fields.items():
        if name in _CONTENT or (name.startswith("x-amz-") and name not in _PROOF):
            headers[name] = value.strip().encode().decode("latin-1")
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    if "tagging" in fields:
        tags = parse_tags(fields["tagging"].encode(), most=OBJECT_TAGS_MAX)
        headers["x-amz-tagging"] = urlencode(tags)
    return headers


# ------------------------------------------------------------------ serving it
async def post_object(exchange: Exchange, operation: ops.PostObject) -> Reply:
    """Store the file; answer as the form asks."""
    form: Form = operation.form
    bounded = _Bounded(exchange.body, form)
    version, headers = await store_upload(exchange, operation.key, bounded, None, bounded.judging)
    target = f"/{operation.bucket}/{xml.url_encode(operation.key)}"
    location = f"{'https' if exchange.request.secure else 'http'}://" + (
        exchange.request.headers.get("host", "") + target
    )
    headers.append((b"location", location.encode("latin-1", "replace")))
    redirect = _redirect(form.redirect, operation, version.etag)
    if redirect:
        headers[-1] = (b"location", redirect.encode())
        return Reply(303, headers)
    if form.status == "201":
        row = (
            f"<Location>{xml.escape(location)}</Location><Bucket>{operation.bucket}</Bucket>"
            f"<Key>{xml.escape(operation.key)}</Key><ETag>&quot;{version.etag}&quot;</ETag>"
        )
        document = f"{xml.DECLARATION}<PostResponse>{row}</PostResponse>"
        return Reply(201, [XML_TYPE, *headers], document.encode())
    return Reply(200 if form.status == "200" else 204, headers)


def _redirect(url: str, operation: ops.PostObject, etag: str) -> str:
    """The page to go on to, with what was stored in its query; "" for what is no http URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.netloc or not url.isprintable():
        return ""
    stored = urlencode({"bucket": operation.bucket, "key": operation.key, "etag": f'"{etag}"'})
    query = f"{parts.query}&{stored}" if parts.query else stored
    return urlunsplit(parts._replace(query=query)).encode("ascii", "xmlcharrefreplace").decode()


class _Bounded:
    """A file within the policy's bounds."""

    def __init__(self, body: AsyncIterator[Buffer], form: Form) -> None:
        self._body = body
        self._form = form
        self._size = 0

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self

    async def __anext__(self) -> Buffer:
        """Raises EntityTooLarge as soon as it is."""
        piece = await anext(self._body)
        self._size += len(piece)
        if self._size > self._form.most:
            raise EntityTooLarge(ProposedSize=str(self._size), MaxSizeAllowed=str(self._form.most))
        return piece

    def judging(self, verify: Verifier) -> Verifier:
        """`verify`, and that it is not too small."""

        def judge(digests: Digests) -> None:
            if digests.size < self._form.least:
                raise EntityTooSmall(
                    ProposedSize=str(digests.size), MinSizeAllowed=str(self._form.least)
                )
            verify(digests)

        return judge
